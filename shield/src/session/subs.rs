//! SUB and UNSUB of one connection. A few SUBs are under way at a time and none is begun while much of an earlier
//! replay still waits to be written, so that what a connection pins in memory stays bounded. A connection that was given
//! more than it had read asks for one room at a time from then on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proto::json::{Presence, SubRequest, SubResult, Unsubbed, request::HISTORY_MAX};
use proto::{Code, Rights, v1};
use spine::Spine;
use voltron_core::{Ids, WallClock};

use super::Session;
use crate::outbox::Ticket;
use crate::rooms::{Dialect, Joiner, SubId, come_again};
use crate::route::Route;

/// SUBs without their result at a time.
const UNDER_WAY_MAX: usize = 8;

pub(super) struct Subscriptions {
    rooms: BTreeMap<Box<str>, Subscription>,
    /// SUBs that wait for their turn.
    waiting: VecDeque<(SubRequest, Dialect)>,
    /// SUBs that may be under way at a time.
    window: usize,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self { rooms: BTreeMap::new(), waiting: VecDeque::new(), window: UNDER_WAY_MAX }
    }
}

struct Subscription {
    id: SubId,
    route: Arc<Route>,
    ticket: Arc<Ticket>,
    request: SubRequest,
    dialect: Dialect,
}

/// What a SUB is told whose place was taken before it had its result.
const SUPERSEDED: &str = "a later SUB or UNSUB of this connection took its place";

impl<S: Spine, C: WallClock, I: Ids> Session<S, C, I> {
    pub(super) fn on_sub(&mut self, request: SubRequest, dialect: Dialect) {
        let refused = |code: Code, text: &str| SubResult::refused(request.id, Some(&request.room), code, Some(text));
        if let Some(wait) = self.hurried() {
            let result =
                SubResult { retry_after_ms: Some(wait), ..refused(Code::RateLimited, Code::RateLimited.message()) };
            self.outbox.push(dialect.sub(&result));
            return;
        }
        let json_events = request.format.map_or(dialect.text, |format| format == proto::json::Format::Json);
        if json_events && !self.shared.config.server.text_dialect {
            let text = "format json needs [server] text_dialect";
            self.outbox.push(dialect.sub(&refused(Code::TextDialectOff, text)));
            return;
        }
        // The same words as later, but nothing long is kept until then.
        if let Err(denied) = self.gate.room(&request.room) {
            self.outbox.push(dialect.sub(&refused(denied.code, &denied.text)));
            return;
        }
        // As `presence` itself is answered: a good result and then no member would be a lie.
        if request.presence.is_some_and(|presence| presence != Presence::Off) {
            let text = "presence is not served yet: leave it out";
            self.outbox.push(dialect.sub(&refused(Code::UnsupportedOperation, text)));
            return;
        }
        if request.history.is_some_and(|history| history > HISTORY_MAX) {
            self.outbox.push(dialect.sub(&refused(Code::MalformedJson, "history: 0 to 256")));
            return;
        }
        self.subs.rooms.retain(|_, sub| !sub.ticket.cancelled());
        let rooms = self.subs.rooms.len() + self.subs.waiting.len();
        let again = self.subs.rooms.contains_key(request.room.as_str());
        let most = self.shared.limits.load().rooms as usize;
        if (!again && rooms >= most) || self.subs.waiting.len() >= most {
            self.outbox.push(dialect.sub(&refused(Code::TooManyRooms, Code::TooManyRooms.message())));
            return;
        }
        self.subs.waiting.push_back((request, Dialect { json_events, ..dialect }));
        self.begin();
    }

    /// True if a SUB or a get waits and there is room to begin it.
    pub(crate) fn can_begin(&self) -> bool {
        self.outbox.has_deferred() || self.can_begin_sub() || self.can_begin_get()
    }

    /// True if something waits for room in the whole Shield, which nobody tells of.
    pub(crate) fn waits_for_pool(&self) -> bool {
        (!self.subs.waiting.is_empty() || self.gets.waits()) && self.outbox.pool_is_full()
    }

    fn can_begin_sub(&self) -> bool {
        if self.subs.waiting.is_empty() || !self.outbox.may_begin() {
            return false;
        }
        // One room at a time leaves no place for a get beside it: each answer could crowd out the other for ever.
        let under_way = self.subs_under_way() + if self.subs.window == 1 { self.gets.under_way() } else { 0 };
        under_way < self.subs.window
    }

    pub(super) fn subs_under_way(&self) -> usize {
        self.subs.rooms.values().filter(|sub| !sub.ticket.answered()).count()
    }

    /// True if an answer of this connection had to be asked for again.
    pub(super) fn is_narrow(&self) -> bool {
        self.subs.window == 1
    }

    /// Begins what waits, as far as there is room.
    pub(crate) fn begin(&mut self) {
        if self.outbox.take_deferred() {
            self.subs.window = 1;
            let deferred = self.subs.rooms.extract_if(.., |_, sub| sub.ticket.deferred());
            self.subs.waiting.extend(deferred.map(|(_, sub)| (sub.request, sub.dialect)));
        }
        while self.can_begin_sub() {
            if let Some((request, dialect)) = self.subs.waiting.pop_front() {
                self.begin_sub(request, dialect);
            }
        }
        while self.can_begin_get() {
            self.begin_get();
        }
    }

