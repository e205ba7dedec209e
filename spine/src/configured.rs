//! One connection as the configuration says: the one way in which our binaries read `[nats]`, so that none can forget a key.

use proto::NodeId;
use std::time::Duration;
use voltron_core::config::Config;

use crate::users::{Account, JETSTREAM_API};
use crate::{SpineOptions, StreamSpec};

/// Whose connection it is. Each has users, passwords and an inbox of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The Shield's only one.
    Shield,
    /// The Brain's that stores.
    Writer,
    /// The Brain's that answers.
    Speaker,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shield, Self::Writer, Self::Speaker];

    fn user(self, config: &Config) -> (&'static str, Option<&String>, Option<&String>) {
        let (nats, brain) = (&config.nats, &config.brain);
        match self {
            Self::Shield => ("[nats] password_file", nats.user.as_ref(), nats.password_file.as_ref()),
            Self::Writer => {
                ("[brain] writer_password_file", brain.writer_user.as_ref(), brain.writer_password_file.as_ref())
            }
            Self::Speaker => {
                ("[brain] speaker_password_file", brain.speaker_user.as_ref(), brain.speaker_password_file.as_ref())
            }
        }
    }

    fn names(self, node: &NodeId) -> (String, String) {
        match self {
            Self::Shield => (node.to_string(), format!("_INBOX.s.{node}")),
            Self::Writer => (format!("{node}/writer"), format!("_INBOX.w.{node}")),
            Self::Speaker => (format!("{node}/speaker"), format!("_INBOX.b.{node}")),
        }
    }
}

impl SpineOptions {
    /// The options of `node`'s connection in this role. Reads the password's file now.
    ///
    /// # Errors
    /// A sentence for the operator: a file that cannot be read, a password that NATS cannot carry, a URL that is none.
    pub fn configured(config: &Config, node: &NodeId, role: Role) -> Result<Self, String> {
        let (key, user, file) = role.user(config);
        let credentials = match (user, file) {
            (Some(user), Some(file)) => Some((user.clone(), password(key, file)?)),
            _ => None,
        };
        Self::configured_as(config, node, role, credentials)
    }

    /// As [`SpineOptions::configured`], with a user and a password that were read before.
    ///
    /// # Errors
    /// A sentence for the operator: a URL that is none.
    pub fn configured_as(
        config: &Config,
        node: &NodeId,
        role: Role,
        credentials: Option<(String, String)>,
    ) -> Result<Self, String> {
        // A broker with users has the accounts of ops/nats/users.conf; one without has no account but that of the streams.
        let api = match role {
            Role::Shield | Role::Speaker if credentials.is_some() => Account::App.api(),
            _ => JETSTREAM_API,
        };
        let (name, inbox_prefix) = role.names(node);
        let options = Self {
            urls: ordered(&config.nats.urls, node),
            credentials,
            api: api.into(),
            tls: config.nats.tls,
            publish_timeout: Duration::from_millis(config.nats.publish_timeout_ms),
            ping_interval: Duration::from_millis(config.nats.ping_interval_ms),
            logs: config.nats.logs,
            ..Self::new("", name, inbox_prefix)
        };
        options.check().map_err(|error| format!("[nats] urls: {error}"))?;
        Ok(options)
    }
}

impl StreamSpec {
    /// Every stream of the deployment that the configuration describes.
    pub fn configured(config: &Config) -> Vec<Self> {
        let nats = &config.nats;
        Self::all(nats.logs, usize::try_from(nats.replicas).unwrap_or(1), nats.log_max_bytes)
    }
}

/// A password is the file's bytes without surrounding white space. NATS carries it as JSON, which takes UTF-8 alone.
fn password(key: &str, file: &str) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{key} {file}: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        format!("{key} {file}: NATS takes passwords of UTF-8 alone; write this one as text, such as base64")
    })?;
    Ok(text.trim().to_owned())
}

