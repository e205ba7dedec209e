//! Values that are good alone but not together, and what an operator should know about a good file.

use super::names;
use super::schema::Config;

/// How one number must stand to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    NotExceed,
    AtLeast,
    AtLeastTwice,
    Exceed,
}

impl Relation {
    fn holds(self, one: u64, other: u64) -> bool {
        match self {
            Self::NotExceed => one <= other,
            Self::AtLeast => one >= other,
            Self::AtLeastTwice => one >= other.saturating_mul(2),
            Self::Exceed => one > other,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::NotExceed => "not exceed",
            Self::AtLeast => "be at least",
            Self::AtLeastTwice => "be at least twice",
            Self::Exceed => "exceed",
        }
    }
}

/// A number of the file, and the factor that brings it to the unit of its pair.
pub(super) struct Number {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) factor: u64,
    value: fn(&Config) -> u64,
}

/// Two numbers that contradict each other unless the relation holds.
pub(super) struct Pair {
    pub(super) one: Number,
    pub(super) relation: Relation,
    pub(super) other: Number,
    why: &'static str,
}

macro_rules! number {
    ($section:ident.$key:ident * $factor:literal) => {
        Number {
            section: stringify!($section),
            key: stringify!($key),
            factor: $factor,
            value: |config| u64::from(config.$section.$key),
        }
    };
}

macro_rules! pairs {
    ($($one:ident.$one_key:ident * $one_factor:literal, $relation:ident,
       $other:ident.$other_key:ident * $other_factor:literal, $why:literal;)+) => {
        &[$(Pair {
            one: number!($one.$one_key * $one_factor),
            relation: Relation::$relation,
            other: number!($other.$other_key * $other_factor),
            why: $why,
        }),+]
    };
}

/// Every pair of numbers that can contradict each other.
pub(super) const PAIRS: &[Pair] = pairs! {
    nats.publish_timeout_ms * 1, NotExceed, shield.answer_timeout_ms * 1,
        "a command would be given up while it still waits to be sent";
    shield.stale_ms * 1, AtLeastTwice, shield.heartbeat_ms * 1,
        "one lost heartbeat would end all service";
    shield.pong_ms * 1, NotExceed, shield.ping_ms * 1,
        "each ping would move the deadline of the one before it, and no dead peer would ever be found";
    brain.down_after_ms * 1, AtLeastTwice, brain.heartbeat_ms * 1,
        "one lost heartbeat would move every room";
    brain.forget_s * 1000, AtLeastTwice, shield.heartbeat_ms * 1,
        "one lost heartbeat would forget a Shield with all its members";
    brain.room_delete_s * 1, AtLeast, brain.room_idle_s * 1,
        "a room would be deleted before it is dormant";
    drain.exit_s * 1, Exceed, drain.spread_s * 1,
        "the last clients would be cut off instead of told";
    drain.exit_s * 1000, AtLeast, shield.answer_timeout_ms * 1,
        "a command in flight would be cut off from its answer";
    limits.queue_bytes * 1, AtLeastTwice, limits.message_bytes * 1,
        "one message would close its readers";
};

/// Each contradiction as (section, key, text).
pub(super) fn together(config: &Config) -> Vec<(&'static str, &'static str, String)> {
    let mut found = Vec::new();
    for Pair { one, relation, other, why } in PAIRS {
        let (value, bound) = ((one.value)(config), (other.value)(config));
        if relation.holds(value.saturating_mul(one.factor), bound.saturating_mul(other.factor)) {
            continue;
        }
        let other_section = if one.section == other.section { String::new() } else { format!("[{}] ", other.section) };
        let (section, key, words, other_key) = (one.section, one.key, relation.words(), other.key);
        let text = format!("[{section}] {key} ({value}) must {words} {other_section}{other_key} ({bound}): {why}");
        found.push((section, key, text));
    }
    let mut must = |holds: bool, section, key, text: String| {
        if !holds {
            found.push((section, key, text));
        }
    };
    let (nats, brain) = (&config.nats, &config.brain);
    let any = |host: &str| matches!(host, "0.0.0.0" | "::");
    let (clients, operators) = (&config.server, &config.http);
    let same_host = clients.host == operators.host || any(&clients.host) || any(&operators.host);
    must(
        clients.port == 0 || clients.port != operators.port || !same_host,
        "http",
        "port",
        format!("[server] and [http] both want {}", names::authority(&operators.host, operators.port)),
    );
    for (section, host) in [("server", &clients.host), ("http", &operators.host)] {
        if let Err(why) = names::host(host) {
            must(false, section, "host", format!("[{section}] host: {why}"));
        }
    }
    for why in clients.origins.iter().filter_map(|origin| names::origin(origin).err()) {
        must(false, "server", "origins", format!("[server] origins: {why}"));
    }
    must(!nats.urls.is_empty(), "nats", "urls", "[nats] urls must name at least one server".into());
    for why in nats.urls.iter().filter_map(|url| names::nats_url(url).err()) {
        must(false, "nats", "urls", format!("[nats] urls: {why}"));
    }
    for (section, user_key, user, file_key, file) in [
        ("nats", "user", &nats.user, "password_file", &nats.password_file),
        ("brain", "writer_user", &brain.writer_user, "writer_password_file", &brain.writer_password_file),
        ("brain", "speaker_user", &brain.speaker_user, "speaker_password_file", &brain.speaker_password_file),
    ] {
        let key = if user.is_some() { user_key } else { file_key };
        must(
            user.is_some() == file.is_some(),
            section,
            key,
            format!("[{section}] {user_key} and {file_key} belong together: write both or neither"),
        );
    }
    let key = if brain.writer_user.is_some() { "writer_user" } else { "speaker_user" };
    must(
        brain.writer_user.is_some() == brain.speaker_user.is_some(),
        "brain",
        key,
        "[brain] writer_user and speaker_user belong together: a broker with users takes no connection without one"
            .into(),
    );
    found
}

/// What an operator should know about a good file.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut found = vec!["[policy] default = \"none\": every message passes, there is no policy host".to_owned()];
    if config.auth.jwks_file.is_none() && config.auth.hs256_secret_file.is_none() {
        found.push("[auth] neither jwks_file nor hs256_secret_file is set: every token is refused".to_owned());
    }
    if config.auth.hs256_secret_file.is_some() {
        found.push("[auth] hs256_secret_file: a process that can check tokens can also make them".to_owned());
    }
    if config.server.query_token {
        found.push("[server] query_token = true: tokens land in access logs".to_owned());
    }
    if config.http.port != 0 && config.http.port == config.brain.metrics_port {
        found.push(format!(
            "[http] port and [brain] metrics_port are both {}: a Shield and a Brain on one machine cannot both listen there",
            config.http.port
        ));
    }
    if config.nats.replicas == 1 {
        found.push("[nats] replicas = 1: acknowledged messages are lost with the one disk that holds them".to_owned());
    }
    if config.nats.replicas.is_multiple_of(2) {
        found.push(format!(
            "[nats] replicas = {}: an even number tolerates no more failures than one less",
            config.nats.replicas
        ));
    }
    found
}
