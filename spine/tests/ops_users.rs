//! The accounts and users of ops/nats/users.conf, and what crosses, are exactly those of the table in `spine::users`.

use proto::NodeId;
use spine::users::{UserSpec, accounts};

/// The file without comments and layout, the passwords' variables as in the table's own text.
fn normal(text: &str) -> String {
    let code: String = text.lines().map(|line| if line.trim_start().starts_with('#') { "" } else { line }).collect();
    code.chars().filter(|c| !c.is_whitespace() && *c != ',').collect()
}

#[test]
fn the_production_users_are_the_tables() {
    let node: NodeId = "1".parse().expect("a node id");
    let users = [
        UserSpec::shield(&node, "$SHIELD_1_PASSWORD"),
        UserSpec::writer(&node, "$WRITER_1_PASSWORD"),
        UserSpec::speaker(&node, "$SPEAKER_1_PASSWORD"),
        UserSpec::operator("$OPERATOR_PASSWORD"),
    ];
    // A variable stands without quotes: within them it would be the password itself.
    let table = users
        .iter()
        .fold(accounts(&users), |text, user| text.replace(&format!("\"{}\"", user.password), &user.password));
    assert_eq!(normal(include_str!("../../ops/nats/users.conf")), normal(&table), "ops/nats/users.conf differs");
}
