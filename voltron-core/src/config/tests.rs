//! Tests of the configuration.

use proptest::prelude::*;
use toml::de::DeTable;

use super::*;

/// The seed's sections to the letter, and the one decision that they leave open.
const SEED: &str = r#"
[server]
host = "0.0.0.0"
port = 4000

[nats]
urls = ["nats://127.0.0.1:4222"]

[policy]
timeout_ms = 5
fail_closed = true
default = "none"
"#;

fn refused(text: &str) -> String {
    Config::parse(text).expect_err("a bad file").to_string()
}

/// A file that is good but for these lines.
fn refused_with(lines: &str) -> String {
    refused(&format!("policy.default = \"none\"\n{lines}"))
}

#[test]
fn seed_sections_parse() {
    assert_eq!(Config::parse(SEED), Ok(Config::default()));
}

#[test]
fn a_policy_must_be_chosen() {
    insta::assert_snapshot!(refused(""));
    insta::assert_snapshot!(refused("[policy]\ndefault = \"policies/words.wasm\"\n"));
    insta::assert_snapshot!(refused("[policy]\ndefault = 1\n"));
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    insta::assert_snapshot!(refused_with(
        r#"
port = 4000
zzz = 1
[sever]
host = "a"
[server]
prot = 4000
urls = []
qqqqqqqq = 1
[qqqqqqqq]
[Limits]
"#
    ));
}

#[test]
fn wrong_types_and_ranges_are_named() {
    insta::assert_snapshot!(refused_with(
        r#"
[server]
host = ""
port = 65536
text_dialect = "yes"
origins = ["a", 1]
[http]
port = "4001"
[nats]
publish_timeout_ms = 5
replicas = -1
log_max_bytes = 99999999999999999999
logs = 1.5
urls = "nats://localhost"
[auth]
signatures = "maybe"
[log]
level = 3
trace_file = 2026-01-01
"#
    ));
}

#[test]
fn contradictions_are_told_once_each_value_is_good() {
    insta::assert_snapshot!(refused_with(
        r#"
server = { host = "0.0.0.0", port = 4001, origins = ["https://app.example/chat", "https://app.example"] }
http = { host = "127.0.0.1:4001" }
nats = { publish_timeout_ms = 3000, user = "shield-1", urls = ["http://127.0.0.1:4222"] }
shield = { heartbeat_ms = 5000, pong_ms = 30000 }
brain = { heartbeat_ms = 2000, writer_password_file = "w", speaker_user = "s" }
drain = { spread_s = 45 }
limits = { message_bytes = 262144, queue_bytes = 131072 }
"#
    ));
}

#[test]
fn no_server_is_refused() {
    assert!(refused_with("nats.urls = []").contains("must name at least one server"));
}

/// Every pair is broken by its extremes, which the ranges allow each alone, and the message names both keys.
#[test]
fn every_pair_that_can_contradict_is_checked() {
    use check::{PAIRS, Relation};
    for pair in PAIRS {
        let range = |section: &str, key: &str| {
            let section = sections().iter().find(|known| known.name == section).expect("a section");
            let key = section.keys.iter().find(|known| known.name == key).expect("a key");
            key.range.clone().expect("a range")
        };
        let one = range(pair.one.section, pair.one.key);
        let other = range(pair.other.section, pair.other.key);
        let (low, high) = (pair.relation == Relation::NotExceed, pair.relation != Relation::NotExceed);
        let written = |range: &schema::Range64, high: bool| if high { *range.end() } else { *range.start() };
        let (one_is, other_is) = (written(&one, low), written(&other, high));
        let mut config = Config::default();
        set(&mut config, pair.one.section, pair.one.key, one_is);
        set(&mut config, pair.other.section, pair.other.key, other_is);
        let names = (pair.one.key, pair.other.key);
        let told = check::together(&config);
        assert!(
            told.iter().any(|(_, key, text)| *key == names.0 && text.contains(names.1)),
            "{names:?} as {one_is} and {other_is}: {told:?}"
        );
    }
    assert_eq!(check::together(&Config::default()), []);
}

/// Sets a number by its name.
fn set(config: &mut Config, section: &str, key: &str, value: u64) {
    macro_rules! set {
        ($($section_is:ident.$key_is:ident)+) => {
            match (section, key) {
                $((stringify!($section_is), stringify!($key_is)) => {
                    config.$section_is.$key_is = value.try_into().expect("its range fits its type");
                })+
                _ => panic!("name [{section}] {key} here"),
            }
        };
    }
    set! {
        nats.publish_timeout_ms shield.answer_timeout_ms shield.stale_ms shield.heartbeat_ms shield.pong_ms shield.ping_ms
        brain.down_after_ms brain.heartbeat_ms brain.forget_s brain.room_delete_s brain.room_idle_s drain.exit_s
        drain.spread_s limits.queue_bytes limits.message_bytes
    }
}

