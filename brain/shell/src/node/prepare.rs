//! What a node needs before it can serve: streams and subscriptions, tried until they are there.

use std::time::Duration;

use proto::Pattern;
use spine::{EnsureError, ReadError, Spine, StreamSpec, SubscribeError};
use voltron_core::{Ids, WallClock};

use super::BUFFER;
use crate::ShellError;
use crate::room::Context;

/// Streams and the subscriptions that a node has from the first moment on; tried until they are there.
pub(super) async fn prepare<S: Spine, C: WallClock, I: Ids>(
    context: &Context<S, C, I>,
    specs: &[StreamSpec],
) -> Result<(S::Sub, S::Sub), ShellError> {
    for spec in specs {
        let mut pause = Pause::default();
        loop {
            match context.writer.ensure(spec).await {
                Ok(()) => break,
                Err(error @ EnsureError::Differs { .. }) => return Err(ShellError::Stream(error)),
                // An operator must act; until then the node waits, so that it serves as soon as there is room.
                Err(error @ EnsureError::NoRoom { .. }) => {
                    tracing::error!(%error, "a stream cannot be made; trying again");
                    pause.wait().await;
                }
                Err(EnsureError::Call(error)) => {
                    let silent = matches!(error, ReadError::Timeout);
                    let what = if silent { "the Spine does not answer" } else { "the Spine refuses a stream" };
                    tracing::warn!(%error, stream = %spec.name, "{what}; trying again");
                    pause.wait().await;
                }
            }
        }
    }
    let beats = subscribe(&context.speaker, &Pattern::all_heartbeats(), None).await?;
    let direct = subscribe(&context.speaker, &Pattern::to_brain(&context.node), None).await?;
    Ok((beats, direct))
}

pub(super) async fn subscribe<S: Spine>(speaker: &S, to: &Pattern, queue: Option<&str>) -> Result<S::Sub, ShellError> {
    let mut pause = Pause::default();
    loop {
        match speaker.subscribe(to, queue, BUFFER).await {
            Ok(sub) => return Ok(sub),
            Err(SubscribeError::Closed) => return Err(ShellError::Closed),
            Err(error) => {
                tracing::warn!(%error, %to, "not subscribed; trying again");
                pause.wait().await;
            }
        }
    }
}

/// 50 ms, doubling to 1 s.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    async fn wait(&mut self) {
        let pause = Duration::from_millis(50 << self.0.min(5)).min(Duration::from_secs(1));
        self.0 += 1;
        tokio::time::sleep(pause).await;
    }
}
