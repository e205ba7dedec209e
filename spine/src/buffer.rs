//! A subscription's bounded buffer: the newest messages are dropped when it is full, and the reader is told how many,
//! exactly where they are missing. Both arms of the Spine deliver through it.
//!
//! ```
//! # use spine::{Delivery, buffer};
//! # use futures_util::{FutureExt as _, StreamExt as _};
//! let (feed, mut deliveries) = buffer::channel(1);
//! # let message = spine::Message {
//! #     subject: proto::Subject::generation(0), reply: None, status: None, stream_seq: None, body: "x".into(),
//! # };
//! feed.push(message.clone());
//! feed.push(message.clone()); // no room
//! feed.push(message);         // no room
//! assert!(matches!(deliveries.next().now_or_never(), Some(Some(Delivery::Msg(_)))));
//! assert!(matches!(deliveries.next().now_or_never(), Some(Some(Delivery::Lost(2)))));
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::{Delivery, Message};

/// A buffer for at most `capacity` messages (at least 1).
pub fn channel(capacity: usize) -> (Feed, Deliveries) {
    let state =
        State { queue: VecDeque::new(), capacity: capacity.max(1), messages: 0, lost: 0, ended: false, reader: None };
    let shared = Arc::new(Mutex::new(state));
    (Feed(shared.clone()), Deliveries(shared))
}

/// The writing end.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Mutex<State>>);

/// The reading end. It ends after [`Feed::end`], when what waited before is read.
#[derive(Debug)]
pub struct Deliveries(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    // Messages, and one `Lost` for each hole between them: never more than twice the capacity.
    queue: VecDeque<Delivery>,
    capacity: usize,
    messages: usize,
    // Dropped since the last message that was kept.
    lost: u64,
    ended: bool,
    reader: Option<Waker>,
}

// === impl Feed ===

impl Feed {
    /// Keeps a message if there is room, else counts it as lost.
    pub fn push(&self, message: Message) {
        let mut state = lock(&self.0);
        if state.ended {
            return;
        }
        if state.messages >= state.capacity {
            state.lost += 1;
            return;
        }
        if state.lost > 0 {
            let lost = std::mem::take(&mut state.lost);
            state.queue.push_back(Delivery::Lost(lost));
        }
        state.messages += 1;
        state.queue.push_back(Delivery::Msg(message));
        wake(state);
    }

    /// Says that `n` messages, or at least that many, were lost before they came here.
    pub fn lose(&self, n: u64) {
        let mut state = lock(&self.0);
        state.lost += n;
        wake(state);
    }

    /// Nothing more will come.
    pub fn end(&self) {
        let mut state = lock(&self.0);
        state.ended = true;
        wake(state);
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    // Outside the lock: the reader may run at once.
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

// === impl Deliveries ===

impl Stream for Deliveries {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let mut state = lock(&self.0);
        if let Some(delivery) = state.queue.pop_front() {
            state.messages -= usize::from(matches!(delivery, Delivery::Msg(_)));
            return Poll::Ready(Some(delivery));
        }
        if state.lost > 0 {
            return Poll::Ready(Some(Delivery::Lost(std::mem::take(&mut state.lost))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// A panic elsewhere leaves no half-made change here: each lock is held for one step.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    fn message(n: u8) -> Message {
        let subject = proto::Subject::generation(0);
        Message { subject, reply: None, status: None, stream_seq: None, body: Bytes::copy_from_slice(&[n]) }
    }

    fn read(deliveries: &mut Deliveries) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match deliveries.next().now_or_never() {
                None => return seen,
                Some(None) => seen.push("end".into()),
                Some(Some(Delivery::Msg(m))) => seen.push(m.body[0].to_string()),
                Some(Some(Delivery::Lost(n))) => seen.push(format!("-{n}")),
            }
            if seen.last().is_some_and(|s| s == "end") {
                return seen;
            }
        }
    }

    #[test]
    fn holes_stand_where_they_are() {
        let (feed, mut deliveries) = channel(2);
        (0..5).for_each(|n| feed.push(message(n)));
        assert!(matches!(deliveries.next().now_or_never(), Some(Some(Delivery::Msg(_)))));
        feed.push(message(5));
        feed.push(message(6));
        assert_eq!(read(&mut deliveries), ["1", "-3", "5", "-1"]);
        feed.lose(7);
        assert_eq!(read(&mut deliveries), ["-7"]);
        feed.push(message(7));
        feed.end();
        feed.push(message(8));
        assert_eq!(read(&mut deliveries), ["7", "end"]);
    }
}