    fn begin_sub(&mut self, request: SubRequest, dialect: Dialect) {
        let shared = self.shared.clone();
        let refused = |code: Code, text: &str| {
            let retry_after_ms = come_again(&shared, code);
            let refused = SubResult::refused(request.id, Some(&request.room), code, Some(text));
            dialect.sub(&SubResult { retry_after_ms, ..refused })
        };
        let (route, rights) = match self.gate.room(&request.room) {
            Ok(found) => found,
            Err(denied) => return self.outbox.send(refused(denied.code, &denied.text)),
        };
        if !rights.has(Rights::SUB) {
            return self.outbox.send(refused(Code::PermissionDenied, Code::PermissionDenied.message()));
        }
        if !self.shared.health.serving() {
            return self.outbox.send(refused(Code::Unavailable, Code::Unavailable.message()));
        }
        if self.shared.absent.knows(&route.key) {
            return self.outbox.send(refused(Code::RoomAbsent, Code::RoomAbsent.message()));
        }
        // A second SUB takes the place of the first: events of the old one that still wait are discarded.
        self.end_sub(&request.room, Code::NotSubscribed, SUPERSEDED);
        let subscription = Subscription {
            id: self.shared.rooms.next_sub(),
            route: route.clone(),
            ticket: Arc::new(Ticket::default()),
            request: request.clone(),
            dialect,
        };
        let since = request.since;
        let joiner = Box::new(Joiner {
            id: subscription.id,
            asked: self.shared.absent.asked(&route.key),
            route,
            outbox: self.outbox.clone(),
            ticket: subscription.ticket.clone(),
            request: request.id,
            dialect,
            sync: v1::Sync {
                since: since.map(|since| v1::Head { epoch: since.epoch, seq: since.seq }),
                since_pos: since.and_then(|since| since.pos).unwrap_or(0),
                history: request.history.unwrap_or(0),
                presence: match request.presence.unwrap_or_default() {
                    Presence::Off => 0,
                    Presence::Count => 1,
                    Presence::List => 2,
                },
                shield: None,
                leave_only: false,
            },
            asker: self.gate.asker(rights),
        });
        let answer = refused(Code::Busy, "this room has too much to do; try again");
        if self.shared.rooms.join(&self.shared, joiner).is_err() {
            self.outbox.push(answer);
            return;
        }
        self.subs.rooms.insert(request.room.as_str().into(), subscription);
    }

    /// Ends a subscription; if its SUB still waits for the result, that is this code.
    fn end_sub(&mut self, room: &str, code: Code, text: &str) -> Option<Subscription> {
        let sub = self.subs.rooms.remove(room)?;
        let live = !sub.ticket.cancelled();
        if !self.outbox.cancel(&sub.ticket) {
            let refused = SubResult::refused(sub.request.id, Some(room), code, Some(text));
            self.outbox.push(sub.dialect.sub(&refused));
        }
        self.shared.rooms.leave(&sub.route.key, sub.id);
        live.then_some(sub)
    }

    pub(super) fn on_unsub(&mut self, room: &str, dialect: Dialect) {
        // Over the budget it takes from the patience and is done all the same: leaving saves work.
        let _ = self.hurried();
        let mut found = self.end_sub(room, Code::NotSubscribed, SUPERSEDED).is_some();
        let outbox = &self.outbox;
        self.subs.waiting.retain(|(request, dialect)| {
            let stays = request.room != room;
            if !stays {
                found = true;
                let refused = SubResult::refused(request.id, Some(room), Code::NotSubscribed, Some(SUPERSEDED));
                outbox.push(dialect.sub(&refused));
            }
            stays
        });
        let mut result = Unsubbed { room: room.into(), ..Unsubbed::default() };
        if !found {
            result.code = Some(Code::NotSubscribed.as_u16());
            result.message = Some(Code::NotSubscribed.message().into());
        }
        self.outbox.push(dialect.unsub(&result));
    }

    /// After a new token: what it no longer grants ends.
    pub(super) fn recheck_rooms(&mut self, _dialect: Dialect) {
        let rooms: Vec<Box<str>> = self.subs.rooms.keys().cloned().collect();
        for room in rooms {
            if self.gate.room(&room).is_ok_and(|(_, rights)| rights.has(Rights::SUB)) {
                continue;
            }
            let code = Code::PermissionDenied;
            if let Some(sub) = self.end_sub(&room, code, code.message()) {
                let result = Unsubbed {
                    room: room.to_string(),
                    code: Some(code.as_u16()),
                    message: Some(code.message().into()),
                    resub: Some(false),
                    ..Unsubbed::default()
                };
                self.outbox.push(sub.dialect.unsub(&result));
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self) {
        for (_, sub) in std::mem::take(&mut self.subs.rooms) {
            self.outbox.cancel(&sub.ticket);
            self.shared.rooms.leave(&sub.route.key, sub.id);
        }
    }
}
