use super::*;
use proto::{RoomId, TenantId};

struct Bench {
    table: Table,
    route: Arc<Route>,
    order: u64,
    now: Instant,
}

impl Bench {
    fn new(slots: u16) -> Self {
        let key = RoomKey::new(TenantId::parse("acme").unwrap(), RoomId::parse("lobby").unwrap());
        Self { table: Table::new(slots), route: Arc::new(Route::new(key)), order: 0, now: Instant::now() }
    }

    fn pending(&mut self, outbox: &Arc<Outbox>) -> Pending {
        self.order += 1;
        Pending {
            order: self.order,
            outbox: outbox.clone(),
            route: self.route.clone(),
            message_id: id(self.order),
            ack_requested: true,
            form: Form::Binary,
            create: false,
            body: Bytes::new(),
            since: self.now,
        }
    }

    fn publish(&mut self, outbox: &Arc<Outbox>) -> u16 {
        let pending = self.pending(outbox);
        match self.table.submit(pending, self.now + Duration::from_secs(2)) {
            Submitted::Publish { slot, .. } => slot,
            _ => panic!("published"),
        }
    }

    fn later(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }
}

fn id(order: u64) -> MessageId {
    MessageId(u128::from(order).to_be_bytes())
}

fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(1 << 20, 100))
}

fn ok(order: u64) -> Brief {
    Brief { message_id: id(order), code: 0, head: (1, order) }
}

#[test]
fn an_answer_finds_its_command_and_no_other() {
    let (mut bench, outbox) = (Bench::new(4), outbox());
    let slot = bench.publish(&outbox);
    assert!(matches!(bench.table.answered(slot, &ok(99)), Answered::Stray), "another's message id");
    assert!(matches!(bench.table.answered(slot, &ok(1)), Answered::Done { .. }));
    assert!(matches!(bench.table.answered(slot, &ok(1)), Answered::Stray), "at most one answer");
    assert_eq!(bench.table.in_flight(), 0);
}

#[test]
fn slots_are_bounded_and_rest_after_a_timeout() {
    let (mut bench, outbox) = (Bench::new(2), outbox());
    let slots = [bench.publish(&outbox), bench.publish(&outbox)];
    let third = bench.pending(&outbox);
    assert!(matches!(bench.table.submit(third, bench.now), Submitted::Busy(_)));
    bench.later(2000);
    assert_eq!(bench.table.sweep(bench.now).len(), 2);
    assert!(matches!(bench.table.answered(slots[0], &ok(1)), Answered::Stray), "late");
    let fourth = bench.pending(&outbox);
    assert!(matches!(bench.table.submit(fourth, bench.now), Submitted::Busy(_)), "they rest");
    bench.later(4000);
    assert!(bench.table.sweep(bench.now).is_empty());
    bench.publish(&outbox);
}

#[test]
fn a_stalled_room_keeps_the_order() {
    let (mut bench, outbox) = (Bench::new(8), outbox());
    let (one, two) = (bench.publish(&outbox), bench.publish(&outbox));
    assert!(matches!(bench.table.no_responders(two, bench.now), Answered::Stalled { begin: Some(_) }));
    assert!(matches!(bench.table.no_responders(one, bench.now), Answered::Stalled { begin: None }));
    let three = bench.pending(&outbox);
    assert!(matches!(bench.table.submit(three, bench.now), Submitted::Waits));
    for order in 1..=3 {
        let Next::Probe { slot, .. } = bench.table.next(&bench.route, bench.now + Duration::from_secs(2)) else {
            panic!("{order}: goes out")
        };
        assert!(matches!(bench.table.answered(slot, &ok(order)), Answered::Done { .. }), "{order} in its turn");
    }
    assert!(matches!(bench.table.next(&bench.route, bench.now), Next::Over));
    bench.publish(&outbox);
}

#[test]
fn a_command_whose_successor_was_applied_is_given_up() {
    let (mut bench, ann, bob) = (Bench::new(8), outbox(), outbox());
    let (one, other, two) = (bench.publish(&ann), bench.publish(&bob), bench.publish(&ann));
    bench.table.no_responders(one, bench.now);
    bench.table.no_responders(other, bench.now);
    assert!(matches!(bench.table.next(&bench.route, bench.now), Next::NotYet), "its successor is still in flight");
    match bench.table.answered(two, &ok(3)) {
        Answered::Done { overtaken, .. } => assert_eq!(overtaken.iter().map(|p| p.order).collect::<Vec<_>>(), [1]),
        _ => panic!("an answer"),
    }
    assert_eq!(bench.table.in_flight(), 1, "bob's waits on");
}

#[test]
fn what_waited_too_long_is_taken_out() {
    let (mut bench, outbox) = (Bench::new(8), outbox());
    let slot = bench.publish(&outbox);
    bench.table.no_responders(slot, bench.now);
    let key = bench.route.key.clone();
    assert!(bench.table.expire(&key, bench.now - Duration::from_millis(1)).is_empty());
    assert_eq!(bench.table.expire(&key, bench.now).len(), 1);
    assert!(matches!(bench.table.next(&bench.route, bench.now), Next::Over));
}

#[test]
fn a_closed_table_takes_nothing_and_finishes_what_it_has() {
    let (mut bench, outbox) = (Bench::new(8), outbox());
    let (one, two) = (bench.publish(&outbox), bench.publish(&outbox));
    bench.table.no_responders(two, bench.now);
    bench.table.close();
    let late = bench.pending(&outbox);
    assert!(matches!(bench.table.submit(late, bench.now), Submitted::Closed(_)));
    assert!(matches!(bench.table.answered(one, &ok(1)), Answered::Done { .. }));
    let Next::Probe { slot, .. } = bench.table.next(&bench.route, bench.now) else { panic!("what waited goes out") };
    assert!(matches!(bench.table.answered(slot, &ok(2)), Answered::Done { .. }));
    assert_eq!(bench.table.in_flight(), 0, "so a drain comes to its end");
}
