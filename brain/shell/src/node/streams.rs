//! The node's streams: created or found right at the start, after each reconnect, when a room's call failed, and every 10 s.
//! A broker can come back without its store, and an operator can delete a stream.

use std::time::Duration;

use spine::{EnsureError, Link, Spine, StreamSpec};
use tokio::time::Instant;
use voltron_core::{Ids, WallClock};

use super::prepare::Pause;
use crate::ShellError;
use crate::room::Context;

/// While the streams are right, they are looked at so often.
const CHECK: Duration = Duration::from_secs(10);
/// At most one round so often because a room's call failed.
const DOUBT: Duration = Duration::from_secs(1);

/// One round: every stream is created, or found right. Else the first that is not, and why.
async fn round<S: Spine, C: WallClock, I: Ids>(
    context: &Context<S, C, I>,
    specs: &[StreamSpec],
) -> Result<(), (String, EnsureError)> {
    for spec in specs {
        context.writer.ensure(spec).await.map_err(|error| (spec.name.to_string(), error))?;
    }
    context.counts.streams_ensured.inc();
    Ok(())
}

/// Rounds until one succeeds.
pub(super) async fn first<S: Spine, C: WallClock, I: Ids>(
    context: &Context<S, C, I>,
    specs: &[StreamSpec],
) -> Result<(), ShellError> {
    let mut told = Told::default();
    let mut pause = Pause::default();
    loop {
        match round(context, specs).await {
            Ok(()) => break,
            Err((_, error @ EnsureError::Differs { .. })) => return Err(ShellError::Stream(error)),
            Err((stream, error)) => told.wrong(context, &stream, &error),
        }
        pause.wait().await;
    }
    told.right(context);
    Ok(())
}

/// Keeps them right for ever. The streams were right when this begins.
pub(super) async fn keep<S: Spine, C: WallClock, I: Ids>(context: &Context<S, C, I>, specs: &[StreamSpec]) {
    if voltron_core::mutant!(StreamsEnsuredOnce) {
        return std::future::pending().await;
    }
    let mut link = context.writer.link();
    let mut known = generation(&link.borrow_and_update());
    let mut told = Told::default();
    let mut pause = Pause::default();
    let mut due = Instant::now() + CHECK;
    let mut ended = Instant::now();
    loop {
        tokio::select! {
            biased;
            changed = link.changed() => {
                if changed.is_err() {
                    // The Spine was closed: the node ends.
                    return std::future::pending().await;
                }
                let now = generation(&link.borrow_and_update());
                if now.is_none() || now == known {
                    continue;
                }
                known = now;
                context.readiness.verifying();
            }
            () = context.doubt.notified() => tokio::time::sleep_until(ended + DOUBT).await,
            () = tokio::time::sleep_until(due) => {}
        }
        let result = round(context, specs).await;
        ended = Instant::now();
        match result {
            Ok(()) => {
                told.right(context);
                pause = Pause::default();
                due = ended + CHECK;
            }
            Err((stream, error)) => {
                told.wrong(context, &stream, &error);
                due = ended + pause.next();
            }
        }
    }
}

/// Which connection it is, if there is one.
fn generation(link: &Link) -> Option<u64> {
    match link {
        Link::Connected { generation, .. } => Some(*generation),
        Link::Down { .. } => None,
    }
}

/// What the log says of the streams: each reason once.
#[derive(Default)]
struct Told(Option<String>);

impl Told {
    fn wrong<S: Spine, C: WallClock, I: Ids>(&mut self, context: &Context<S, C, I>, stream: &str, error: &EnsureError) {
        let why = match error {
            EnsureError::Call(error) => format!("stream {stream}: {error}"),
            EnsureError::Differs { .. } | EnsureError::NoRoom { .. } => error.to_string(),
        };
        if self.0.as_ref() != Some(&why) {
            tracing::error!(error = why, "a stream is not right; trying again");
        }
        context.readiness.streams(Err(why.clone()));
        self.0 = Some(why);
    }

    fn right<S: Spine, C: WallClock, I: Ids>(&mut self, context: &Context<S, C, I>) {
        if self.0.take().is_some() {
            tracing::info!("the streams are right again");
        }
        context.readiness.streams(Ok(()));
    }
}
