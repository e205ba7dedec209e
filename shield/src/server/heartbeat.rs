//! Heartbeats: ours, which must come back, and the Brains', which say where their rooms' logs stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use prost::Message as _;
use proto::internal::Heartbeat;
use proto::{Code, Pattern, Subject};
use spine::{Delivery, Link, Spine, SubscribeError};
use tokio::time::Instant;
use voltron_core::{Ids, WallClock, mark, mutant};

use crate::rooms::Ask;
use crate::route::Route;
use crate::shared::Shared;

const KIND_SHIELD: u32 = 1;
const KIND_BRAIN: u32 = 2;
/// The subjects on which a node, and it alone, may say that it lives, and as which kind.
const BEATS: [(&str, u32); 2] = [("sys.n.hb.shield.", KIND_SHIELD), ("sys.n.hb.brain.", KIND_BRAIN)];
/// Brains that are remembered at once.
const BRAINS_MAX: usize = 1024;
/// Over how long rooms are synced anew after a reconnect, in ms.
const SPREAD_MS: u64 = 3000;
const CAPACITY: usize = 4096;

/// Follows the connection to the broker.
pub(super) async fn watch_link<S: Spine, C: WallClock, I: Ids>(shared: Arc<Shared<S, C, I>>) {
    let mut link = shared.spine.link();
    let mut known = 0;
    loop {
        let now = link.borrow_and_update().clone();
        match now {
            Link::Connected { generation, .. } => {
                shared.health.set_linked(true);
                shared.meters.spine_up.set(1);
                if known != 0 && generation != known {
                    mark!("spine.reconnect");
                    tracing::info!(generation, "connected to the Spine again");
                    relink(&shared, None);
                }
                known = generation;
            }
            Link::Down { .. } => {
                // The link is down, too, before the first connection.
                if shared.health.linked() {
                    shared.meters.spine_losses.inc();
                }
                shared.health.set_linked(false);
                shared.meters.spine_up.set(0);
            }
        }
        if link.changed().await.is_err() {
            shared.health.set_linked(false);
            return;
        }
    }
}

/// The rooms ask where their heads are, spread over 3 s: all of them, or those of one Brain.
fn relink<S: Spine, C: WallClock, I: Ids>(shared: &Arc<Shared<S, C, I>>, of: Option<&str>) {
    let of: Option<Arc<str>> = of.map(Into::into);
    for room in shared.rooms.all() {
        let (shared, of, after_ms) = (shared.clone(), of.clone(), shared.below("relink", SPREAD_MS));
        voltron_core::tasks::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            shared.rooms.tell(&room, Ask::Relink(of));
        });
    }
}

/// Says that this Shield lives.
pub(super) async fn speak<S: Spine, C: WallClock, I: Ids>(shared: Arc<Shared<S, C, I>>, incarnation: u64) {
    let subject = Subject::heartbeat_shield(&shared.node);
    let every = Duration::from_millis(shared.config.shield.heartbeat_ms);
    let mut n = 0;
    loop {
        if shared.health.linked() {
            n += 1;
            let beat = Heartbeat {
                node: shared.node.to_string(),
                kind: KIND_SHIELD,
                incarnation,
                n,
                draining: shared.health.draining(),
                ..Heartbeat::default()
            };
            let _ = shared.spine.publish(&subject, None, beat.encode_to_vec().into()).await;
        }
        tokio::time::sleep(every).await;
    }
}

struct Brain {
    incarnation: u64,
    n: u64,
    heard: Instant,
    silent: bool,
}