/// The servers from the one that the node's name draws, then in the file's order: each process has its own first choice, so
/// that a cluster's first server does not carry everything. The Elixir Brain draws the same.
fn ordered(urls: &[String], node: &NodeId) -> Vec<String> {
    let mut urls = urls.to_vec();
    let count = u64::try_from(urls.len()).unwrap_or(1).max(1);
    let first = usize::try_from(fnv1a(node.as_str().as_bytes()) % count).unwrap_or(0);
    urls.rotate_left(first);
    urls
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn parsed(text: &str) -> Config {
        Config::parse(&format!("{text}\n[policy]\ndefault = \"none\"\n")).unwrap()
    }

    /// What one role's process makes of a configuration: its connection, and of a Brain's writer the streams.
    fn made(config: &Config, role: Role) -> String {
        let options = SpineOptions::configured(config, &node("n1"), role).unwrap();
        let streams = if role == Role::Writer { StreamSpec::configured(config) } else { Vec::new() };
        format!("{options:?} {streams:?}")
    }

    /// Another value than the default for each key of `[nats]`, and the roles that it reaches.
    fn changed(key: &str, file: &str) -> (String, &'static [Role]) {
        let all = &Role::ALL[..];
        let value = |text: &str| format!("[nats]\n{key} = {text}");
        match key {
            "urls" => (value(r#"["nats://other:4222"]"#), all),
            "tls" => (value("true"), all),
            "publish_timeout_ms" | "ping_interval_ms" => (value("1234"), all),
            "logs" => (value("2"), all),
            "replicas" => (value("3"), &[Role::Writer]),
            "log_max_bytes" => (value("2097152"), &[Role::Writer]),
            "user" | "password_file" => {
                (format!("[nats]\nuser = \"ann\"\npassword_file = \"{file}\""), &[Role::Shield])
            }
            other => panic!("[nats] {other} is new: say here whom it reaches"),
        }
    }

    #[test]
    fn every_key_of_nats_has_an_effect_in_every_process_that_takes_it_and_in_no_other() {
        let file = std::env::temp_dir().join(format!("arqon-spine-password-{}", std::process::id()));
        std::fs::write(&file, "secret\n").unwrap();
        let sections = voltron_core::config::sections();
        let nats = sections.iter().find(|section| section.name == "nats").unwrap();
        let plain = parsed("");
        for key in &nats.keys {
            let (text, reached) = changed(key.name, file.to_str().unwrap());
            let config = parsed(&text);
            for role in Role::ALL {
                let differs = made(&config, role) != made(&plain, role);
                assert_eq!(differs, reached.contains(&role), "[nats] {} and {role:?}", key.name);
            }
        }
        // The Brain's two users belong together: one of them changes.
        let users = |writer: &str, speaker: &str| {
            let user = |kind: &str, name: &str| {
                format!("{kind}_user = \"{name}\"\n{kind}_password_file = \"{}\"\n", file.display())
            };
            parsed(&format!("[brain]\n{}{}", user("writer", writer), user("speaker", speaker)))
        };
        let before = users("ann", "ann");
        for (role, after) in [(Role::Writer, users("bob", "ann")), (Role::Speaker, users("ann", "bob"))] {
            for other in Role::ALL {
                assert_eq!(made(&after, other) != made(&before, other), other == role, "{role:?} and {other:?}");
            }
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_password_that_nats_cannot_carry_is_refused_with_a_sentence() {
        let file = std::env::temp_dir().join(format!("arqon-spine-bytes-{}", std::process::id()));
        std::fs::write(&file, [0xFF, 0xFE]).unwrap();
        let config = parsed(&format!("[nats]\nuser = \"ann\"\npassword_file = \"{}\"", file.display()));
        let error = SpineOptions::configured(&config, &node("n1"), Role::Shield).unwrap_err();
        assert!(error.contains("[nats] password_file") && error.contains("UTF-8"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn the_first_server_is_drawn_by_the_nodes_name_and_the_others_follow_in_order() {
        let urls = ["nats://a", "nats://b", "nats://c"].map(str::to_owned);
        let mut firsts = BTreeSet::new();
        for n in 1..=30 {
            let drawn = ordered(&urls, &node(&format!("shield-{n}")));
            let at = urls.iter().position(|url| *url == drawn[0]).unwrap();
            let expected: Vec<_> = (0..3).map(|n| urls[(at + n) % 3].clone()).collect();
            assert_eq!(drawn, expected);
            firsts.insert(drawn[0].clone());
        }
        assert_eq!(firsts.len(), 3, "all of them are somebody's first");
        // The Elixir Brain draws the same: brain/test/brain/node_options_test.exs.
        let first = |name: &str| ordered(&urls, &node(name))[0].clone();
        assert_eq!(
            ["brain-1", "brain-2", "brain-3", "shield-1"].map(first),
            ["nats://a", "nats://a", "nats://b", "nats://c"]
        );
    }
}
