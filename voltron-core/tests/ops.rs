//! The configuration that we hand to operators is a good one.

use voltron_core::config::Config;

#[test]
fn the_production_example_is_good() {
    let config = Config::parse_named("ops/arqon.toml", include_str!("../../ops/arqon.toml"));
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.nats.user.as_deref(), Some("shield-1"), "as ops/nats/users.conf names it");
    assert_eq!(config.nats.logs, 8);
    assert!(!config.server.text_dialect && !config.server.query_token && config.policy.fail_closed);
}
