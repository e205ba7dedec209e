//! Somebody with a token that no server should take: expired, signed by others, for others, or none at all. The handshake
//! is answered, then refused with its code, then closed with the close code that belongs to it.

use std::time::Duration;

use arq::client::{Client, ClientEvent, Core, CoreOptions, Target};
use voltron_core::trace::{self, Record};
use voltron_core::{Ids, Net, WallClock};

/// How long a stranger waits for its refusal.
const LIMIT: Duration = Duration::from_secs(20);

/// A token that must be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What is wrong with it.
    pub what: &'static str,
    /// The token.
    pub token: String,
    /// The ERR that it meets.
    pub code: u16,
    /// The close code after that.
    pub close: u16,
}

/// Knocks once.
pub(super) async fn knock<N: Net, C: WallClock, I: Ids>(
    net: N,
    clock: C,
    ids: I,
    name: String,
    address: String,
    token: Token,
) {
    let core = Core::new(CoreOptions::new(&name), clock, ids);
    let target = Target { url: format!("ws://{address}/v1/ws"), token: Some(token.token), client_id: None };
    let refused = async {
        let stream = net.connect(&address).await.ok()?;
        let mut client = Client::connect(stream, &target, core).await.ok()?;
        for code in [token.code, token.close] {
            trace::emit(|| Record::Bad {
                c: name.clone(),
                m: String::new(),
                what: token.what.to_owned(),
                codes: vec![code],
            });
        }
        while let Some(event) = client.next().await {
            match event {
                ClientEvent::Err { code, .. } => super::told(&name, code),
                // An end without a close frame is the network's.
                ClientEvent::Closed { code, .. } if code >= 4000 => super::told(&name, code),
                // The good token of somebody else would be greeted: nothing explains that.
                ClientEvent::Hello(_) => super::told(&name, 0),
                _ => {}
            }
        }
        Some(())
    };
    let _ = tokio::time::timeout(LIMIT, refused).await;
}
