//! What the cases share: names, connections, and waiting for things with a word on what was awaited.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::{Pattern, RoomKey, Subject};
use tokio::time::timeout;

use super::{Outcome, World};
use crate::{Delivery, Link, Message, Spine, SpineOptions, StreamSpec};

/// The longest wait for something that must happen.
pub(super) const SOON: Duration = Duration::from_secs(30);
/// The wait in which something that must not happen would have happened.
pub(super) const QUIET: Duration = Duration::from_millis(300);

/// Options with short intervals, so that faults are noticed within a case's time.
pub(super) fn options(name: &str) -> SpineOptions {
    SpineOptions {
        publish_timeout: Duration::from_secs(5),
        ping_interval: Duration::from_millis(500),
        reconnect_max: Duration::from_millis(250),
        ..SpineOptions::new("nats://unset", name, format!("_INBOX.b.{name}"))
    }
}

/// A connection that is up.
pub(super) async fn connected<W: World>(world: &W, name: &str) -> Result<W::Spine, String> {
    connected_with(world, options(name)).await
}

pub(super) async fn connected_with<W: World>(world: &W, options: SpineOptions) -> Result<W::Spine, String> {
    let spine = world.connect(options);
    up(&spine).await?;
    Ok(spine)
}

/// Waits until the link is up; gives its generation.
pub(super) async fn up(spine: &impl Spine) -> Result<u64, String> {
    let mut link = spine.link();
    let seen = within("the link to be up", link.wait_for(Link::is_up)).await?;
    match &*said("the link", seen)? {
        Link::Connected { generation, .. } => Ok(*generation),
        Link::Down { .. } => Err("the link is down although it was awaited up".into()),
    }
}

/// Waits until the link is down.
pub(super) async fn down(spine: &impl Spine) -> Outcome {
    let mut link = spine.link();
    let seen = within("the link to be down", link.wait_for(|link| !link.is_up())).await?;
    said("the link", seen).map(drop)
}

/// Waits, and fails with what was awaited.
pub(super) async fn within<T>(what: &str, event: impl Future<Output = T>) -> Result<T, String> {
    timeout(SOON, event).await.map_err(|_| format!("waited {SOON:?} in vain for {what}"))
}

/// A result that must be good.
pub(super) fn said<T, E: Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

pub(super) fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

pub(super) fn same<T: PartialEq + Debug>(what: &str, seen: T, expected: T) -> Outcome {
    check(seen == expected, || format!("{what}: {seen:?} instead of {expected:?}"))
}

/// The next delivery, which must be a message.
pub(super) async fn next<S>(sub: &mut S) -> Result<Message, String>
where
    S: futures_core::Stream<Item = Delivery> + Unpin,
{
    match within("a message", sub.next()).await? {
        Some(Delivery::Msg(message)) => Ok(message),
        Some(Delivery::Lost(n)) => Err(format!("lost {n} messages instead of a message")),
        None => Err("the subscription ended instead of a message".into()),
    }
}

/// The next `n` messages' bodies, as text.
pub(super) async fn texts<S>(sub: &mut S, n: usize) -> Result<Vec<String>, String>
where
    S: futures_core::Stream<Item = Delivery> + Unpin,
{
    let mut texts = Vec::with_capacity(n);
    for _ in 0..n {
        texts.push(text(&next(sub).await?.body));
    }
    Ok(texts)
}

/// Nothing may come now.
pub(super) async fn silent<S>(sub: &mut S) -> Outcome
where
    S: futures_core::Stream<Item = Delivery> + Unpin,
{
    match timeout(QUIET, sub.next()).await {
        Err(_) => Ok(()),
        Ok(Some(Delivery::Msg(m))) => Err(format!("unexpected message on {}: {:?}", m.subject, text(&m.body))),
        Ok(Some(Delivery::Lost(n))) => Err(format!("unexpected loss of {n} messages")),
        Ok(None) => Err("the subscription ended".into()),
    }
}

pub(super) fn text(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

pub(super) fn body(text: impl Display) -> Bytes {
    Bytes::from(text.to_string())
}

pub(super) fn subject(text: &str) -> Subject {
    Subject::from_wire(Bytes::copy_from_slice(text.as_bytes())).expect("a case's own subject is well formed")
}

pub(super) fn pattern(text: &str) -> Pattern {
    Pattern::from_wire(Bytes::copy_from_slice(text.as_bytes())).expect("a case's own pattern is well formed")
}

pub(super) fn room(name: &str) -> RoomKey {
    RoomKey::new("acme".parse().expect("an id"), name.parse().expect("a case's own room name is an id"))
}

/// Every stream of a small deployment.
pub(super) async fn streams(spine: &impl Spine) -> Outcome {
    for spec in StreamSpec::all(1, 1, 64 << 20) {
        said("ensure", spine.ensure(&spec).await)?;
    }
    Ok(())
}
