//! Two owners of one room, forced: the owner's process is stopped until the other Brain has taken the room over, then goes on
//! in the belief that the room is still its own. Whatever it had accepted and whatever still reaches it, its writes are
//! refused, and no client notices more than a pause.

use std::time::Duration;

use sim_tests::real::{BrainKind, Part, Stack, StackOptions};
use tokio::time::{sleep, timeout};

use crate::load::{self, LIMITS, Load};
use crate::turn;

const BRAINS: [Part; 2] = [Part::Brain(1), Part::Brain(2)];
/// Down is decided well before the owner goes on.
const KEYS: &str = "heartbeat_ms = 100\ndown_after_ms = 1000";
/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until a metric says so.
async fn until(stack: &Stack, what: &str, part: Part, name: &str, holds: impl Fn(u64) -> bool) {
    let seen = async {
        while !stack.metric(part, name).await.is_some_and(&holds) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let shown = || format!("{what} within {} s\n{}", LIMIT.as_secs(), stack.last_words());
    timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("{}", shown()));
}

/// Which of the two holds the one room.
async fn owner(stack: &Stack) -> (Part, Part) {
    let found = async {
        loop {
            for (part, other) in [(BRAINS[0], BRAINS[1]), (BRAINS[1], BRAINS[0])] {
                if stack.metric(part, "brain_room_count").await == Some(1) {
                    return (part, other);
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("nobody owns the room\n{}", stack.last_words()))
}

async fn two_owners(name: &'static str, brain: BrainKind) {
    let _turn = turn().await;
    let options = StackOptions { brains: 2, brain_keys: KEYS, sections: LIMITS, ..StackOptions::new(brain) };
    let mut stack = load::start(options).await;
    let load = Load { name, rooms: 1, lasts: Duration::from_secs(15) };
    load::under(load, &mut stack, async |stack| {
        let (old, new) = owner(stack).await;
        sleep(Duration::from_secs(2)).await;
        stack.pause(old).await.unwrap();
        until(stack, "the other Brain takes over", new, "brain_room_count", |rooms| rooms == 1).await;
        until(stack, "and serves", new, "brain_events_total", |events| events > 100).await;
        stack.resume(old).unwrap();
        until(stack, "the old owner is fenced", old, "brain_fenced_writes_total", |fenced| fenced > 0).await;
        until(stack, "and lets the room go", old, "brain_room_count", |rooms| rooms == 0).await;
        println!("{name}: {old} was stopped, {new} took over, {old} went on and was fenced");
    })
    .await;
}

#[tokio::test]
async fn of_two_owners_of_the_shell_one_is_fenced() {
    two_owners("owners-shell", BrainKind::Shell).await;
}

#[tokio::test]
async fn of_two_owners_of_elixir_one_is_fenced() {
    two_owners("owners-elixir", BrainKind::Elixir).await;
}
