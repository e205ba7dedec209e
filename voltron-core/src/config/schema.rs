//! The schema: every section and key with its type, unit, default, range and help, said once. [`Config`] and its
//! sections, their defaults, the reader and the documentation are made from the one table below.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use super::read::Reader;
use super::value::{DefaultPolicy, Isolation, LogFormat, LogLevel, PolicyMode, Signatures, Value};

/// Bounds of a number, both included.
pub type Range64 = RangeInclusive<u64>;

/// A section as data.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name in brackets.
    pub name: &'static str,
    /// What it is for.
    pub help: String,
    /// Its keys, in the order of the documentation.
    pub keys: Vec<Key>,
}

/// A key as data.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its type, for people.
    pub kind: String,
    /// Unit of its value; empty if it has none.
    pub unit: &'static str,
    /// Bounds, both included; `None` if any value of the type is good.
    pub range: Option<Range64>,
    /// Its default as TOML; `None` if unset.
    pub default: Option<String>,
    /// Set if the file must write the key although a default exists: what to write, and why.
    pub required: Option<&'static str>,
    /// Set if nothing in this build reads the key: what is missing. A file may write its default alone.
    pub unread: Option<&'static str>,
    /// What it does, as full sentences.
    pub help: String,
}

fn sentence(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

macro_rules! option {
    () => {
        None
    };
    ($some:expr) => {
        Some($some)
    };
}

macro_rules! schema {
    ($(
        $(#[doc = $sdoc:literal])+
        $section:ident: $struct:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $ty:ty = $default:expr, $unit:literal $(, $range:expr)? $(; required: $required:literal)?
                    $(; unread: $unread:literal)?;
            )+
        }
    )+) => {
        /// The whole configuration. [`Config::parse`] is the way in; [`Config::default`] is for tests and simulations,
        /// which set what they need.
        #[derive(Clone, Debug, PartialEq, Default)]
        pub struct Config {
            $($(#[doc = $sdoc])+ pub $section: $struct,)+
        }
        $(
            $(#[doc = $sdoc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $struct {
                $(
                    $(#[doc = $doc])+
                    ///
                    #[doc = concat!("Default: `", stringify!($default), "`", $(" (", stringify!($range), ")",)? " ", $unit)]
                    pub $key: $ty,
                )+
            }

            impl Default for $struct {
                fn default() -> Self {
                    Self { $($key: $default,)+ }
                }
            }
        )+

        /// Every section with its keys, in the order of the documentation.
        pub fn sections() -> &'static [Section] {
            static SECTIONS: OnceLock<Vec<Section>> = OnceLock::new();
            SECTIONS.get_or_init(|| {
                vec![$(Section {
                    name: stringify!($section),
                    help: sentence(&[$($sdoc),+]),
                    keys: vec![$(Key {
                        name: stringify!($key),
                        kind: <$ty as Value>::kind(),
                        unit: $unit,
                        range: option!($($range)?),
                        default: { let default: $ty = $default; default.toml() },
                        required: option!($($required)?),
                        unread: option!($($unread)?),
                        help: sentence(&[$($doc),+]),
                    },)+],
                },)+]
            })
        }

        /// Reads one section into its place.
        pub(super) fn read_section(config: &mut Config, mut reader: Reader<'_, '_, '_>) {
            let known = sections().iter().find(|section| section.name == reader.section);
            let Some(known) = known else { return };
            $(if reader.section == stringify!($section) {
                $({
                    let range: Option<Range64> = option!($($range)?);
                    let unread: Option<&'static str> = option!($($unread)?);
                    reader.key(stringify!($key), range.as_ref(), unread, &mut config.$section.$key);
                })+
            })+
            reader.finish(&known.keys);
        }

        /// Calls `each` with every section, key, and the value as TOML and as an Erlang term.
        pub(super) fn walk(config: &Config, mut each: impl FnMut(&'static str, &'static str, Option<String>, String)) {
            $($(each(
                stringify!($section),
                stringify!($key),
                config.$section.$key.toml(),
                config.$section.$key.erlang(),
            );)+)+
        }
    };
}

schema! {
    /// The WebSocket listener that clients connect to.
    server: Server {
        /// Address to listen on.
        host: String = "0.0.0.0".to_owned(), "";
        /// TCP port; 0 lets the system choose one.
        port: u16 = 4000, "";
        /// Accept the JSON text dialect beside the binary frames. For development and debugging.
        text_dialect: bool = false, "";
        /// Values of the `Origin` header that may connect, e.g. `https://app.example`; `*` allows any. A client that
        /// sends no `Origin` (no browser) is always allowed, so an empty list keeps browsers out.
        origins: Vec<String> = Vec::new(), "";
        /// Accept the token in `?token=`. It lands in access logs of proxies; prefer the header or the subprotocol.
        query_token: bool = false, "";
    }
    /// The HTTP listener for `/healthz`, `/readyz` and `/metrics`. Not for the public.
    http: Http {
        /// Address to listen on.
        host: String = "127.0.0.1".to_owned(), "";
        /// TCP port; 0 lets the system choose one.
        port: u16 = 4001, "";
    }
    /// The Spine: NATS with JetStream.
    nats: Nats {
        /// Servers of one cluster, `nats://host:port`. Each process begins at a place that its node's name draws, so that
        /// the first server does not carry everything, and goes on in this order.
        urls: Vec<String> = vec!["nats://127.0.0.1:4222".to_owned()], "";
        /// The Shield's NATS user, in the account `APP` of ops/nats/users.conf. The Brain's two users stand in `[brain]`.
        /// Without users, the broker has one account.
        user: Option<String> = None, "";
        /// File with that user's password; surrounding white space is ignored.
        password_file: Option<String> = None, "";
        /// Require TLS. `tls://` URLs require it, too.
        tls: bool = false, "";
        /// The longest wait for a message to be queued, and for the PubAck of a stored one.
        publish_timeout_ms: u64 = 2000, "ms", 10..=60_000;
        /// How often the broker is pinged; two unanswered pings end the connection.
        ping_interval_ms: u64 = 2000, "ms", 100..=120_000;
        /// Copies of each stream: 1 for a single server, 3 or 5 in a cluster.
        replicas: u32 = 1, "", 1..=5;
        /// How many log streams there are (`LOG_0` and up). Never change it while the streams hold data: 1 in
        /// development, 8 in production.
        logs: u32 = 1, "", 1..=256;
        /// Size of each log stream; a full one refuses commands with code 6003.
        log_max_bytes: u64 = 1 << 30, "bytes", (1 << 20)..=(1 << 44);
    }
    /// The Overseer, which judges every message before it reaches the Spine.
    policy: Policy {
        /// The policy of tenants that have none of their own. `none` lets every message pass and must be written out.
        default: DefaultPolicy = DefaultPolicy::None, "";
            required: "write default = \"none\" to let every message pass; this build has no policy host, and that must be \
                       somebody's decision";
        /// The longest that one verdict may take on the wall clock; the backstop behind `fuel`.
        timeout_ms: u64 = 5, "ms", 1..=1000
            ; unread: "this build has no policy host";
        /// Deny what the policy could not judge; `false` lets it pass.
        fail_closed: bool = true, ""
            ; unread: "this build has no policy host";
        /// Instructions that one verdict may use; about 4 million a millisecond.
        fuel: u64 = 4_000_000, "instructions", 1_000..=20_000_000
            ; unread: "this build has no policy host";
        /// Folder of the tenants' policies.
        dir: Option<String> = None, ""
            ; unread: "this build has no policy host";
        /// How instances are shared: one a worker, tenant and version, or a fresh one for every message.
        isolation: Isolation = Isolation::Reuse, ""
            ; unread: "this build has no policy host";
        /// Whether verdicts decide or are only counted.
        mode: PolicyMode = PolicyMode::Enforce, ""
            ; unread: "this build has no policy host";
        /// Let a policy redact signed messages, which empties their signature.
        redact_signed: bool = true, ""
            ; unread: "this build has no policy host";
    }
    /// Tokens and signatures.
    auth: Auth {
        /// Whether a token must name a signing key (`cnf`). A token that names one always signs.
        signatures: Signatures = Signatures::Optional, "";
        /// The audience that a token's `aud` must hold.
        audience: String = "arqon".to_owned(), "";
        /// The issuer that a token's `iss` must equal; left out, any is accepted.
        issuer: Option<String> = None, "";
        /// File with the public keys of the issuer, a JWK set.
        jwks_file: Option<String> = None, "";
        /// File with an HS256 secret of at least 32 bytes: any bytes, or a text whose surrounding white space is ignored.
        /// For development.
        hs256_secret_file: Option<String> = None, "";
        /// How long a connection lives on after its token expired.
        grace_s: u64 = 25, "s", 0..=3600;
        /// Verify signatures a second time at the Brain, so that a captured Shield cannot forge signing users.
        verify_at_brain: bool = false, ""
            ; unread: "the Brain verifies no signatures yet";
    }
    /// Times of the Shield.
    shield: Shield {
        /// How often the Shield says that it lives.
        heartbeat_ms: u64 = 3000, "ms", 50..=60_000;
        /// The longest wait for the Brain's answer to a command; then the client gets 6001 `outcome_unknown`.
        answer_timeout_ms: u64 = 2000, "ms", 50..=60_000;
        /// After this long without its own heartbeat back the Shield answers 6000 and sends 6004 `stale`.
        stale_ms: u64 = 9000, "ms", 150..=600_000;
        /// After this long as stale the Shield closes its connections with 4104.
        stale_close_ms: u64 = 20_000, "ms", 100..=600_000;
        /// The longest from the accepted socket to the accepted token.
        handshake_ms: u64 = 10_000, "ms", 100..=120_000;
        /// How often an idle connection is pinged; the first ping comes at a random part of it.
        ping_ms: u64 = 25_000, "ms", 100..=600_000;
        /// The longest wait for the pong, from the moment when the ping is written.
        pong_ms: u64 = 10_000, "ms", 100..=600_000;
        /// The longest that a connection may take no byte that waits for it. A reader that stops is closed with 4102, a
        /// peer that is gone with 4201.
        stall_ms: u64 = 30_000, "ms", 100..=600_000;
        /// How long a room's Spine subscription outlives its last subscriber.
        linger_ms: u64 = 10_000, "ms", 0..=600_000;
        /// Commands that may wait for their answer at a time; one more is answered 4501 `busy`.
        reply_slots: u32 = 4096, "", 8..=4096;
        /// Questions of the Shield's own (SUB, get, open) that may wait for their answer at a time.
        questions: u32 = 4096, "", 8..=65_536;
        /// Rooms that the Shield follows at a time, those that linger included; a SUB of one more is answered 4501 `busy`.
        rooms: u32 = 65_536, "", 1..=1_000_000;
        /// How many of these may be one tenant's; a SUB of one more is answered 4501 `busy`, and other tenants' are not.
        tenant_rooms: u32 = 16_384, "", 1..=1_000_000;
    }
    /// What one client may use.
    limits: Limits {
        /// The largest protocol message from a client.
        message_bytes: u32 = 64 << 10, "bytes", 1_024..=(256 << 10);
        /// Rooms that one connection may be subscribed to.
        rooms: u32 = 128, "", 1..=10_000;
        /// PUBs that one connection may send, sustained.
        pub_per_s: u32 = 50, "1/s", 1..=1_000_000;
        /// PUBs that one connection may send at once.
        pub_burst: u32 = 100, "", 1..=1_000_000;
        /// Connections that one Shield accepts.
        accept_per_s: u32 = 1000, "1/s", 1..=1_000_000;
        /// Bytes that may wait for one slow reader; then it is closed with 4102.
        queue_bytes: u32 = 1 << 20, "bytes", (128 << 10)..=(64 << 20);
        /// Messages that may wait for one slow reader; then it is closed with 4102.
        queue_messages: u32 = 4096, "", 16..=1_000_000;
    }
    /// Graceful stop (SIGTERM).
    drain: Drain {
        /// Clients are told to come back at a time spread over this long.
        spread_s: u64 = 30, "s", 0..=600;
        /// The process ends after at most this long.
        exit_s: u64 = 45, "s", 1..=900;
    }
    /// Rooms and presence.
    brain: Brain {
        /// TCP port of the Brain's `/metrics` on `[http] host`; 0 lets the system choose one.
        metrics_port: u16 = 4002, "";
        /// NATS user that writes logs and snapshots.
        writer_user: Option<String> = None, "";
        /// File with the writer's password; surrounding white space is ignored.
        writer_password_file: Option<String> = None, "";
        /// NATS user that reads commands and answers them.
        speaker_user: Option<String> = None, "";
        /// File with the speaker's password; surrounding white space is ignored.
        speaker_password_file: Option<String> = None, "";
        /// A room without member and command for this long becomes dormant.
        room_idle_s: u64 = 60, "s", 1..=86_400;
        /// Rooms that one Brain serves at a time. An open of one more is answered 6000 `unavailable`, and the Shield asks
        /// again. A room takes at least 20 KiB and at most 1.75 MiB, so that a full Brain takes up to 112 GiB: set this by
        /// the machine's memory.
        rooms: u32 = 65_536, "", 1..=1_000_000;
        /// How many of these may be one tenant's; an open of one more is answered in the same way, and other tenants' are
        /// not.
        tenant_rooms: u32 = 16_384, "", 1..=1_000_000;
        /// A room is deleted this long after its last activity.
        room_delete_s: u64 = 86_400, "s", 1..=31_536_000
            ; unread: "no room is deleted yet";
        /// A snapshot is written once the log since the last one exceeds this many entries.
        snapshot_events: u32 = 1024, "entries", 1..=1_000_000;
        /// The log is trimmed below a snapshot only when that one is at least this old.
        snapshot_s: u64 = 300, "s", 1..=86_400;
        /// How often a Brain says that it lives.
        heartbeat_ms: u64 = 1000, "ms", 20..=60_000;
        /// A Brain that is silent for this long is down.
        down_after_ms: u64 = 3000, "ms", 60..=600_000;
        /// A Shield that is silent for this long is forgotten with its members.
        forget_s: u64 = 1200, "s", 1..=86_400
            ; unread: "there is no presence yet";
        /// A member who vanished keeps the place for this long.
        grace_ms: u64 = 15_000, "ms", 0..=600_000
            ; unread: "there is no presence yet";
        /// Commands of each user that a room remembers to tell a repeat, the last by arrival.
        dedupe: u32 = 256, "commands", 1..=256;
    }
    /// Log lines (to standard error) and the trace.
    log: Log {
        /// The least important lines that are written.
        level: LogLevel = LogLevel::Info, "";
        /// For people, or one JSON object a line.
        format: LogFormat = LogFormat::Text, "";
        /// File that the trace is appended to, one JSON object a line; left out, no trace is made.
        trace_file: Option<String> = None, "";
    }
}
