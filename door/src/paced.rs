//! A write deadline: a client that does not read is disconnected.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// What a client must read within the deadline once the connection is full, in
/// bytes: a client that reads a byte now and then is too slow as well.
pub const PACE_BYTES: usize = 64 * 1024;
/// How much the kernel holds of what it has not sent yet, for each connection,
/// in bytes.
const UNSENT_BYTES: u32 = 128 * 1024;

/// A connection with a write deadline. From the moment when there is no room
/// to write, the other end has that long to read [`PACE_BYTES`], or all that
/// was written; then writes fail with [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    deadline: Duration,
    /// Set while the other end is to make room.
    late: Option<Pin<Box<Sleep>>>,
    /// Bytes written since `late` was set.
    written: usize,
}

impl<S> Paced<S> {
    /// `stream`, with a write deadline.
    pub fn new(stream: S, deadline: Duration) -> Self {
        Self {
            stream,
            deadline,
            late: None,
            written: 0,
        }
    }

    fn met(&mut self) {
        self.late = None;
        self.written = 0;
    }

    fn wrote(&mut self, count: usize) {
        self.written = self.written.saturating_add(count);
        if self.written >= PACE_BYTES {
            self.met();
        }
    }

    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.late.is_none() {
            self.written = 0;
        }
        let deadline = self.deadline;
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        late.as_mut()
            .poll(context)
            .map(|()| io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(count)) => {
                self.wrote(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_late(context).map(Err),
        }
    }
}

/// Have the kernel hold little for a client that does not read, and forget
/// such a client after `deadline` also where the connection was closed
/// meanwhile. Source: tcp(7), `TCP_NOTSENT_LOWAT` and `TCP_USER_TIMEOUT`.
///
/// Errors: those of setsockopt(2).
pub fn bound_unsent(stream: &TcpStream, deadline: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    socket.set_tcp_user_timeout(Some(deadline))
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(context, wrote)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(context) {
            Poll::Ready(flushed) => {
                this.met();
                Poll::Ready(flushed)
            }
            Poll::Pending => this.poll_late(context).map(Err),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_shutdown(context) {
            Poll::Ready(closed) => Poll::Ready(closed),
            Poll::Pending => this.poll_late(context).map(Err),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        this.written(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn pair() -> (Paced<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        (Paced::new(near, DEADLINE), far)
    }

    #[tokio::test(start_paused = true)]
    async fn t128_a_client_that_does_not_read_fails_the_write_at_the_deadline() {
        let (mut near, _far) = pair();
        let began = tokio::time::Instant::now();
        let error = near.write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), DEADLINE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn t128_a_client_that_reads_a_byte_now_and_then_is_too_slow() {
        let (mut near, mut far) = pair();
        let reading = tokio::spawn(async move {
            while far.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let error = near.write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(near);
        reading.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_in_time_gets_all_however_long_it_takes() {
        let (mut near, mut far) = pair();
        let reading = tokio::spawn(async move {
            let mut read = 0;
            let mut piece = vec![0; 1024];
            while let Ok(count @ 1..) = far.read(&mut piece).await {
                read += count;
                // 64 KiB in 25 seconds.
                tokio::time::sleep(Duration::from_millis(390)).await;
            }
            read
        });
        near.write_all(&vec![0; 1 << 20]).await.unwrap();
        near.flush().await.unwrap();
        drop(near);
        assert_eq!(reading.await.unwrap(), 1 << 20);
    }
}
