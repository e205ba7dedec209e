//! Tests of the configuration.

use super::*;

#[test]
fn seed_sections_parse() {
    let text = r#"
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
    assert_eq!(Config::parse(text), Ok(Config::default()));
}
