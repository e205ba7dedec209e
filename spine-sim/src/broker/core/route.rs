//! Where a published message goes: subscribers, one member of each queue group, streams, the JetStream API; and the
//! 503 when nobody took it.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes};
use spine::users::Account;

use super::{ConnId, Core, lossy};
use crate::jetstream::Outgoing;
use crate::parser::Publish;
use crate::subject::trie::SubId;
use crate::subject::{covers, is_literal};
use crate::wire;

/// A republished message may land in another stream and be republished again; after so many hops it is dropped, where
/// a real server would go round for ever.
const HOPS_MAX: u8 = 16;

/// What JetStream says, and in which account.
type Said = (Account, Outgoing);

impl Core {
    /// A client publishes.
    pub(super) fn publish(&mut self, id: ConnId, message: &Publish, now_ms: i64) {
        let Some(conn) = self.conns.get(&id) else { return };
        let connect = &conn.connect;
        if message.header_len.is_some() && !connect.headers {
            // The server hangs up without a word.
            self.end(id);
            return;
        }
        let (user, account) = (conn.user, conn.account);
        let (verbose, pedantic, echo) = (connect.verbose, connect.pedantic, connect.echo);
        let wants_no_responders = connect.no_responders && message.reply.is_some();
        if pedantic && !is_literal(&message.subject) {
            self.error(id, "Invalid Publish Subject");
        }
        if let Some(user) = user
            && let Some(user) = self.options.users.get(user)
            && !user.publish.may_publish(&message.subject)
        {
            let text = format!("Permissions Violation for Publish to \"{}\"", lossy(&message.subject));
            self.error(id, &text);
            return;
        }
        if verbose {
            self.send(id, b"+OK\r\n");
        }
        let mut out = Vec::new();
        let lied = wants_no_responders && self.faults.false_no_responders.strikes();
        let taken = !lied && self.take(account, Some((id, echo)), message, now_ms, &mut out);
        if !taken && wants_no_responders {
            self.no_responders(id, message);
        }
        self.late.append(&mut out);
        if !self.options.late_acks || self.draws_now() {
            self.flush(now_ms);
        }
    }

    /// Whether what streams have said goes out before the next operation. Once held back, it more likely waits for the
    /// read's end, so that a PONG overtakes a whole row of PubAcks; their own order never changes.
    fn draws_now(&mut self) -> bool {
        self.late_draws += 1;
        super::mix(self.options.seed ^ super::mix(self.late_draws)).is_multiple_of(3)
    }

    /// Sends what streams have said so far; at the end of each read at the latest.
    pub(crate) fn flush(&mut self, now_ms: i64) {
        let late = std::mem::take(&mut self.late);
        self.send_all(late, now_ms);
    }

    /// What became of held-back appends.
    pub(crate) fn settle_undecided(&mut self, stored: bool, now_ms: i64) {
        let out = self.jetstream.settle(stored, now_ms, &mut self.faults);
        self.send_all(out.into_iter().map(|said| (Account::Log, said)).collect(), now_ms);
    }

    /// Sends what JetStream says, and what that causes in turn.
    fn send_all(&mut self, out: Vec<Said>, now_ms: i64) {
        let mut queue: VecDeque<(Said, u8)> = out.into_iter().map(|said| (said, 0)).collect();
        while let Some(((account, Outgoing { subject, header_len, payload }), hops)) = queue.pop_front() {
            if hops >= HOPS_MAX {
                continue;
            }
            let message = Publish { subject, reply: None, header_len, payload };
            let mut caused = Vec::new();
            self.take(account, None, &message, now_ms, &mut caused);
            queue.extend(caused.into_iter().map(|said| (said, hops + 1)));
        }
    }

    /// Subscribers, then streams or the API, which are in LOG; what is asked in APP may cross. False: nobody took it.
    fn take(
        &mut self,
        account: Account,
        from: Option<(ConnId, bool)>,
        message: &Publish,
        now_ms: i64,
        out: &mut Vec<Said>,
    ) -> bool {
        let taken = self.deliver(account, from, message);
        match account {
            Account::Log => taken | self.ask_jetstream(Account::Log, message, now_ms, out),
            Account::App => match self.border.lets_in(&message.subject) {
                Some(subject) => {
                    let asked = Publish { subject, ..message.clone() };
                    let overheard = self.deliver(Account::Log, None, &Publish { reply: None, ..asked.clone() });
                    taken | overheard | self.ask_jetstream(Account::App, &asked, now_ms, out)
                }
                None => taken,
            },
        }
    }

