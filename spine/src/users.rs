//! The broker's accounts and users and what each may do (CONTRACT §3): least privilege as data, so that the production
//! configuration, the tests and the simulated broker all read the same table.
//!
//! A user's permissions bound the subjects that it names, not the answers that it asks for: the broker sends an answer
//! wherever the request's reply subject says, with its own rights. In one account a Shield, which may read, could so
//! have a message written into a stream, and a stream deleted (`$JS.API.STREAM.DELETE.…` as the reply subject of a read
//! that finds nothing). Hence two accounts: subjects of one do not exist in the other but for the [`CROSSINGS`], and
//! where Shields and speakers are, no stream and no JetStream listens.

use proto::NodeId;

/// Where JetStream's API begins in the account that holds the streams.
pub const JETSTREAM_API: &str = "$JS.API";

/// Where the imported part of JetStream's API begins in [`Account::App`]. Not [`JETSTREAM_API`]: nats-server answers
/// `STREAM.MSG.GET` there itself, with "JetStream not enabled for account" (10039).
pub const STORE_API: &str = "store";

/// A broker's account: a space of subjects of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// The streams, who writes them, and the operator.
    Log,
    /// Shields and speakers.
    App,
}

impl Account {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Log, Self::App];

    /// As the broker's configuration names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "LOG",
            Self::App => "APP",
        }
    }

    /// Where its users reach JetStream: [`SpineOptions::api`](crate::SpineOptions::api).
    pub const fn api(self) -> &'static str {
        match self {
            Self::Log => JETSTREAM_API,
            Self::App => STORE_API,
        }
    }
}

/// What crosses from [`Account::Log`] to [`Account::App`]; everything else stays on its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// What is said in LOG on these subjects is heard in APP on the same.
    Stream(&'static str),
    /// What is asked in APP on the second subjects is asked in LOG on the first, and the answer goes to the reply subject
    /// *in APP*. Both end in `>`, which stands for the same tokens.
    Service {
        /// In LOG.
        exported: &'static str,
        /// In APP.
        imported: &'static str,
        /// One request may have several answers.
        batches: bool,
    },
}

/// All that crosses: what is stored comes out, read requests go in. No way leads from APP to a subject that a stream takes.
pub const CROSSINGS: [Crossing; 4] = [
    // RePublish.
    Crossing::Stream("out.t.*.r.*"),
    // An operator's signals.
    Crossing::Stream("sys.t.*.*"),
    Crossing::Service { exported: "$JS.API.DIRECT.GET.>", imported: "store.DIRECT.GET.>", batches: true },
    Crossing::Service { exported: "$JS.API.STREAM.MSG.GET.>", imported: "store.STREAM.MSG.GET.>", batches: false },
];

/// How long the broker remembers whose a batch is. Nothing tells it that a batch has ended, so each read is held for so
/// long, at about 1 KB: by default for 2 min, in which 40,000 reads grew nats-server by 35 MB; with 10 s it stayed as it
/// was. Five times as long as a reader waits by default (`[nats] publish_timeout_ms`).
const BATCH_KEPT: &str = "10s";

/// One user of the broker, with the subjects it may publish to and subscribe to. Everything else is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSpec {
    /// The account whose subjects these are.
    pub account: Account,
    /// Name, e.g. `shield-1`.
    pub name: String,
    /// Password, in clear: the file that holds it is the secret.
    pub password: String,
    /// Patterns it may publish to.
    pub publish: Vec<String>,
    /// Patterns it may subscribe to; a subscription is allowed if it lies within one of them.
    pub subscribe: Vec<String>,
}

impl UserSpec {
    /// A Shield.
    ///
    /// Like every user it may publish below its own inbox: a message to itself is how a subscription is confirmed,
    /// because the client library has no ping that can be awaited.
    pub fn shield(node: &NodeId, password: &str) -> Self {
        Self::new(
            Account::App,
            format!("shield-{node}"),
            password,
            [
                "in.t.*.r.*",
                "open.t.*",
                "pres.*",
                &format!("sys.n.hb.shield.{node}"),
                "sys.n.pr.*",
                "store.DIRECT.GET.>",
                "store.STREAM.MSG.GET.>",
                &format!("_INBOX.s.{node}.>"),
            ],
            ["out.t.*.r.*", "sys.t.*.*", "sys.n.hb.>", &format!("sys.n.pr.{node}"), &format!("_INBOX.s.{node}.>")],
        )
    }