/// Hears all heartbeats.
pub(super) async fn listen<S: Spine, C: WallClock, I: Ids>(shared: Arc<Shared<S, C, I>>, incarnation: u64) {
    let mut brains: BTreeMap<String, Brain> = BTreeMap::new();
    let mut own = Instant::now();
    let mut told = false;
    let mut closing = false;
    loop {
        let mut beats = match shared.spine.subscribe(&Pattern::all_heartbeats(), None, CAPACITY).await {
            Ok(beats) => beats,
            Err(SubscribeError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot subscribe to the heartbeats; trying again");
                judge_staleness(&shared, own, &mut told, &mut closing);
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let tick = Duration::from_millis((shared.config.shield.heartbeat_ms / 3).clamp(20, 500));
        let mut next_tick = Instant::now() + tick;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(next_tick) => {
                    next_tick = Instant::now() + tick;
                    judge_staleness(&shared, own, &mut told, &mut closing);
                    judge_brains(&shared, &mut brains);
                    open_suspects(&shared, &brains);
                    shared.replies.measure();
                    shared.meters.serving.set(shared.health.serving().into());
                    shared.meters.in_flight.set(i64::try_from(shared.replies.in_flight()).unwrap_or(i64::MAX));
                    shared.meters.queue_bytes.set(i64::try_from(shared.connections.queued_bytes()).unwrap_or(i64::MAX));
                }
                delivery = beats.next() => match delivery {
                    Some(Delivery::Msg(message)) => {
                        let Some(beat) = beat_of(message.subject.as_str(), message.body) else { continue };
                        if beat.kind == KIND_BRAIN {
                            on_brain(&shared, &mut brains, beat);
                        } else if beat.incarnation == incarnation && beat.node == shared.node.as_str() {
                            own = Instant::now();
                            shared.health.echoed();
                            judge_staleness(&shared, own, &mut told, &mut closing);
                        }
                    }
                    // The numbers of the beats that come next say whose were lost.
                    Some(Delivery::Lost(_)) => mark!("spine.delivery-lost"),
                    None => break,
                },
            }
        }
        // The Spine ended the subscription: it was closed.
        shared.health.set_stale(true);
        return;
    }
}

/// A heartbeat, if kind and node are those of its subject: who may publish there is the broker's permission; what is said
/// inside is the sender's word alone. Else a captured Shield could speak of rooms as their owner, and evict their readers.
fn beat_of(subject: &str, body: bytes::Bytes) -> Option<Heartbeat> {
    let beat = Heartbeat::decode(body).ok()?;
    let by = |(prefix, kind): &(&str, u32)| *kind == beat.kind && subject.strip_prefix(prefix) == Some(&beat.node);
    (mutant!(HeartbeatUnchecked) || BEATS.iter().any(by)).then_some(beat)
}

/// A Brain's word: its rooms' tails, and by its numbers whether one was missed.
fn on_brain<S: Spine, C: WallClock, I: Ids>(
    shared: &Arc<Shared<S, C, I>>,
    brains: &mut BTreeMap<String, Brain>,
    beat: Heartbeat,
) {
    // A number that does not follow: heartbeats were lost, or who sends them began anew, and what was to be told in
    // between is told no more. Only rooms of this Brain can be behind for that.
    let missed = brains
        .get(&beat.node)
        .is_some_and(|brain| brain.incarnation != beat.incarnation || beat.n != brain.n.saturating_add(1));
    if missed {
        mark!("shield.heartbeat-missed");
        relink(shared, Some(&beat.node));
    }
    if brains.len() >= BRAINS_MAX && !brains.contains_key(&beat.node) {
        return;
    }
    shared.health.set_brain(true);
    let node: Arc<str> = beat.node.as_str().into();
    for tail in &beat.tails {
        if let Some(room) = shared.rooms.by_hash(tail.room) {
            let ask = Ask::Tail { epoch: tail.epoch, term: tail.term, pos: tail.pos, node: node.clone() };
            shared.rooms.tell(&room, ask);
        }
    }
    let brain = Brain { incarnation: beat.incarnation, n: beat.n, heard: Instant::now(), silent: false };
    brains.insert(beat.node, brain);
}

/// A Brain that was not heard for long: the rooms it owned are opened, naming it.
fn judge_brains<S: Spine, C: WallClock, I: Ids>(shared: &Arc<Shared<S, C, I>>, brains: &mut BTreeMap<String, Brain>) {
    let down = Duration::from_millis(shared.config.brain.down_after_ms);
    for (node, brain) in brains.iter_mut() {
        if !brain.silent && brain.heard.elapsed() >= down && shared.health.serving() {
            brain.silent = true;
            tracing::warn!(brain = %node, "no heartbeat: opening its rooms elsewhere");
            let name: Arc<str> = node.as_str().into();
            for room in shared.rooms.all() {
                shared.rooms.tell(&room, Ask::Silent(name.clone()));
            }
        }
    }
    shared.health.set_brain(brains.values().any(|brain| brain.heard.elapsed() < down));
    brains.retain(|_, brain| brain.heard.elapsed() < Duration::from_secs(600));
}