    /// To JetStream, which answers in the account of who asks; what else it says is said in LOG.
    fn ask_jetstream(&mut self, asker: Account, message: &Publish, now_ms: i64, out: &mut Vec<Said>) -> bool {
        let mut said = Vec::new();
        let taken = if message.subject.starts_with(b"$JS.API.") {
            let body = &message.payload[message.header_len.unwrap_or(0)..];
            std::str::from_utf8(&message.subject)
                .is_ok_and(|subject| self.jetstream.request(subject, body, message.reply.as_ref(), now_ms, &mut said))
        } else {
            self.jetstream.ingest(message, now_ms, &mut self.faults, &mut said)
        };
        out.extend(said.into_iter().map(|said| (asker, said)));
        taken
    }

    fn deliver(&mut self, account: Account, from: Option<(ConnId, bool)>, message: &Publish) -> bool {
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        self.tries[account as usize].matches(&message.subject, &mut matched);
        if account == Account::Log && self.border.lets_out(&message.subject) {
            self.tries[Account::App as usize].matches(&message.subject, &mut matched);
            matched.sort_unstable();
        }
        let mut groups: BTreeMap<Bytes, Vec<SubId>> = BTreeMap::new();
        let mut delivered = false;
        for number in &matched {
            if !self.may_have(*number, from, &message.subject) {
                continue;
            }
            match self.subs.get(number).and_then(|sub| sub.queue.clone()) {
                None => delivered |= self.deliver_to(*number, message),
                Some(queue) => groups.entry(queue).or_default().push(*number),
            }
        }
        self.matched = matched;
        for (queue, members) in groups {
            let turn = self.turns.next(self.options.seed, &queue, &message.subject);
            let at = usize::try_from(turn % members.len() as u64).unwrap_or_default();
            delivered |= self.deliver_to(members[at], message);
        }
        delivered
    }

    fn may_have(&self, number: SubId, from: Option<(ConnId, bool)>, subject: &[u8]) -> bool {
        let Some(sub) = self.subs.get(&number) else { return false };
        let Some(conn) = self.conns.get(&sub.conn).filter(|conn| !conn.closing) else { return false };
        if from.is_some_and(|(publisher, echo)| !echo && publisher == sub.conn) {
            return false;
        }
        let user = conn.user.and_then(|user| self.options.users.get(user));
        !sub.filtered || user.is_none_or(|user| user.subscribe.may_receive(subject))
    }

    fn deliver_to(&mut self, number: SubId, message: &Publish) -> bool {
        let Some(sub) = self.subs.get_mut(&number) else { return false };
        let Some(conn) = self.conns.get_mut(&sub.conn) else { return false };
        sub.seen += 1;
        let header_len = message.header_len.filter(|_| conn.connect.headers);
        let payload = match (header_len, message.header_len) {
            (None, Some(skipped)) => &message.payload[skipped..],
            _ => &message.payload[..],
        };
        wire::put_message(&mut conn.out, &message.subject, &sub.sid, message.reply.as_deref(), header_len, payload);
        conn.wake.notify_one();
        let (owner, over) = (sub.conn, conn.out.len() > self.options.max_pending);
        let ended = sub.max.is_some_and(|max| sub.seen >= max);
        if ended {
            self.remove_sub(number);
        }
        if over {
            tracing::debug!(conn = owner, "slow consumer: cut off");
            self.drop_now(owner);
        }
        true
    }

    /// Tells the publisher that nobody listens, on whichever of its subscriptions waits for the reply.
    fn no_responders(&mut self, id: ConnId, message: &Publish) {
        let Some(reply) = &message.reply else { return };
        let waiting = self.conns.get(&id).and_then(|conn| {
            conn.subs
                .values()
                .copied()
                .filter(|number| self.subs.get(number).is_some_and(|sub| covers(&sub.pattern, reply)))
                .min()
        });
        let Some(number) = waiting else { return };
        let mut header = bytes::BytesMut::from(&b"NATS/1.0 503\r\nNats-Subject: "[..]);
        header.put_slice(&message.subject);
        header.put_slice(b"\r\n\r\n");
        let answer =
            Publish { subject: reply.clone(), reply: None, header_len: Some(header.len()), payload: header.freeze() };
        self.deliver_to(number, &answer);
    }
}
