//! The byte stream below the WebSocket, with a record of what it read and of what it had to wait for.
//!
//! A write that succeeds at once proves nothing about the peer: the kernel took the bytes. A write that succeeds after
//! the socket had refused bytes proves that the peer's side acknowledged some, so only that counts as progress.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A stream that knows when it last moved.
#[derive(Debug)]
pub(super) struct Metered<T> {
    inner: T,
    /// When the last bytes were read.
    pub(super) heard: Instant,
    /// Bytes read so far.
    pub(super) bytes_read: u64,
    /// Since when the socket takes nothing; `None`: it takes bytes.
    pub(super) blocked: Option<Instant>,
    /// When the socket last took bytes after it had refused some.
    pub(super) progress: Instant,
}

impl<T> Metered<T> {
    pub(super) fn new(inner: T, now: Instant) -> Self {
        Self { inner, heard: now, bytes_read: 0, blocked: None, progress: now }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let n = buf.filled().len() - before;
        if n > 0 {
            self.heard = Instant::now();
            self.bytes_read += n as u64;
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        match &written {
            Poll::Ready(Ok(n)) if *n > 0 => {
                if self.blocked.take().is_some() {
                    self.progress = Instant::now();
                }
            }
            Poll::Ready(_) => {}
            Poll::Pending => {
                self.blocked.get_or_insert_with(Instant::now);
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_write_that_had_to_wait_is_progress() {
        let (near, mut far) = duplex(8);
        let began = Instant::now();
        let mut stream = Metered::new(near, began);
        tokio::time::advance(Duration::from_secs(1)).await;
        stream.write_all(&[0; 8]).await.unwrap();
        assert_eq!((stream.progress, stream.blocked), (began, None), "the buffer took it: no proof of a reader");
        tokio::time::advance(Duration::from_secs(1)).await;
        let refused = Instant::now();
        assert!(futures_util::poll!(Box::pin(stream.write_all(&[0; 8]))).is_pending());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(futures_util::poll!(Box::pin(stream.write_all(&[0; 8]))).is_pending());
        assert_eq!((stream.progress, stream.blocked), (began, Some(refused)), "since the first refusal");
        far.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(&[0; 4]).await.unwrap();
        assert_eq!((stream.progress, stream.blocked), (Instant::now(), None));
    }
}
