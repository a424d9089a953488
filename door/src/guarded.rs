//! A connection whose requests are read along.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::Framing;

/// A connection; what comes in is read along.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    framing: Framing,
    verdicts: Verdicts,
}

/// Tells, request by request, which ones say their length twice. Of one
/// connection, as its requests come.
#[derive(Debug, Clone)]
pub struct Verdicts(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The first request that says its length twice, counted from 1.
    twice: AtomicU64,
    /// Requests that were asked about.
    asked: AtomicU64,
}

impl Verdicts {
    /// Whether the next request, in the order in which they came, says its
    /// length once at most.
    pub fn next_is_plain(&self) -> bool {
        let next = self.0.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let twice = self.0.twice.load(Ordering::Relaxed);
        twice == 0 || next < twice
    }
}

impl<S> Guarded<S> {
    /// Read along with `stream`, from its beginning.
    pub fn new(stream: S) -> (Self, Verdicts) {
        let verdicts = Verdicts(Arc::default());
        let guarded = Self {
            stream,
            framing: Framing::new(),
            verdicts: verdicts.clone(),
        };
        (guarded, verdicts)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let Some(bytes) = buffer.filled().get(before..)
            && let Some(request) = this.framing.read(bytes)
        {
            let twice = &this.verdicts.0.twice;
            let _ = twice.compare_exchange(0, request, Ordering::Relaxed, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
