//! Real processes, killed and stopped under load: nats-server, the Brain and the Shield. Each of these tests runs on both
//! tellings of the Brain, the Rust shell around the model and the Elixir release; their whole traces are judged. And one message,
//! followed through all.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod judged;
mod load;
mod owners;
mod traced;

use std::time::Duration;

use load::{LIMITS, Load};
use sim_tests::real::{BrainKind, Part, Stack, StackOptions};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

/// One after the other: each of them loads the machine, and the commands' answers have limits in real time.
static TURN: Mutex<()> = Mutex::const_new(());

async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// What `kill -9` must hit: the program itself, not a script that started it.
const fn program(brain: BrainKind) -> &'static str {
    match brain {
        BrainKind::Shell => "brain-shell",
        BrainKind::Elixir => "beam.smp",
    }
}

async fn kill_the_brain(stack: &mut Stack, brain: BrainKind) {
    let killed = stack.kill_9(Part::Brain(1)).await.unwrap();
    assert_eq!(killed, program(brain));
    sleep(Duration::from_secs(1)).await;
    stack.spawn(Part::Brain(1)).unwrap();
}

/// nats-server, the Brain and the Shield, each once.
async fn three_kills(name: &'static str, brain: BrainKind) {
    let _turn = turn().await;
    let mut stack = load::start(StackOptions { sections: LIMITS, ..StackOptions::new(brain) }).await;
    let load = Load { name, rooms: 4, lasts: Duration::from_secs(20) };
    load::under(load, &mut stack, async |stack| {
        sleep(Duration::from_secs(5)).await;
        stack.nats.kill_9().await;
        sleep(Duration::from_secs(1)).await;
        stack.nats.restart().await.unwrap();
        sleep(Duration::from_secs(4)).await;
        kill_the_brain(stack, brain).await;
        sleep(Duration::from_secs(4)).await;
        stack.kill_9(Part::Shield).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        stack.spawn(Part::Shield).unwrap();
    })
    .await;
}

#[tokio::test]
async fn three_kills_lose_nothing_that_was_acknowledged_by_the_shell() {
    three_kills("kills-shell", BrainKind::Shell).await;
}

#[tokio::test]
async fn three_kills_lose_nothing_that_was_acknowledged_by_elixir() {
    three_kills("kills-elixir", BrainKind::Elixir).await;
}

#[tokio::test]
async fn an_elixir_brain_that_dies_three_times_loses_nothing_that_was_acknowledged() {
    let _turn = turn().await;
    let brain = BrainKind::Elixir;
    let mut stack = load::start(StackOptions { sections: LIMITS, ..StackOptions::new(brain) }).await;
    let load = Load { name: "kills-of-elixir", rooms: 4, lasts: Duration::from_secs(20) };
    load::under(load, &mut stack, async |stack| {
        for _ in 0..3 {
            sleep(Duration::from_secs(4)).await;
            kill_the_brain(stack, brain).await;
        }
    })
    .await;
}
