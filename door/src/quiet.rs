//! A Unix socket that is told of room only where it waits for some.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// A connection over a Unix socket.
///
/// Whenever the other end has read, the kernel tells a Unix socket that there
/// is room again (`EPOLLOUT`), which a [`UnixStream`] always listens for. Each
/// message then wakes its sender once more, for nothing, at the cost of whoever
/// reads it. This one listens for that only once there is no room.
#[derive(Debug)]
pub struct QuietStream {
    socket: AsyncFd<net::UnixStream>,
    /// The socket once more, while it waits for room.
    full: Option<AsyncFd<OwnedFd>>,
}

/// Listen at a socket for `interest`.
///
/// Errors: those of epoll_ctl(2).
#[allow(
    deprecated,
    reason = "what replaces it is unsafe, for the sake of types that may change their descriptor; \
              those of the standard library keep theirs as long as they live"
)]
fn listen<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}

impl QuietStream {
    /// The same connection, quiet.
    ///
    /// Errors: those of epoll_ctl(2).
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let socket = stream.into_std()?;
        Ok(Self {
            socket: listen(socket, Interest::READABLE)?,
            full: None,
        })
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        send: impl Fn(&net::UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut room = match &self.full {
                Some(full) => Some(ready!(full.poll_write_ready(context))?),
                None => None,
            };
            match send(self.socket.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match &mut room {
                    Some(room) => room.clear_ready(),
                    None => {
                        let socket = self.socket.get_ref().try_clone()?;
                        self.full = Some(listen(socket.into(), Interest::WRITABLE)?);
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => {
                    self.full = None;
                    return Poll::Ready(sent);
                }
            }
        }
    }
}

impl AsyncRead for QuietStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut some = ready!(self.socket.poll_read_ready(context))?;
            let place = buffer.initialize_unfilled();
            let room = place.len();
            match some.try_io(|socket| socket.get_ref().read(place)) {
                Ok(Ok(read)) => {
                    // Less than there was room for: there is no more for now.
                    if (1..room).contains(&read) {
                        some.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_nothing_yet) => {}
            }
        }
    }
}

impl AsyncWrite for QuietStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_send(context, |mut socket| socket.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.get_ref().shutdown(Shutdown::Write))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_send(context, |mut socket| socket.write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (QuietStream, UnixStream) {
        let (quiet, other) = UnixStream::pair().unwrap();
        (QuietStream::new(quiet).unwrap(), other)
    }

    #[tokio::test]
    async fn what_there_was_no_room_for_is_written_once_there_is_some() {
        let (mut quiet, mut other) = pair();
        let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            quiet.write_all(&sent).await.unwrap();
            // After waiting for room it is quiet again.
            assert!(quiet.full.is_none());
            quiet.shutdown().await.unwrap();
            quiet
        });
        let mut read = Vec::new();
        other.read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
        // The other direction stays open.
        let mut quiet = writing.await.unwrap();
        other.write_all(b"heard").await.unwrap();
        drop(other);
        let mut answer = String::new();
        quiet.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "heard");
    }

    #[tokio::test]
    async fn what_comes_in_pieces_is_read_to_its_end() {
        let (mut quiet, mut other) = pair();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 241) as u8).collect();
        let expected = sent.clone();
        tokio::spawn(async move {
            for piece in sent.chunks(10_007) {
                other.write_all(piece).await.unwrap();
            }
        });
        let mut read = Vec::new();
        quiet.read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
    }

    #[tokio::test]
    async fn a_write_to_nobody_fails() {
        let (mut quiet, other) = pair();
        drop(other);
        let error = quiet.write_all(b"?").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
