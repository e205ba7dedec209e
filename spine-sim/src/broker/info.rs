//! What the two sides say about themselves: the server's `INFO`, the client's `CONNECT`.

use serde::{Deserialize, Serialize};

/// The server's `INFO`, in nats-server's field order.
#[derive(Serialize)]
pub(super) struct Info<'a> {
    pub(super) server_id: &'a str,
    pub(super) server_name: &'a str,
    pub(super) version: &'a str,
    pub(super) proto: u32,
    pub(super) go: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) headers: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) auth_required: bool,
    pub(super) max_payload: usize,
    pub(super) jetstream: bool,
    pub(super) client_id: u64,
    pub(super) client_ip: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) connect_info: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remote_account: Option<&'a str>,
    pub(super) api_lvl: u32,
}

/// The client's `CONNECT`; what is absent has nats-server's defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(super) struct Connect {
    pub(super) verbose: bool,
    pub(super) pedantic: bool,
    pub(super) echo: bool,
    pub(super) headers: bool,
    pub(super) no_responders: bool,
    pub(super) protocol: i64,
    pub(super) name: String,
    pub(super) user: Option<String>,
    pub(super) pass: Option<String>,
}

impl Connect {
    /// As Go reads it: `null` leaves the default, unknown keys are skipped.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).ok()?;
        fields.retain(|_, value| !value.is_null());
        serde_json::from_value(fields.into()).ok()
    }
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            name: String::new(),
            user: None,
            pass: None,
        }
    }
}