/// Rooms whose owner left a command unanswered: whoever should own them is asked to see to it. An owner that missed a
/// heartbeat besides is named; of a room that nobody here follows no owner is known.
fn open_suspects<S: Spine, C: WallClock, I: Ids>(shared: &Arc<Shared<S, C, I>>, brains: &BTreeMap<String, Brain>) {
    let suspects = shared.health.take_suspects();
    if suspects.is_empty() {
        return;
    }
    let missed = Duration::from_millis(shared.config.brain.heartbeat_ms.saturating_mul(2));
    let silent = brains.iter().filter(|(_, brain)| brain.heard.elapsed() >= missed);
    let silent: Arc<BTreeSet<String>> = Arc::new(silent.map(|(node, _)| node.clone()).collect());
    for room in suspects {
        if shared.rooms.tell(&room, Ask::Unanswered(silent.clone())) {
            continue;
        }
        let shared = shared.clone();
        voltron_core::tasks::spawn(async move {
            let limit = Duration::from_millis(shared.config.shield.answer_timeout_ms);
            shared.replies.open(&Route::new(room), false, None, limit).await;
        });
    }
}

/// Without our own heartbeat back nothing that we tell clients is certain.
fn judge_staleness<S: Spine, C: WallClock, I: Ids>(
    shared: &Arc<Shared<S, C, I>>,
    own: Instant,
    told: &mut bool,
    closing: &mut bool,
) {
    let config = &shared.config.shield;
    let silent = own.elapsed();
    let stale = silent >= Duration::from_millis(config.stale_ms);
    shared.health.set_stale(stale);
    if stale && !*told {
        *told = true;
        tracing::warn!("our own heartbeat does not come back: commands are refused");
        shared.connections.tell(Code::Stale, Code::Stale.message());
    }
    if !stale {
        if *told {
            tracing::info!("our own heartbeat is back");
            shared.connections.tell(Code::Current, Code::Current.message());
            relink(shared, None);
        }
        *told = false;
        *closing = false;
    }
    if silent >= Duration::from_millis(config.stale_ms.saturating_add(config.stale_close_ms)) && !*closing {
        *closing = true;
        for outbox in shared.connections.all() {
            let after_ms = shared.below("stale-close", SPREAD_MS);
            voltron_core::tasks::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                outbox.end(Code::CloseSpineDown, Code::CloseSpineDown.message(), true);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_the_word_of_its_subject() {
        let beat = |subject: &str, node: &str, kind: u32| {
            let beat = Heartbeat { node: node.into(), kind, ..Heartbeat::default() };
            beat_of(subject, beat.encode_to_vec().into()).map(|beat| beat.node)
        };
        assert_eq!(beat("sys.n.hb.brain.b-1", "b-1", KIND_BRAIN).as_deref(), Some("b-1"));
        assert_eq!(beat("sys.n.hb.shield.s-1", "s-1", KIND_SHIELD).as_deref(), Some("s-1"));
        let forged = [
            ("sys.n.hb.shield.s-2", "b-1", KIND_BRAIN),
            ("sys.n.hb.shield.s-2", "s-2", KIND_BRAIN),
            ("sys.n.hb.shield.s-2", "s-1", KIND_SHIELD),
            ("sys.n.hb.shield.s-2", "s-2", 0),
            ("sys.n.hb.brain.b-1", "b-2", KIND_BRAIN),
            ("sys.n.hb.brain.b-1", "b-1", KIND_SHIELD),
            ("sys.n.hb.brain", "", KIND_BRAIN),
        ];
        for (subject, node, kind) in forged {
            assert_eq!(beat(subject, node, kind), None, "{node} as {kind} on {subject}");
        }
        assert_eq!(beat_of("sys.n.hb.brain.b-1", bytes::Bytes::from_static(&[0xff])), None);
    }
}