#[test]
fn a_dead_peer_can_be_found() {
    let told = refused_with("shield.ping_ms = 5000\nshield.pong_ms = 10000\n");
    assert!(told.contains("[shield] pong_ms (10000) must not exceed ping_ms (5000)"), "{told}");
    let same = Config::parse("policy.default = \"none\"\nshield.ping_ms = 5000\nshield.pong_ms = 5000\n");
    assert!(same.is_ok(), "{same:?}");
}

#[test]
fn a_key_without_effect_may_only_say_its_default() {
    for section in sections() {
        for key in section.keys.iter().filter(|key| key.unread.is_some()) {
            let other = match key.default.as_deref() {
                Some("true") => "false".to_owned(),
                Some("false") => "true".to_owned(),
                Some("\"reuse\"") => "\"message\"".into(),
                Some("\"enforce\"") => "\"shadow\"".into(),
                Some(number) => (number.parse::<u64>().expect("a number") - 1).to_string(),
                None => "\"some\"".into(),
            };
            let name = format!("{}.{}", section.name, key.name);
            let told = refused_with(&format!("{name} = {other}\n"));
            assert!(told.contains("it has no effect, for "), "{name}: {told}");
            if let Some(default) = &key.default {
                let same = Config::parse(&format!("policy.default = \"none\"\n{name} = {default}\n"));
                assert!(same.is_ok(), "{name}: {same:?}");
            }
        }
    }
}

#[test]
fn a_secret_is_bytes_and_a_text_loses_what_an_editor_added() {
    assert_eq!(secret(b"abc\r\n"), b"abc");
    assert_eq!(secret(b" abc "), b"abc");
    let random = [b' ', 0x80, 0xff, b'\n'];
    assert_eq!(secret(&random), random, "the last byte of a random secret may be a line feed");
}

#[test]
fn broken_toml_has_a_place() {
    insta::assert_snapshot!(refused("[server\nport = 4000\n"));
    insta::assert_snapshot!(refused("[server]\nport = 4000\nport = 4001\n"));
    insta::assert_snapshot!(refused("[server]\n[server]\n"));
    insta::assert_snapshot!(refused("# é\n[server]\nhost = \"é\" x\n"));
}

#[test]
fn depth_and_length_are_bounded() {
    assert!(Config::parse(&"[".repeat(100_000)).is_err());
    assert!(Config::parse(&format!("a = {}", "[".repeat(100_000))).is_err());
    assert!(Config::parse(&format!("{} = 1", "a.".repeat(100_000))).is_err());
    let long = "x".repeat(100_000);
    assert!(refused_with(&format!("[server]\n{long} = 1")).contains("unknown key"));
}

#[test]
fn numbers_may_be_written_in_every_way_of_toml() {
    for (written, read) in [("4_000", 4000), ("0xFA0", 4000), ("+4000", 4000), ("0b11", 3), ("0o17", 15)] {
        let config = Config::parse(&format!("policy.default = \"none\"\nserver.port = {written}")).expect("good");
        assert_eq!(config.server.port, read, "{written}");
    }
}

