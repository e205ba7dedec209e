//! Publishing through `NatsSpine` costs at most 0.05 heap allocations a message, the client's own included: blocks of
//! its queue, one for 32 messages.

#[path = "../benches/support/counting.rs"]
mod counting;

use std::path::Path;

use bytes::Bytes;
use proto::Subject;
use spine::server::{NatsServer, ServerOptions};
use spine::{Link, NatsSpine, Spine, SpineOptions};

const MESSAGES: u32 = 50_000;
const LIMIT: f64 = 0.05;

// The only test in this file: another one's allocations would be counted, too.
#[tokio::test]
async fn publishing_hardly_allocates() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let binary = NatsServer::pinned(root).unwrap_or_else(|e| panic!("{e}"));
    let server = NatsServer::start(ServerOptions::new(binary)).await.unwrap();
    let spine = NatsSpine::connect(SpineOptions::new(server.url(), "count", "_INBOX.s.count"));
    spine.link().wait_for(Link::is_up).await.unwrap();

    let room = proto::RoomKey::new("acme".parse().unwrap(), "lobby".parse().unwrap());
    let node = "count".parse().unwrap();
    let (to, slot) = (Subject::output(&room), Subject::reply_slot(&node, 7));
    let body = Bytes::from(vec![b'x'; 256]);
    drop(body.clone());

    for (what, reply) in [("plain", None), ("with a reply slot", Some(&slot))] {
        publish(&spine, &to, reply, &body).await;
        let before = counting::allocations();
        publish(&spine, &to, reply, &body).await;
        let each = (counting::allocations() - before) as f64 / f64::from(MESSAGES);
        println!("{what}: {each:.4} allocations a message");
        assert!(each <= LIMIT, "{what}: {each:.4} allocations a message, more than {LIMIT}");
    }
    spine.close().await;
}

async fn publish(spine: &NatsSpine, to: &Subject, reply: Option<&Subject>, body: &Bytes) {
    for _ in 0..MESSAGES {
        spine.publish(to, reply, body.clone()).await.expect("the broker is up");
    }
}
