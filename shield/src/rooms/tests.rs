//! A crowd at one room, and what a room is told: the registry and a room's task over a Spine that answers as an owner.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message as _;
use proto::internal::{Opened, SyncReply};
use proto::v1::{self, envelope::Payload, system_signal::Ask as Asks};
use proto::{Code, NodeId, Rights, RoomId, Subject, TenantId, UserId};
use voltron_core::config::Config;
use voltron_core::metrics::Metrics;
use voltron_core::{AllowAll, OsIds, SystemClock};

use super::*;
use crate::auth::Keys;
use crate::health::Health;
use crate::meters::Meters;
use crate::mock::MockSpine;
use crate::outbox::{Frame, Outbox, Ticket};
use crate::replies::Replies;
use crate::route::Route;
use crate::shared::Connections;

/// What one of seven Shields may have waiting at an owner, whose queue takes 1,024.
const SHARE: usize = 1024 / 7;

type World = Arc<Shared<MockSpine, SystemClock, OsIds>>;

async fn world(spine: MockSpine) -> World {
    let config = Config::default();
    let (health, absent) = (Arc::new(Health::default()), Arc::new(Absent::default()));
    health.set_linked(true);
    let meters = Meters::new(&Metrics::new());
    let node = NodeId::parse("shield-1").unwrap();
    let limit = Duration::from_millis(config.shield.answer_timeout_ms);
    let replies = Replies::new(
        spine.clone(),
        node.clone(),
        1,
        limit,
        crate::replies::Sizes::from(&config.shield),
        health.clone(),
        absent.clone(),
        meters.clone(),
    );
    let shared = Arc::new(Shared {
        node,
        spine,
        clock: SystemClock,
        ids: OsIds,
        overseer: Arc::new(AllowAll),
        limits: Arc::new(ArcSwap::from_pointee(config.limits.clone())),
        keys: Arc::new(ArcSwap::from_pointee(Keys::new(&config.auth, None, Some(&[7; 32])).unwrap())),
        config: Arc::new(config),
        replies: Arc::new(replies),
        rooms: Rooms::default(),
        absent,
        health,
        meters,
        connections: Connections::default(),
    });
    tokio::spawn(shared.replies.clone().run());
    // Until the inbox is subscribed.
    tokio::task::yield_now().await;
    shared
}

fn key() -> RoomKey {
    RoomKey::new(TenantId::parse("acme").unwrap(), RoomId::parse("lobby").unwrap())
}

fn sync_of(body: &Bytes) -> v1::Sync {
    match v1::Envelope::decode(body.clone()).unwrap().payload {
        Some(Payload::Signal(v1::SystemSignal { ask: Some(Asks::Sync(sync)), .. })) => sync,
        other => panic!("a sync: {other:?}"),
    }
}

fn answer(sync: &v1::Sync) -> Bytes {
    let event = v1::Event { epoch: 1, seq: 5, ..v1::Event::default() };
    let snapshot = v1::Envelope { payload: Some(Payload::Event(event)), ..v1::Envelope::default() };
    let snapshot = if sync.leave_only { Vec::new() } else { vec![snapshot.encode_to_vec().into()] };
    SyncReply { epoch: 1, term: 1, seq: 5, pos: 5, snapshot, ..SyncReply::default() }.encode_to_vec().into()
}

/// A subscriber who comes now.
fn join(world: &World, request: u64) -> Arc<Outbox> {
    let (outbox, route) = (Arc::new(Outbox::new(1 << 20, 100)), Arc::new(Route::new(key())));
    let joiner = Joiner {
        id: world.rooms.next_sub(),
        asked: world.absent.asked(&route.key),
        route,
        outbox: outbox.clone(),
        ticket: Arc::new(Ticket::default()),
        request,
        dialect: Dialect { text: true, binary_frames: false, json_events: false },
        sync: v1::Sync::default(),
        asker: Asker {
            user: UserId::parse("ann").unwrap(),
            conn: "c".into(),
            client: Bytes::new(),
            rights: Rights(1),
            meta: Bytes::new(),
        },
    };
    world.rooms.join(world, Box::new(joiner)).expect("there is room for it");
    outbox
}

/// The result of its SUB.
async fn result(outbox: &Outbox) -> serde_json::Value {
    loop {
        match outbox.pop() {
            Some(Frame::Text(text)) => return serde_json::from_str(&text).unwrap(),
            Some(_) => {}
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn four_thousand_enter_a_room_at_once() {
    let (waiting, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most_of = most.clone();
    let spine = MockSpine::new(move |spine, to, reply, body| {
        assert!(to.as_str().starts_with("in."), "{to}");
        most_of.fetch_max(waiting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let (spine, waiting, reply, answer) =
            (spine.clone(), waiting.clone(), reply.unwrap().clone(), answer(&sync_of(body)));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            waiting.fetch_sub(1, Ordering::SeqCst);
            spine.deliver(&reply, None, answer);
        });
    });
    let world = world(spine).await;
    let crowd: Vec<Arc<Outbox>> = (0..4000).map(|n| join(&world, n)).collect();
    for outbox in &crowd {
        let result = result(outbox).await;
        assert_eq!((&result["ok"], &result["seq"]), (&true.into(), &5.into()), "{result}");
    }
    let most = most.load(Ordering::SeqCst);
    assert!(most > 1 && most <= SHARE, "{most} at once at the owner");
}

#[tokio::test(start_paused = true)]
async fn an_absent_room_is_asked_for_again_once_it_is_known_to_exist() {
    let spine = MockSpine::new(|spine, to, reply, _| {
        let Some(reply) = reply else { return };
        if to.as_str().starts_with("open.") {
            let refused = Opened { code: Code::RoomAbsent.as_u16().into(), ..Opened::default() };
            spine.deliver(reply, None, refused.encode_to_vec());
        } else {
            spine.deliver(reply, Some(503), Bytes::new());
        }
    });
    let world = world(spine.clone()).await;
    let refusal = result(&join(&world, 1)).await;
    assert_eq!((&refusal["code"], &refusal["retry_after_ms"]), (&5001.into(), &1000.into()), "{refusal}");
    assert!(world.absent.knows(&key()));
    let asked = spine.published("in.").len();
    let refusal = result(&join(&world, 2)).await;
    assert_eq!((&refusal["code"], spine.published("in.").len()), (&5001.into(), asked), "from memory");
    // What another Shield's client brought into being is heard here.
    spine.deliver(&Subject::output(&key()), None, Bytes::new());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!world.absent.knows(&key()));
    result(&join(&world, 3)).await;
    assert!(spine.published("in.").len() > asked, "asked again");
}

#[tokio::test(start_paused = true)]
async fn a_missed_heartbeat_concerns_the_rooms_of_its_brain_alone() {
    let spine = MockSpine::new(|spine, _, reply, body| spine.deliver(reply.unwrap(), None, answer(&sync_of(body))));
    let world = world(spine.clone()).await;
    assert_eq!(result(&join(&world, 1)).await["ok"], true);
    world.rooms.tell(&key(), Ask::Tail { epoch: 1, term: 1, pos: 5, node: "b".into() });
    let mut asked = spine.published("in.").len();
    for (of, asks) in [(Some("other"), 0), (Some("b"), 1), (None, 1)] {
        world.rooms.tell(&key(), Ask::Relink(of.map(Into::into)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = spine.published("in.").len();
        assert_eq!(now - asked, asks, "{of:?}");
        asked = now;
    }
}
