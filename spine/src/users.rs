//! The broker's users and what each may do (CONTRACT §3): least privilege as data, so that the production
//! configuration, the tests and the simulated broker all read the same table.

use proto::NodeId;

/// One user of the broker, with the subjects it may publish to and subscribe to. Everything else is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSpec {
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
            format!("shield-{node}"),
            password,
            [
                "in.t.*.r.*",
                "open.t.*",
                "pres.*",
                &format!("sys.n.hb.shield.{node}"),
                "sys.n.pr.*",
                "$JS.API.DIRECT.GET.>",
                "$JS.API.STREAM.MSG.GET.>",
                &format!("_INBOX.s.{node}.>"),
            ],
            ["out.t.*.r.*", "sys.t.*.*", "sys.n.hb.>", &format!("sys.n.pr.{node}"), &format!("_INBOX.s.{node}.>")],
        )
    }

    /// A Brain's writer: all that is stored goes through it; it answers nobody.
    pub fn writer(node: &NodeId, password: &str) -> Self {
        let inbox = format!("_INBOX.w.{node}.>");
        Self::new(
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

    /// The operator: creates streams, writes tenant bans. May do everything.
    pub fn operator(password: &str) -> Self {
        Self::new("operator".into(), password, [">"], [">"])
    }

    /// Name and password, as `SpineOptions::credentials` wants them.
    pub fn credentials(&self) -> (String, String) {
        (self.name.clone(), self.password.clone())
    }

    fn new<const P: usize, const S: usize>(
        name: String,
        password: &str,
        publish: [&str; P],
        subscribe: [&str; S],
    ) -> Self {
        Self {
            name,
            password: password.into(),
            publish: publish.map(Into::into).to_vec(),
            subscribe: subscribe.map(Into::into).to_vec(),
        }
    }
}

/// The `authorization` block of a nats-server configuration file.
pub fn authorization(users: &[UserSpec]) -> String {
    let mut text = String::from("authorization {\n  users = [\n");
    for user in users {
        text.push_str(&format!(
            "    {{ user: {}, password: {}, permissions: {{ publish: {}, subscribe: {} }} }}\n",
            quoted(&user.name),
            quoted(&user.password),
            list(&user.publish),
            list(&user.subscribe),
        ));
    }
    text.push_str("  ]\n}\n");
    text
}

fn list(patterns: &[String]) -> String {
    let quoted: Vec<String> = patterns.iter().map(|p| quoted(p)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A string as nats-server's configuration reads it: JSON's escapes are a subset of its own.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
