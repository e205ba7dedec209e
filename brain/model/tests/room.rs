//! Scripted stories of one room, told with plain values: each rule of the log protocol and the scenario behind it.

mod support;

use brain_model::Rules;
use support::*;

#[test]
fn a_room_opens_and_an_acked_command_is_in_the_log() {
    let mut world = World::default();
    let a = world.add(Rules::default());
    world.open(a);
    let opened = world.opened(a).expect("answered");
    assert_eq!((opened.code, opened.term, opened.seq), (0, 1, 0));
    assert_eq!(opened.epoch, START_MS as u64);
    let ack = world.ask(a, command("ann", 1, say("hi")));
    assert_eq!((ack.code, ack.epoch, ack.seq, ack.duplicate), (0, opened.epoch, 1, false));
    let events = world.streams.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1.user, "ann");
    assert_eq!(world.streams.fold().0.state, world.owners[a].room.committed().state);
}
