//! What a node needs before it can serve: streams and subscriptions, tried until they are there.

use std::time::Duration;

use proto::Pattern;
use spine::{Spine, StreamSpec, SubscribeError};
use voltron_core::{Ids, WallClock};

use super::{BUFFER, streams};
use crate::ShellError;
use crate::room::Context;

/// Streams and the subscriptions that a node has from the first moment on; tried until they are there.
pub(super) async fn prepare<S: Spine, C: WallClock, I: Ids>(
    context: &Context<S, C, I>,
    specs: &[StreamSpec],
) -> Result<(S::Sub, S::Sub), ShellError> {
    streams::first(context, specs).await?;
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
pub(super) struct Pause(u32);

impl Pause {
    pub(super) fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(50 << self.0.min(5)).min(Duration::from_secs(1));
        self.0 += 1;
        pause
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}
