//! A bound on what the kernel queues for one accepted connection (`TCP_NOTSENT_LOWAT`, tcp(7)).
//!
//! Without it the kernel takes megabytes for a peer that reads slowly. A ping then counts as written long before the
//! peer can see it, and a close frame stands behind minutes of data. With it a socket becomes writable only while less
//! than the bound is unsent. Bytes in flight are not bounded, so the throughput of a long path stays.

use std::io;

use tokio::net::TcpStream;

/// Unsent bytes beyond which the socket takes no more.
pub(super) const UNSENT_MAX: u32 = 32 << 10;

/// Sets the bound. Other systems than Linux have no such option, and keep their default.
pub(super) fn bound(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MAX)?;
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{Net as _, TcpNet};

    #[tokio::test]
    async fn an_accepted_stream_has_the_bound() {
        let mut listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let _client = TcpNet.connect(&address).await.unwrap();
        let (stream, _) = crate::Listener::accept(&mut listener).await.unwrap();
        assert_eq!(socket2::SockRef::from(&stream).tcp_notsent_lowat().unwrap(), UNSENT_MAX);
    }
}
