use bytes::Bytes;

use super::*;

fn frame(len: usize) -> Frame {
    Frame::Binary(Bytes::from(vec![0; len]))
}

#[test]
fn pressure_drops_ephemeral_then_closes() {
    let outbox = Outbox::new(100, 10);
    let ticket = Arc::new(Ticket::default());
    assert_eq!(outbox.push_event(frame(60), Class::Ephemeral, &ticket), Pushed::Queued);
    assert_eq!(outbox.push_event(frame(50), Class::Ephemeral, &ticket), Pushed::Dropped);
    assert_eq!(outbox.push_event(frame(50), Class::Firm, &ticket), Pushed::Queued, "in the place of the ephemeral");
    assert_eq!(outbox.depth(), (50, 1));
    assert_eq!(outbox.push_event(frame(51), Class::Firm, &ticket), Pushed::Ended);
    assert_eq!(outbox.ending().map(|ending| ending.code), Some(Code::CloseSlowConsumer));
    assert_eq!(outbox.push(frame(1)), Pushed::Ended);
}

#[test]
fn messages_are_bounded_too() {
    let outbox = Outbox::new(100, 2);
    assert_eq!(outbox.push(frame(1)), Pushed::Queued);
    assert_eq!(outbox.push(frame(1)), Pushed::Queued);
    assert_eq!(outbox.push(frame(1)), Pushed::Ended);
}

#[test]
fn bulk_is_never_slow() {
    let outbox = Outbox::new(100, 2);
    let ticket = Arc::new(Ticket::default());
    for _ in 0..10 {
        assert_eq!(outbox.push_event(frame(100), Class::Bulk, &ticket), Pushed::Queued);
    }
    assert_eq!((outbox.bulk(), outbox.depth()), (1000, (0, 0)));
    while outbox.pop().is_some() {}
    assert_eq!(outbox.bulk(), 0);
}

#[tokio::test]
async fn catching_up_waits_until_the_reader_has_read() {
    let outbox = Arc::new(Outbox::new(100, 2));
    let ticket = Arc::new(Ticket::default());
    for _ in 0..4 {
        outbox.push_event(frame(100), Class::Bulk, &ticket);
    }
    let waits = |most| {
        let outbox = outbox.clone();
        tokio::spawn(async move { outbox.drained_to(most).await })
    };
    let (far, near) = (waits(300), waits(0));
    tokio::task::yield_now().await;
    assert!(!far.is_finished() && !near.is_finished());
    outbox.pop();
    far.await.unwrap();
    tokio::task::yield_now().await;
    assert!(!near.is_finished());
    outbox.end(Code::CloseDraining, "", true);
    near.await.unwrap();
    assert_eq!(outbox.ending().map(|ending| ending.code), Some(Code::CloseDraining), "not as a slow consumer");
}

#[test]
fn a_sub_gets_one_result_whoever_ends_it() {
    let outbox = Outbox::new(1000, 100);
    let (admitted, replaced, refused) = (Arc::default(), Arc::default(), Arc::default());
    outbox.admit(frame(1), &admitted);
    assert!(outbox.cancel(&admitted), "it has its result, which stays");
    outbox.refuse(frame(9), &admitted);
    assert!(!outbox.cancel(&replaced), "who ends it owes the result");
    outbox.admit(frame(9), &replaced);
    outbox.refuse(frame(9), &replaced);
    outbox.refuse(frame(2), &refused);
    assert!(refused.answered() && outbox.cancel(&refused));
    assert_eq!((outbox.pop(), outbox.pop(), outbox.pop()), (Some(frame(1)), Some(frame(2)), None));
}

#[test]
fn cancelled_ticket_leaves_nothing_behind() {
    let outbox = Outbox::new(1000, 100);
    let (one, two) = (Arc::new(Ticket::default()), Arc::new(Ticket::default()));
    outbox.push_event(frame(1), Class::Firm, &one);
    outbox.push_event(frame(2), Class::Firm, &two);
    outbox.push_event(frame(3), Class::Bulk, &one);
    outbox.cancel(&one);
    assert_eq!(outbox.push_event(frame(4), Class::Firm, &one), Pushed::Dropped);
    assert_eq!(outbox.pop(), Some(frame(2)));
    assert_eq!(outbox.pop(), None);
    assert_eq!((outbox.bulk(), outbox.depth()), (0, (0, 0)));
}

#[test]
fn a_crowded_connection_defers_what_comes() {
    let outbox = Outbox::new(100, 2);
    let (one, two) = (Arc::new(Ticket::default()), Arc::new(Ticket::default()));
    assert!(outbox.may_begin() && !outbox.crowded());
    outbox.push_event(frame(BULK_BEGIN + 1), Class::Bulk, &one);
    assert!(!outbox.may_begin() && !outbox.crowded(), "what is under way is still taken");
    outbox.push_event(frame(BULK_CROWDED), Class::Bulk, &one);
    assert!(outbox.crowded());
    outbox.defer(&two);
    assert!(two.deferred() && !two.answered() && outbox.has_deferred());
    assert!(outbox.take_deferred() && !outbox.has_deferred());
    outbox.cancel(&one);
    assert!(outbox.may_begin());
}

#[test]
fn one_shield_bounds_the_bulk_of_all_its_connections() {
    let pool = Arc::new(Pool::default());
    let of = || Outbox::with(Bounds::Fixed(100, 2), pool.clone());
    let (greedy, modest) = (of(), of());
    let ticket = Arc::new(Ticket::default());
    let part = frame(64 << 20);
    for _ in 0..5 {
        greedy.push_event(part.clone(), Class::Bulk, &ticket);
    }
    assert!(modest.pool_is_full() && !modest.may_begin(), "320 MiB wait elsewhere");
    greedy.pop();
    greedy.pop();
    assert!(modest.may_begin());
    greedy.gone();
    assert_eq!(pool.bytes(), 0, "a connection that is gone holds nothing");
}

#[test]
fn a_reload_changes_the_bounds_of_a_queue_that_lives() {
    use voltron_core::config::Limits;
    let limits = Arc::new(arc_swap::ArcSwap::from_pointee(Limits { queue_messages: 3, ..Limits::default() }));
    let outbox = Outbox::with(Bounds::Live(limits.clone()), Arc::default());
    assert_eq!((outbox.push(frame(1)), outbox.push(frame(1))), (Pushed::Queued, Pushed::Queued));
    limits.store(Arc::new(Limits { queue_messages: 2, ..Limits::default() }));
    assert_eq!(outbox.push(frame(1)), Pushed::Ended);
}
