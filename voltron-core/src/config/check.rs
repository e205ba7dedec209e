//! Values that are good alone but not together, and what an operator should know about a good file.

use super::schema::Config;

/// Each contradiction as (section, key, text).
pub(super) fn together(config: &Config) -> Vec<(&'static str, &'static str, String)> {
    let mut found = Vec::new();
    let mut must = |holds: bool, section, key, text: String| {
        if !holds {
            found.push((section, key, text));
        }
    };
    let (nats, shield, brain) = (&config.nats, &config.shield, &config.brain);
    must(
        nats.publish_timeout_ms <= shield.answer_timeout_ms,
        "nats",
        "publish_timeout_ms",
        format!(
            "[nats] publish_timeout_ms ({}) must not exceed [shield] answer_timeout_ms ({}): a command would be given up \
             while it still waits to be sent",
            nats.publish_timeout_ms, shield.answer_timeout_ms
        ),
    );
    must(
        shield.stale_ms >= shield.heartbeat_ms.saturating_mul(2),
        "shield",
        "stale_ms",
        format!(
            "[shield] stale_ms ({}) must be at least twice heartbeat_ms ({}): one lost heartbeat would end all service",
            shield.stale_ms, shield.heartbeat_ms
        ),
    );
    must(
        brain.down_after_ms >= brain.heartbeat_ms.saturating_mul(2),
        "brain",
        "down_after_ms",
        format!(
            "[brain] down_after_ms ({}) must be at least twice heartbeat_ms ({}): one lost heartbeat would move every room",
            brain.down_after_ms, brain.heartbeat_ms
        ),
    );
    must(
        config.drain.exit_s > config.drain.spread_s,
        "drain",
        "exit_s",
        format!(
            "[drain] exit_s ({}) must exceed spread_s ({}): the last clients would be cut off instead of told",
            config.drain.exit_s, config.drain.spread_s
        ),
    );
    must(
        u64::from(config.limits.queue_bytes) >= u64::from(config.limits.message_bytes) * 2,
        "limits",
        "queue_bytes",
        format!(
            "[limits] queue_bytes ({}) must be at least twice message_bytes ({}): one message would close its readers",
            config.limits.queue_bytes, config.limits.message_bytes
        ),
    );
    let same_host = config.server.host == config.http.host;
    must(
        config.server.port == 0 || config.server.port != config.http.port || !same_host,
        "http",
        "port",
        format!("[server] and [http] both want {}:{}", config.http.host, config.http.port),
    );
    must(!nats.urls.is_empty(), "nats", "urls", "[nats] urls must name at least one server".into());
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
    found
}

/// What an operator should know about a good file.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut found = vec!["[policy] default = \"none\": every message passes, there is no policy host".to_owned()];
    if !config.policy.fail_closed {
        found.push("[policy] fail_closed = false: what a policy could not judge passes".to_owned());
    }
    if config.auth.jwks_file.is_none() && config.auth.hs256_secret_file.is_none() {
        found.push("[auth] neither jwks_file nor hs256_secret_file is set: every token is refused".to_owned());
    }
    if config.auth.hs256_secret_file.is_some() {
        found.push("[auth] hs256_secret_file: whoever can check tokens can also make them".to_owned());
    }
    if config.server.query_token {
        found.push("[server] query_token = true: tokens land in access logs".to_owned());
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