#[test]
fn files_are_read_and_named() {
    let folder = std::env::temp_dir().join(format!("arqon-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let path = folder.join("arqon.toml");
    std::fs::write(&path, SEED).expect("a temporary file");
    assert_eq!(Config::load(&path), Ok(Config::default()));
    std::fs::write(&path, "[server]\nport = true\n").expect("a temporary file");
    let error = Config::load(&path).expect_err("a wrong type");
    assert!(error.to_string().starts_with(&format!("{}:2:8: ", path.display())), "{error}");
    let absent = Config::load(&folder.join("absent")).expect_err("no such file");
    assert!(matches!(absent.problems(), [Problem { place: None, fault: Fault::Unreadable(_) }]), "{absent}");
    std::fs::write(&path, vec![b'#'; 1 + (1 << 20)]).expect("a temporary file");
    assert!(Config::load(&path).expect_err("too long").to_string().contains("longer than"));
    std::fs::write(&path, [0xff, 0xfe]).expect("a temporary file");
    assert!(Config::load(&path).expect_err("not UTF-8").to_string().contains("cannot be read"));
    std::fs::remove_dir_all(&folder).expect("the temporary folder is ours");
}

#[test]
fn the_rendered_file_is_complete_and_reads_back() {
    let text = Config::default().render_toml();
    assert_eq!(Config::parse(&text), Ok(Config::default()));
    // One source of truth: every key of the schema stands in the file, set or as a comment, and nothing else does.
    let table = DeTable::parse(&text).expect("it parsed above").into_inner();
    for section in sections() {
        let keys = table[section.name].get_ref().as_table().expect("a section");
        for key in &section.keys {
            let set = keys.contains_key(key.name);
            assert_eq!(set, key.default.is_some(), "{}.{}", section.name, key.name);
            assert!(set || text.contains(&format!("\n# {} =\n", key.name)), "{}.{}", section.name, key.name);
            assert!(key.help.ends_with('.') && key.help.len() > 10, "{}.{} needs a sentence", section.name, key.name);
        }
        let settable = section.keys.iter().filter(|key| key.default.is_some()).count();
        assert_eq!(keys.len(), settable, "[{}]", section.name);
    }
    assert_eq!(table.len(), sections().len());
}

#[test]
fn every_default_is_within_its_range_and_times_name_their_unit() {
    for section in sections() {
        for key in &section.keys {
            let name = format!("{}.{}", section.name, key.name);
            if let (Some(range), Some(default)) = (&key.range, &key.default) {
                let default = default.parse().unwrap_or_else(|_| panic!("{name} has a range but no number"));
                assert!(range.contains(&default), "{name}");
            }
            for (ending, unit) in [("_ms", "ms"), ("_s", "s"), ("_bytes", "bytes")] {
                let rate = key.name.ends_with("_per_s");
                assert!(rate || !key.name.ends_with(ending) || key.unit == unit, "{name} is in {}", key.unit);
            }
        }
    }
}

#[test]
fn the_contracts_keys_exist() {
    let contract = "server: host port text_dialect origins query_token; http: host port; \
        nats: urls user password_file tls publish_timeout_ms ping_interval_ms replicas log_max_bytes; \
        policy: timeout_ms fail_closed fuel default dir isolation mode redact_signed; \
        auth: signatures audience issuer jwks_file hs256_secret_file grace_s verify_at_brain; \
        shield: heartbeat_ms answer_timeout_ms stale_ms rooms tenant_rooms; \
        limits: message_bytes rooms pub_per_s pub_burst accept_per_s queue_bytes queue_messages; \
        drain: spread_s exit_s; brain: metrics_port rooms tenant_rooms room_idle_s room_delete_s snapshot_events snapshot_s heartbeat_ms \
        down_after_ms forget_s grace_ms dedupe; log: level format trace_file";
    for part in contract.split(';') {
        let (name, keys) = part.split_once(':').expect("section: keys");
        let section = sections().iter().find(|section| section.name == name.trim()).expect(name);
        for key in keys.split_whitespace() {
            assert!(section.keys.iter().any(|known| known.name == key), "{name}.{key}");
        }
    }
}

#[test]
fn the_documentation_is_current() {
    let written = include_str!("../../../docs/configuration.md");
    let remake = "cargo run -p voltron-core --example configuration > docs/configuration.md";
    assert!(written == render_docs(), "docs/configuration.md is out of date: {remake}");
}

#[test]
fn the_brains_terms() {
    let mut config = Config::default();
    config.nats.user = Some("a\"b\\c\né\u{0}".into());
    insta::assert_snapshot!(config.render_brain());
}

#[test]
fn what_an_operator_should_know() {
    let mut config = Config::default();
    config.brain.metrics_port = config.http.port;
    config.server.query_token = true;
    config.nats.replicas = 2;
    config.auth.hs256_secret_file = Some("secret".into());
    insta::assert_snapshot!(config.warnings().join("\n"));
}

/// A good file with some characters deleted, doubled or replaced.
fn mutated() -> impl Strategy<Value = String> {
    let good = Config::default().render_toml();
    let length = good.chars().count();
    let edits = proptest::collection::vec((0..length, prop::char::any(), 0..4u8), 1..8);
    edits.prop_map(move |edits| {
        let mut text: Vec<char> = good.chars().collect();
        for (at, put, how) in edits {
            if text.is_empty() {
                text.push(put);
            }
            let at = at % text.len();
            match how {
                0 => drop(text.remove(at)),
                1 => text.insert(at, put),
                2 => text[at] = put,
                _ => text.truncate(at.max(1)),
            }
        }
        text.into_iter().collect()
    })
}

/// An error has text, and its places lie in the file.
fn sound(text: &str) -> Result<(), TestCaseError> {
    match Config::parse(text) {
        Ok(config) => {
            prop_assert_eq!(Config::parse(&config.render_toml()), Ok(config));
        }
        Err(error) => {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(error.to_string().starts_with(FILE));
            let lines = text.matches('\n').count() + 1;
            for place in error.problems().iter().filter_map(|problem| problem.place) {
                prop_assert!(place.0 <= lines && place.1 > 0);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_panics(text in "\\PC*") {
        sound(&text)?;
    }

    #[test]
    fn no_toml_like_text_panics(text in "([a-z\\[\\]\\.=\"'{}, 0-9\n#_é-]|\\[policy\\]\n|default = \"none\"\n){0,80}") {
        sound(&text)?;
    }

    #[test]
    fn no_mutated_file_panics(text in mutated()) {
        sound(&text)?;
    }

    #[test]
    fn any_strings_survive_rendering(audience in ".{1,20}", origins in proptest::collection::vec(".{1,20}", 0..4)) {
        let mut config = Config::default();
        config.auth.audience = audience;
        prop_assert_eq!(Config::parse(&config.render_toml()), Ok(config.clone()));
        // Few of these are origins, so the list is read back alone.
        config.server.origins = origins;
        let text = config.render_toml();
        let table = DeTable::parse(&text).expect("it is TOML").into_inner();
        let list = table["server"].get_ref().as_table().expect("a section")["origins"].get_ref();
        prop_assert_eq!(<Vec<String> as value::Value>::read(list), Ok(config.server.origins));
    }
}
