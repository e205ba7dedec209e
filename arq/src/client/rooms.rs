//! The rooms a client is in or wants to be in, and how far it has read in each.

use proto::json::Since;
use proto::json::request::HISTORY_MAX;
use proto::{RoomId, v1};
use tokio::time::Instant;

use super::event::SubOptions;

/// One wanted room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) options: SubOptions,
    pub(crate) standing: Standing,
    /// How far this client has read; what the next SUB resumes from.
    pub(crate) cursor: Option<Since>,
    /// Until an event beyond this seq, or the snapshot's last part, the state at it is not complete here: a
    /// connection lost before then must not resume, or it would never see the snapshot.
    incomplete: Option<u64>,
    /// The parts of the snapshot that is arriving, for the trace alone.
    shown: v1::Snapshot,
    /// How often in a row a SUB was refused.
    pub(crate) refusals: u32,
    /// The room did not exist when it was last asked for: everything in it is newer than the wish.
    pub(crate) absent: bool,
    /// SUBs that an UNSUB or another SUB has overtaken and that have no answer yet, each with its cursor. The server
    /// answers in order: until these are answered, an UNSUB's answer belongs to an earlier UNSUB.
    overtaken: Vec<(u64, Option<Since>)>,
}

/// Where a subscription stands on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not asked for on this connection.
    Out,
    /// Asked with this id and cursor; not answered.
    Asked { id: u64, since: Option<Since> },
    /// To be asked again then.
    Later(Instant),
    /// Answered.
    In,
    /// UNSUB was sent; not answered.
    Leaving,
}

/// What one delivered event means for the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next one, or the first.
    Next,
    /// Everything in `from..=to` is missing.
    Gap { from: u64, to: u64 },
    /// Not beyond the cursor: the cursor stays.
    Old,
}

impl Room {
    pub(crate) fn new(options: SubOptions) -> Self {
        Self {
            options,
            standing: Standing::Out,
            cursor: options.since,
            incomplete: None,
            shown: v1::Snapshot::default(),
            refusals: 0,
            absent: false,
            overtaken: Vec::new(),
        }
    }

    /// The standing on this connection changes; a SUB that is not answered yet is overtaken.
    pub(crate) fn stands(&mut self, standing: Standing) {
        if let Standing::Asked { id, since } = std::mem::replace(&mut self.standing, standing) {
            self.overtaken.push((id, since));
        }
    }

    /// The connection is gone, and every answer with it.
    pub(crate) fn out(&mut self) {
        self.standing = Standing::Out;
        self.overtaken.clear();
    }

    /// True if a SUB that was overtaken has no answer yet.
    pub(crate) const fn owes_answers(&self) -> bool {
        !self.overtaken.is_empty()
    }

    /// The cursor of the overtaken SUB `id`, which is answered now.
    fn answered_late(&mut self, id: u64) -> Option<Option<Since>> {
        let at = self.overtaken.iter().position(|(overtaken, _)| *overtaken == id)?;
        Some(self.overtaken.remove(at).1)
    }

    /// An overtaken SUB succeeded: what follows until the next answer is its `replay` events, or its snapshot.
    pub(crate) fn passes(&mut self, since: Option<Since>, epoch: u64, seq: u64, replay: u64, recovered: bool) {
        let standing = self.standing;
        self.subscribed(since, epoch, seq, replay, recovered);
        self.standing = standing;
    }

    /// What the next SUB resumes from.
    pub(crate) fn since(&self) -> Option<Since> {
        if self.incomplete.is_some() { None } else { self.cursor }
    }

    /// How many past events the next SUB asks for. Who waited for a room to appear gets its first events, too, and not
    /// only a snapshot of what they led to.
    pub(crate) fn history(&self) -> Option<u32> {
        let wanted = if self.absent { HISTORY_MAX } else { self.options.history };
        (self.since().is_none() && wanted > 0).then_some(wanted)
    }

    /// A SUB's answer: what follows is `replay` events up to `seq`, or a snapshot at `seq`, then live events.
    pub(crate) fn subscribed(&mut self, since: Option<Since>, epoch: u64, seq: u64, replay: u64, recovered: bool) {
        self.standing = Standing::In;
        self.refusals = 0;
        self.absent = false;
        self.incomplete = (!recovered).then_some(seq);
        let begin = seq.saturating_sub(replay);
        let kept = since.filter(|since| recovered && since.epoch == epoch && since.seq == begin);
        self.cursor = Some(kept.unwrap_or(Since { epoch, seq: begin, pos: None }));
    }

