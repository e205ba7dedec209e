//! Hosts, NATS URLs and origins as text: whether each can be used at all. Nothing is resolved or reached.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest host name, in bytes (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// The longest label of one, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// `host:port` as a socket takes it: an IPv6 address gets its brackets.
pub fn authority(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// An address to listen on: a name, an IPv4 address, or an IPv6 address without brackets, as every process takes it.
pub(super) fn host(text: &str) -> Result<(), String> {
    if (is_host(text) && !text.starts_with('[')) || text.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    let port = text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok());
    let more = if port { "; the port has a key of its own" } else { "" };
    Err(format!("{text:?} is no host: write a name, an IPv4 address, or an IPv6 address without brackets{more}"))
}

/// The URL of one NATS server.
///
/// # Errors
/// A sentence for the operator.
pub fn nats_url(url: &str) -> Result<(), String> {
    let wrong = |why: &str| {
        let shown = if url.contains('@') { "a URL with a user".to_owned() } else { format!("{url:?}") };
        Err(format!("{shown} is not the URL of a NATS server: {why}"))
    };
    let Some(rest) = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://")) else {
        return wrong("write nats://host:port");
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return wrong("write nats://host:port, and the user and its password's file with their own keys");
    }
    let (host, port) = split_port(rest);
    if !is_host(host) || port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return wrong("write nats://host:port");
    }
    Ok(())
}

/// An `Origin` that a browser can send (RFC 6454 §6.2, as the URL standard serialises it): `scheme://host[:port]` without
/// a path and without the scheme's own port; `null`; or `*`, which stands for any.
pub(super) fn origin(text: &str) -> Result<(), String> {
    if matches!(text, "*" | "null") {
        return Ok(());
    }
    let wrong = |why: &str| Err(format!("no browser sends the Origin {text:?}: {why}"));
    if text.trim() != text || text.contains(char::is_whitespace) {
        return wrong("it has no white space");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong(&format!("it begins with a scheme; write https://{text}"));
    };
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !good {
        return wrong("its scheme is of letters, digits, +, - and .");
    }
    let own_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => Some(80),
        "https" => Some(443),
        "ws" | "wss" => return wrong("it is that of the page, so https:// or http://"),
        _ => None,
    };
    if let Some((before, _)) = rest.split_once(['/', '?', '#']) {
        return wrong(&format!("it has no path; write {scheme}://{before}"));
    }
    if rest.contains('*') {
        return wrong("only `*` alone stands for others; name each host");
    }
    let (host, port) = split_port(rest);
    if !is_host(host) {
        return wrong("its host is a name (an international one in its xn-- form) or an address");
    }
    match port.map(str::parse::<u16>) {
        None => Ok(()),
        Some(Ok(port)) if own_port == Some(port) => {
            wrong(&format!("it leaves out the scheme's own port; write {scheme}://{host}"))
        }
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) => wrong("its port is a number up to 65535"),
    }
}

/// Host and port; the colons of an address in brackets are not the port's.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// A name of letters, digits, `-` and `_`, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(label) {
        return false;
    }
    // What ends in a number is an address, never a name.
    let last = name.rsplit('.').next().unwrap_or_default();
    !last.bytes().all(|byte| byte.is_ascii_digit()) || text.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["0.0.0.0", "127.0.0.1", "localhost", "shield-1.example", "a_b", "::", "::1", "fe80::1"] {
            host(good).unwrap_or_else(|why| panic!("{why}"));
        }
        for bad in [
            "127.0.0.1:4000",
            "http://127.0.0.1",
            "not a host",
            "[::1",
            "::1]",
            "[::1]",
            "256.1.1.1",
            "1.2.3",
            "-a",
            "a..b",
            "é",
            "",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert!(host("127.0.0.1:4000").expect_err("a port").contains("the port has a key of its own"));
        assert_eq!(authority("::1", 4000), "[::1]:4000");
        assert_eq!(authority("localhost", 0), "localhost:0");
    }

    #[test]
    fn urls() {
        for good in
            ["nats://127.0.0.1:4222", "nats://localhost", "tls://a.example:4443/", "nats://[::1]:4222", "nats://[::1]"]
        {
            nats_url(good).unwrap_or_else(|why| panic!("{why}"));
        }
        let bad = [
            "",
            "localhost:4222",
            "127.0.0.1:4222",
            "http://localhost:4222",
            "nats://",
            "nats://h:x",
            "nats://h:0",
            "nats://h/p",
            "nats://h:99999",
            "nats://h:4222//",
            "nats://u:p@h:4222",
            "nats://::1",
            "nats://h,nats://g",
            "nats://h ",
        ];
        for bad in bad {
            let why = nats_url(bad).expect_err(bad);
            assert!(why.contains("nats://host:port") && !why.contains("u:p"), "{bad}: {why}");
        }
    }

    #[test]
    fn origins() {
        let good = [
            "https://app.example",
            "http://localhost:3000",
            "https://App.example",
            "*",
            "null",
            "https://[::1]:8443",
            "capacitor://localhost",
            "chrome-extension://abcdef",
            "https://app.example:80",
        ];
        for good in good {
            origin(good).unwrap_or_else(|why| panic!("{why}"));
        }
        let bad = [
            "https://app.example/",
            "app.example",
            "https://app.example/chat",
            "https://*.example",
            "*.example",
            "https://app.example ",
            "https://app.example:443",
            "http://app.example:80",
            "wss://app.example",
            "https://",
            "://a",
            "https://u@app.example",
            "https://bücher.example",
            "http://127.0.0.1:80801",
            "https://a:b",
            "",
        ];
        for bad in bad {
            assert!(origin(bad).is_err(), "{bad}");
        }
        let path = origin("https://app.example/chat").expect_err("a path");
        assert!(path.ends_with("write https://app.example"), "{path}");
    }
}
