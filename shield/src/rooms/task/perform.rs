//! What a room's core wants done: questions, reads, and messages to its subscribers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::json::{SubResult, Unsubbed};
use proto::{Code, frame, v1};
use spine::{Spine, StreamSeq, Via};
use voltron_core::trace::{self, Record};
use voltron_core::{Ids, WallClock, mark, mutant};

use super::seat::{come_again, refuse};
use super::{Room, ask};
use crate::outbox::{Class, Frame, Outbox, Pushed};
use crate::rooms::core::{Effect, Input, Note, SubId, SyncFor};
use crate::rooms::entry::Entry;

/// Entries that one read of the room's own may return.
const READ_MAX: u32 = 64;
/// The same for one subscriber that catches up: a part that it will soon have read.
const READ_FOR_MAX: u32 = 16;

impl<S: Spine, C: WallClock, I: Ids> Room<S, C, I> {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Sync { of, ask, after_ms } => self.sync(of, ask, after_ms),
            Effect::Read { from, attempt } => self.read(None, from, attempt, |entries| Input::Read { entries }),
            Effect::ReadFor { id, from, attempt } => {
                // Without a seat it was deferred or removed in this very step.
                let Some(reader) = self.seats.get(&id).map(|seat| seat.outbox.clone()) else { return };
                self.read(Some(reader), from, attempt, move |entries| Input::ReadFor { id, entries });
            }
            Effect::Refuse { id, code, message } => {
                if let Some(seat) = self.seats.remove(&id) {
                    self.shared.meters.subscriptions.dec();
                    if mutant!(SubUnanswered) {
                        return;
                    }
                    if code == Code::RoomAbsent {
                        self.shared.absent.note(&self.route.key, seat.asked);
                    }
                    refuse(&seat, code, &message, come_again(&self.shared, code));
                }
            }
            Effect::Admit { id, epoch, seq, recovered, replays, replay, snapshot, members } => {
                if self.seats.get(&id).is_some_and(|seat| seat.outbox.crowded()) {
                    return self.defer(id);
                }
                let Some(seat) = self.seats.get(&id) else { return };
                if recovered {
                    mark!("shield.resume");
                }
                let room = self.route.key.room.as_str();
                let result = SubResult::ok(seat.request, room, (epoch, seq), recovered, replays);
                seat.outbox.admit(seat.dialect.sub(&result), &seat.ticket);
                let members = (!members.is_empty()).then(|| frame::publish(&members));
                for frame in replay.into_iter().chain(snapshot).chain(members) {
                    self.event(id, &frame, Class::Bulk);
                }
                if let Some(seat) = self.seats.get(&id) {
                    // The next SUB of that connection may wait for this.
                    seat.outbox.nudge();
                }
            }
            Effect::Announce { id, snapshot } => {
                if self.seats.get(&id).is_some_and(|seat| seat.outbox.crowded()) {
                    // It comes again once it has read what waits for it.
                    self.perform(Effect::Remove { id, code: Code::GapUnrecoverable });
                    return self.step(Input::Leave { id });
                }
                for frame in snapshot {
                    self.event(id, &frame, Class::Bulk);
                }
            }
            Effect::Event { id, frame, class } => self.event(id, &frame, class),
            Effect::Remove { id, code } => {
                if let Some(seat) = self.seats.remove(&id) {
                    self.shared.meters.subscriptions.dec();
                    seat.outbox.cancel(&seat.ticket);
                    let notice = Unsubbed {
                        room: self.route.key.room.to_string(),
                        code: Some(code.as_u16()),
                        message: Some(code.message().into()),
                        resub: Some(true),
                        ..Unsubbed::default()
                    };
                    seat.outbox.push(seat.dialect.unsub(&notice));
                }
            }
            Effect::Note(note) => self.note(note),
        }
    }

    /// More waits for this connection than it may be given on top: its session asks again later.
    fn defer(&mut self, id: SubId) {
        if let Some(seat) = self.seats.remove(&id) {
            self.shared.meters.subscriptions.dec();
            seat.outbox.defer(&seat.ticket);
        }
        self.step(Input::Leave { id });
    }

    fn note(&self, note: Note) {
        let meters = &self.shared.meters;
        match note {
            Note::Gap => {
                mark!("shield.gap");
                meters.gaps.inc();
            }
            Note::Repaired => {
                mark!("shield.gap-repaired");
                meters.recoveries.inc();
            }
            Note::Unrecoverable => {
                mark!("shield.unrecoverable");
                meters.unrecoverable.inc();
                tracing::warn!(room = %self.route.key, "a gap could not be closed: subscribers must come anew");
            }
            Note::Void => {
                meters.void_entries.inc();
            }
            Note::NewEpoch => {
                meters.new_epochs.inc();
                tracing::info!(room = %self.route.key, "a new epoch");
            }
        }
    }

    fn event(&mut self, id: SubId, event: &Bytes, class: Class) {
        let Some(seat) = self.seats.get(&id) else { return };
        let out = if seat.dialect.json_events && class == Class::Bulk {
            Frame::Event(event.clone())
        } else if seat.dialect.json_events {
            match &self.rendered {
                Some((last, out)) if last.as_ptr() == event.as_ptr() && last.len() == event.len() => out.clone(),
                _ => {
                    let Some(out) = Frame::json(event) else { return };
                    self.rendered = Some((event.clone(), out.clone()));
                    out
                }
            }
        } else {
            Frame::Binary(event.clone())
        };
        match seat.outbox.push_event(out, class, &seat.ticket) {
            Pushed::Queued => {
                self.shared.meters.delivered.inc();
            }
            Pushed::Dropped => {
                self.shared.meters.ephemeral_dropped.inc();
            }
            Pushed::Ended => trace::emit(|| Record::Queue {
                name: "outbox.bytes".into(),
                len: seat.outbox.depth().0 as u64,
                cap: self.shared.limits.load().queue_bytes.into(),
            }),
        }
    }

    /// Reads the log, once `reader` has read most of what it was given before.
    fn read(
        &self,
        reader: Option<Arc<Outbox>>,
        from: u64,
        attempt: u32,
        done: impl FnOnce(Option<Vec<Entry>>) -> Input + Send + 'static,
    ) {
        let (shared, log, results) = (self.shared.clone(), self.log.clone(), self.results.clone());
        voltron_core::tasks::spawn(async move {
            let _turn = match &reader {
                Some(reader) => reader.turn_to_catch_up().await,
                None => None,
            };
            let max = if reader.is_some() { READ_FOR_MAX } else { READ_MAX };
            if attempt > 0 {
                // A follower that lags, or a broker on its way back.
                tokio::time::sleep(Duration::from_millis(10 << attempt.min(6))).await;
            }
            let via = if attempt < 2 { Via::Direct } else { Via::Leader };
            let entries = match shared.spine.read(&log, StreamSeq(from), max, via).await {
                Ok(batch) => {
                    Some(batch.entries.iter().map(|stored| Entry::decode(stored.seq.0, &stored.body)).collect())
                }
                Err(error) => {
                    tracing::debug!(%error, from, "cannot read the log");
                    None
                }
            };
            let _ = results.send(done(entries));
        });
    }

    fn sync(&mut self, of: SyncFor, ask: v1::Sync, after_ms: u64) {
        let seat = match of {
            SyncFor::Sub(id) => self.seats.get_key_value(&id),
            // The room's own question needs a name, too: that of each subscriber in turn, so that one whom the owner
            // refuses holds up nobody.
            SyncFor::Announce | SyncFor::Resolve => {
                let next = self.seats.range(self.asked_by + 1..).next().or_else(|| self.seats.first_key_value());
                self.asked_by = next.map_or(0, |(id, _)| *id);
                next
            }
        };
        let Some(asker) = seat.map(|(_, seat)| seat.asker.clone()) else {
            let nobody = Err((Code::Unavailable, String::new()));
            let _ = self.results.send(Input::Synced { of, reply: nobody });
            return;
        };
        let (shared, route, results) = (self.shared.clone(), self.route.clone(), self.results.clone());
        let joins = matches!(of, SyncFor::Sub(_)).then(|| self.shared.rooms.joins.clone());
        voltron_core::tasks::spawn(async move {
            if after_ms > 0 {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
            }
            let _place = match joins {
                Some(joins) => joins.acquire_owned().await.ok(),
                None => None,
            };
            if matches!(of, SyncFor::Sub(_)) && shared.absent.knows(&route.key) {
                // Another has just asked.
                let absent = Err((Code::RoomAbsent, Code::RoomAbsent.message().to_owned()));
                let _ = results.send(Input::Synced { of, reply: absent });
                return;
            }
            let reply = ask::owner(&shared, &route, &asker, v1::system_signal::Ask::Sync(ask)).await;
            let _ = results.send(Input::Synced { of, reply });
        });
    }
}
