//! The last words of a connection: what is owed, a close frame, and time for the peer to read both.
//!
//! 1. The frame under way is finished, whatever the reason: a cut frame hides the close code behind it.
//! 2. What is queued follows only if the ending asks for it.
//! 3. The close frame follows. All this takes at most [`END_MAX`], and only while the peer reads: a socket that takes
//!    nothing for [`STALL_MAX`] is given up.
//! 4. Then the peer may answer: for as long as it says something else every [`LINGER`], which shows that it has not read the
//!    close frame yet, at most [`LINGER_SLOW`]. Closing earlier, with bytes of the peer unread or still to come, would reset
//!    the connection, and a reset discards what the kernel has not delivered yet.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::SinkExt as _;
use spine::Spine;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use voltron_core::{Ids, WallClock, mutant};

use super::Connection;

/// How long the last words may take while the peer reads them.
const END_MAX: Duration = Duration::from_secs(30);
/// How long the socket may take nothing meanwhile.
const STALL_MAX: Duration = Duration::from_secs(10);
/// How long the peer may say nothing once the kernel has the close frame.
const LINGER: Duration = Duration::from_secs(1);
/// How long it may take to answer the close frame; the same for a peer that was slow to read and says nothing: the kernel
/// may still hold bytes for it.
const LINGER_SLOW: Duration = Duration::from_secs(10);
/// Bytes of a peer that goes on talking which are read and dropped.
const DROPPED_MAX: usize = 1 << 20;

impl<S: Spine, C: WallClock, I: Ids, T: AsyncRead + AsyncWrite + Unpin> Connection<S, C, I, T> {
    pub(super) async fn finish(&mut self, code: u16, reason: &str, flush: bool) {
        if !flush {
            self.outbox.gone();
        }
        if mutant!(CloseCodeCut) {
            return;
        }
        let reason = &reason[..reason.floor_char_boundary(120)];
        let mut close = Some(Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() })));
        let by = Instant::now() + END_MAX;
        let slow = self.ws.get_ref().blocked.is_some();
        let mut dropped = 0;
        let said = std::future::poll_fn(|cx| self.poll_last_words(cx, by, &mut close, &mut dropped)).await;
        self.outbox.gone();
        let silence = if slow { LINGER_SLOW } else { LINGER };
        let raw = self.ws.get_mut();
        let _ = tokio::time::timeout(LINGER_SLOW, async {
            let mut sink = [0; 2048];
            let mut seen = 0;
            while said && let Ok(Ok(n)) = tokio::time::timeout(silence, raw.read(&mut sink)).await {
                seen += n;
                // An answering close frame is small; a peer that goes on talking for long is not waited for.
                if n == 0 || seen > DROPPED_MAX || is_close(&sink[..n]) {
                    break;
                }
            }
            let _ = raw.shutdown().await;
        })
        .await;
    }

    /// True: the socket has the close frame. False: the peer is gone or reads nothing.
    fn poll_last_words(
        &mut self,
        cx: &mut Context<'_>,
        by: Instant,
        close: &mut Option<Message>,
        dropped: &mut usize,
    ) -> Poll<bool> {
        loop {
            match self.poll_write(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => break,
            }
            let Some(close) = close.take() else { return Poll::Ready(true) };
            if self.ws.start_send_unpin(close).is_err() {
                return Poll::Ready(false);
            }
            self.dirty = true;
        }
        // A peer that waits for its own words to be taken before it reads must not wait for ever. One that goes on
        // talking is not heard for ever.
        let mut sink = [0; 2048];
        while *dropped <= DROPPED_MAX {
            let mut chunk = ReadBuf::new(&mut sink);
            match Pin::new(self.ws.get_mut()).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(())) if !chunk.filled().is_empty() => *dropped += chunk.filled().len(),
                // The end of its words is not the end of its reading.
                Poll::Ready(Ok(())) | Poll::Pending => break,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
            }
        }
        let now = Instant::now();
        let stall = self.ws.get_ref().blocked.map_or(by, |since| since.max(by - END_MAX) + STALL_MAX);
        let due = by.min(stall);
        if now >= due {
            return Poll::Ready(false);
        }
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// One masked close frame and nothing else, as most clients send it. What is read may begin in the middle of a frame, so its
/// first byte alone says nothing.
fn is_close(bytes: &[u8]) -> bool {
    match bytes {
        [0x88, masked, ..] => masked & 0x80 != 0 && bytes.len() == 6 + usize::from(masked & 0x7f),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_close;

    #[test]
    fn only_a_whole_close_frame_is_one() {
        assert!(is_close(&[0x88, 0x80, 1, 2, 3, 4]), "without a code");
        assert!(is_close(&[0x88, 0x82, 1, 2, 3, 4, 5, 6]), "with one");
        for other in [&[0x88][..], &[0x88, 0x82, 1, 2, 3, 4], &[0x88, 0x02, 3, 232], &[0x82, 0x80, 1, 2, 3, 4], &[]] {
            assert!(!is_close(other), "{other:?}");
        }
        assert!(!is_close(&[0x88, 0x9c, 0x17, 0x2d, 0x51, 0x04, 0x88, 0x20]), "the middle of a frame");
    }
}