    /// A stored event at (epoch, seq) whose entry follows stream position `pos`.
    pub(crate) fn step(&mut self, epoch: u64, seq: u64, pos: u64) -> Step {
        let here = Since { epoch, seq, pos: Some(pos) };
        let step = match self.cursor {
            None => Step::Next,
            Some(at) if epoch < at.epoch || (epoch == at.epoch && seq <= at.seq) => return Step::Old,
            Some(at) if epoch == at.epoch && seq == at.seq + 1 => Step::Next,
            Some(at) if epoch == at.epoch => Step::Gap { from: at.seq + 1, to: seq - 1 },
            // A new epoch that no snapshot announced: everything in it before this one is missing.
            Some(_) if seq > 1 => Step::Gap { from: 1, to: seq - 1 },
            Some(_) => Step::Next,
        };
        self.cursor = Some(here);
        self.incomplete = self.incomplete.filter(|head| seq <= *head);
        step
    }

    /// A part of a snapshot, for the trace.
    pub(crate) fn show(&mut self, part: &v1::Snapshot) {
        if part.part == 0 {
            self.shown = v1::Snapshot { lock: part.lock.clone(), ..v1::Snapshot::default() };
        }
        self.shown.entries.extend_from_slice(&part.entries);
    }

    /// All parts of the snapshot that has arrived.
    pub(crate) fn shown(&mut self) -> v1::Snapshot {
        std::mem::take(&mut self.shown)
    }

    /// A snapshot at (epoch, seq): whatever the cursor was, this is the place now.
    pub(crate) fn jump(&mut self, epoch: u64, seq: u64, pos: u64) {
        let here = self.cursor.filter(|at| (at.epoch, at.seq) == (epoch, seq)).and_then(|at| at.pos);
        self.cursor = Some(Since { epoch, seq, pos: (pos > 0).then_some(pos).or(here) });
        self.incomplete = None;
    }

    /// True if this room is `room`'s and waits for the answer to SUB `id`.
    pub(crate) fn awaits(&self, id: u64) -> bool {
        matches!(self.standing, Standing::Asked { id: asked, .. } if asked == id)
    }
}

/// The room that waits for the answer to SUB `id`.
pub(crate) fn asked(rooms: &mut std::collections::BTreeMap<RoomId, Room>, id: u64) -> Option<(RoomId, &mut Room)> {
    rooms.iter_mut().find(|(_, room)| room.awaits(id)).map(|(name, room)| (name.clone(), room))
}

/// The room in which SUB `id` was overtaken, and that SUB's cursor.
pub(crate) fn overtaken(
    rooms: &mut std::collections::BTreeMap<RoomId, Room>,
    id: u64,
) -> Option<(RoomId, &mut Room, Option<Since>)> {
    rooms.iter_mut().find_map(|(name, room)| room.answered_late(id).map(|since| (name.clone(), room, since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, seq: u64) -> Room {
        let mut room = Room::new(SubOptions::default());
        room.subscribed(None, epoch, seq, 0, false);
        room
    }

    #[test]
    fn the_next_event_moves_the_cursor_with_its_position() {
        let mut room = at(7, 3);
        assert_eq!(room.step(7, 4, 90), Step::Next);
        assert_eq!(room.cursor, Some(Since { epoch: 7, seq: 4, pos: Some(90) }));
    }

    #[test]
    fn a_hole_is_named_and_an_old_event_moves_nothing() {
        let mut room = at(7, 3);
        assert_eq!(room.step(7, 6, 90), Step::Gap { from: 4, to: 5 });
        assert_eq!(room.step(7, 6, 90), Step::Old);
        assert_eq!(room.step(6, 99, 90), Step::Old);
        assert_eq!(room.cursor.map(|cursor| cursor.seq), Some(6));
    }

    #[test]
    fn a_new_epoch_begins_at_one_or_with_a_snapshot() {
        let mut room = at(7, 3);
        assert_eq!(room.step(8, 1, 4), Step::Next);
        assert_eq!(room.step(9, 3, 5), Step::Gap { from: 1, to: 2 });
        room.jump(10, 40, 0);
        assert_eq!(room.cursor, Some(Since { epoch: 10, seq: 40, pos: None }));
        assert_eq!(room.step(10, 41, 6), Step::Next);
    }

    #[test]
    fn nothing_is_resumed_before_the_snapshot_is_whole() {
        let mut room = at(7, 3);
        assert_eq!(room.since(), None);
        room.jump(7, 3, 0);
        assert_eq!(room.since(), Some(Since { epoch: 7, seq: 3, pos: None }));
        let mut room = at(7, 3);
        assert_eq!(room.step(7, 4, 9), Step::Next, "live events come after the snapshot");
        assert_eq!(room.since().map(|since| since.seq), Some(4));
    }

    #[test]
    fn a_replay_starts_below_the_head_and_keeps_a_known_position() {
        let since = Since { epoch: 7, seq: 3, pos: Some(12) };
        let mut room = Room::new(SubOptions { since: Some(since), ..SubOptions::default() });
        room.subscribed(Some(since), 7, 5, 2, true);
        assert_eq!(room.cursor, Some(since), "nothing was read yet, so nothing is forgotten");
        assert_eq!(room.step(7, 4, 13), Step::Next);
    }
}
