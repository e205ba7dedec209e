//! From an accepted socket to a served connection: handshake within its time limit, HELLO, then the connection's loop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use proto::frame;
use proto::json::{Hello, Limits, SignatureMode};
use spine::Spine;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use voltron_core::{Ids, OsIds, WallClock, mutant};

use super::admission::Place;
use super::handshake::{self, Decision, Offer};
use crate::auth::{Identity, Refusal};
use crate::connection;
use crate::meters::CodeLabel;
use crate::outbox::{Bounds, Frame, Outbox};
use crate::session::Session;
use crate::shared::Shared;

/// Takes a socket to its end. `place` is held until it is past its handshake, and may be needed by a newer socket.
pub(super) async fn run<S: Spine, C: WallClock, I: Ids, T: AsyncRead + AsyncWrite + Unpin + Send>(
    shared: Arc<Shared<S, C, I>>,
    mut stream: T,
    place: Place,
) {
    let limit = Duration::from_millis(shared.config.shield.handshake_ms);
    let deciding = tokio::time::timeout(limit, async {
        let (decision, tail) = handshake::read_and_decide(&shared, &mut stream, &place).await?;
        stream.write_all(&decision.response()).await?;
        stream.flush().await?;
        std::io::Result::Ok((decision, tail))
    });
    let decided = tokio::select! {
        biased;
        decided = deciding => decided,
        () = place.evicted() => {
            let decision = Decision::evicted();
            if let Decision::Http { refusal, .. } = &decision {
                count(&shared, refusal);
            }
            // As much as the socket takes at once: nothing here may wait any more.
            let _ = stream.write_all(&decision.response()).now_or_never();
            return;
        }
    };
    let Ok(Ok((decision, tail))) = decided else { return };
    let outbox = Arc::new(Outbox::with(Bounds::Live(shared.limits.clone()), shared.connections.pool.clone()));
    let config = connection::websocket_config(shared.limits.load().message_bytes as usize);
    match decision {
        Decision::Http { refusal, .. } => {
            count(&shared, &refusal);
            leave(&place, Duration::from_secs(1), async {
                let _ = stream.shutdown().await;
            })
            .await;
        }
        Decision::RefuseUpgraded { refusal, close, .. } => {
            count(&shared, &refusal);
            let mut ws = WebSocketStream::from_partially_read(stream, tail, Role::Server, Some(config)).await;
            leave(&place, Duration::from_secs(2), async {
                let _ = handshake::say_refusal(&mut ws, &refusal, close).await;
            })
            .await;
        }
        Decision::Accept { offer, client, identity, .. } => {
            let mut id = [0; 16];
            if mutant!(BareEntropy) {
                OsIds.fill("conn", &mut id);
            } else {
                shared.ids.fill("conn", &mut id);
            }
            let conn = data_encoding::HEXLOWER.encode(&id);
            outbox.push(hello(&shared, &conn, &identity, offer));
            let text_only = offer == Offer::Nothing;
            let session = Session::new(shared.clone(), outbox.clone(), conn, client, *identity, text_only);
            let n = shared.connections.add(outbox.clone());
            drop(place);
            if shared.connections.closed() {
                super::send_away(&shared, &outbox);
            }
            shared.meters.connections.inc();
            let _gone = Gone { shared: shared.clone(), n };
            connection::run(shared, (stream, tail), outbox, session).await;
        }
    }
}

/// The end of a refused handshake: within its limit, and only while no newer socket needs the place.
async fn leave(place: &Place, limit: Duration, end: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        _ = tokio::time::timeout(limit, end) => {}
        () = place.evicted() => {}
    }
}

/// Takes the connection off the list however its task ends.
struct Gone<S, C, I> {
    shared: Arc<Shared<S, C, I>>,
    n: u64,
}

impl<S, C, I> Drop for Gone<S, C, I> {
    fn drop(&mut self) {
        self.shared.connections.remove(self.n);
        self.shared.meters.connections.dec();
    }
}

fn count<S, C, I>(shared: &Shared<S, C, I>, refusal: &Refusal) {
    shared.meters.refused_handshakes.get_or_create(&CodeLabel { code: refusal.code.as_u16().into() }).inc();
    tracing::debug!(code = refusal.code.as_u16(), text = %refusal.text, "handshake refused");
}

fn hello<S: Spine, C: WallClock, I: Ids>(
    shared: &Shared<S, C, I>,
    conn: &str,
    identity: &Identity,
    offer: Offer,
) -> Frame {
    let limits = shared.limits.load();
    let hello = Hello {
        op: (offer == Offer::Nothing).then(|| "hello".into()),
        version: "arqon.v1".into(),
        conn: conn.into(),
        node: shared.node.to_string(),
        tenant: identity.tenant.to_string(),
        user: identity.user.to_string(),
        exp: identity.exp_s,
        heartbeat_ms: shared.config.shield.ping_ms,
        limits: Limits {
            message_bytes: limits.message_bytes.into(),
            rooms: limits.rooms,
            pub_per_s: limits.pub_per_s,
            pub_burst: limits.pub_burst,
        },
        time: shared.clock.now_ms(),
        stale: shared.health.stale(),
        signatures: if identity.key.is_some() { SignatureMode::Required } else { SignatureMode::Off },
    };
    match offer {
        Offer::Nothing => Frame::Text(proto::json::to_string(&hello).into()),
        Offer::Arqon => Frame::Text(frame::text(frame::HELLO, &hello).into()),
    }
}

/// The client's own id: 16 bytes.
pub(super) type ClientId = Bytes;