    /// A Brain's writer: all that is stored goes through it; it answers nobody.
    pub fn writer(node: &NodeId, password: &str) -> Self {
        let inbox = format!("_INBOX.w.{node}.>");
        Self::new(
            Account::Log,
            format!("writer-{node}"),
            password,
            ["log.>", "snap.>", "gen.>", "$JS.API.>", &inbox],
            [inbox.as_str()],
        )
    }

    /// A Brain's speaker: hears and answers; cannot reach the log, the snapshots or JetStream.
    pub fn speaker(node: &NodeId, password: &str) -> Self {
        let inbox = format!("_INBOX.b.{node}.>");
        Self::new(
            Account::App,
            format!("speaker-{node}"),
            password,
            ["_INBOX.s.>", "_INBOX.b.>", "out.>", "sys.>", "pres.*"],
            [
                "in.t.*.r.*",
                "open.t.*",
                "pres.*",
                "sys.t.*.*",
                "sys.n.hb.>",
                &format!("sys.n.brain.{node}.>"),
                &format!("sys.n.pr.{node}"),
                &inbox,
            ],
        )
    }

    /// The operator: creates streams, writes tenant bans, signals. May do everything in LOG.
    pub fn operator(password: &str) -> Self {
        Self::new(Account::Log, "operator".into(), password, [">"], [">"])
    }

    /// Name and password, as `SpineOptions::credentials` wants them.
    pub fn credentials(&self) -> (String, String) {
        (self.name.clone(), self.password.clone())
    }

    fn new<const P: usize, const S: usize>(
        account: Account,
        name: String,
        password: &str,
        publish: [&str; P],
        subscribe: [&str; S],
    ) -> Self {
        Self {
            account,
            name,
            password: password.into(),
            publish: publish.map(Into::into).to_vec(),
            subscribe: subscribe.map(Into::into).to_vec(),
        }
    }
}

/// The `accounts` block of a nats-server configuration file.
pub fn accounts(users: &[UserSpec]) -> String {
    let mut text = String::from("accounts {\n");
    for account in Account::ALL {
        text.push_str(&format!("  {} {{\n", account.name()));
        if account == Account::Log {
            text.push_str("    jetstream: enabled\n");
        }
        text.push_str("    users = [\n");
        for user in users.iter().filter(|user| user.account == account) {
            text.push_str(&format!(
                "      {{ user: {}, password: {}, permissions: {{ publish: {}, subscribe: {} }} }}\n",
                quoted(&user.name),
                quoted(&user.password),
                list(&user.publish),
                list(&user.subscribe),
            ));
        }
        let (direction, side): (_, fn(&Crossing) -> String) = match account {
            Account::Log => ("exports", Crossing::export),
            Account::App => ("imports", Crossing::import),
        };
        text.push_str(&format!("    ]\n    {direction} = [\n"));
        for crossing in &CROSSINGS {
            text.push_str(&format!("      {{ {} }}\n", side(crossing)));
        }
        text.push_str("    ]\n  }\n");
    }
    text.push_str("}\n");
    text
}

impl Crossing {
    /// Nobody but APP may import it.
    fn export(&self) -> String {
        let what = match self {
            Self::Stream(subjects) => format!("stream: {}", quoted(subjects)),
            Self::Service { exported, batches: true, .. } => {
                format!("service: {}, response_type: stream, response_threshold: \"{BATCH_KEPT}\"", quoted(exported))
            }
            Self::Service { exported, batches: false, .. } => format!("service: {}", quoted(exported)),
        };
        format!("{what}, accounts: [{}]", Account::App.name())
    }

    fn import(&self) -> String {
        let (kind, subjects, to) = match self {
            Self::Stream(subjects) => ("stream", subjects, None),
            Self::Service { exported, imported, .. } => ("service", exported, Some(imported)),
        };
        let to = to.map_or(String::new(), |to| format!(", to: {}", quoted(to)));
        format!("{kind}: {{ account: {}, subject: {} }}{to}", Account::Log.name(), quoted(subjects))
    }
}

fn list(patterns: &[String]) -> String {
    let quoted: Vec<String> = patterns.iter().map(|p| quoted(p)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A string as nats-server's configuration reads it: JSON's escapes are a subset of its own.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
