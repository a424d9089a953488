//! A connection whose requests are read along.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Response;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::framing::{Flaw, Framing};
use crate::places::Idle;

/// How long clients may leave a connection alone before they must not use it
/// again, in seconds: longer than their pools keep one (nginx 60 s, reqwest and
/// Go 90 s), so that it is they who close it.
const ANNOUNCED_S: u16 = 120;
/// How long a connection is kept without a request. A client that counts to
/// the last second finds it open.
const IDLE: Duration = Duration::from_secs(ANNOUNCED_S as u64 + 5);

/// A connection; what comes in is read along. It ends where a head takes too
/// long to come, or nothing comes for too long.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    framing: Framing,
    conversation: Conversation,
    idle: Idle,
    /// The longest that a head may take.
    head: Duration,
    /// What is waited for, and since when.
    waiting: (Wait, u64, Instant),
    alarm: Option<Pin<Box<Sleep>>>,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The rest of a head, or the first one.
    Head,
    /// The next request.
    Request,
    /// Others, who have limits of their own: a body, an answer.
    Others,
}

/// The requests of one connection, as they come: what makes the head of one
/// ambiguous, and how many are answered.
#[derive(Debug, Clone, Default)]
pub struct Conversation(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The first request with a flaw, counted from 1.
    flawed: OnceLock<(u64, Flaw)>,
    /// Requests that were asked about.
    asked: AtomicU64,
    /// Requests whose answers were given whole.
    answered: AtomicU64,
}

impl Conversation {
    /// What is wrong with the next request, in the order in which they came,
    /// for the caller. What follows one with a flaw cannot be told apart.
    pub(crate) fn next(&self) -> Option<&'static str> {
        let next = self.0.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let (first, flaw) = self.0.flawed.get()?;
        (next >= *first).then_some(flaw.text())
    }

    /// The turn of a request, which is over when its answer is given.
    pub(crate) fn turn(&self, keeps: bool) -> Turn {
        Turn {
            conversation: self.clone(),
            keeps,
        }
    }
}

/// One request's turn on its connection.
#[derive(Debug)]
pub struct Turn {
    conversation: Conversation,
    /// Whether the connection is kept for another request.
    keeps: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.conversation.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

impl Turn {
    /// The answer as it is sent. It says for how long the connection is kept.
    pub fn answer<B>(self, mut answer: Response<B>) -> Response<Answer<B>> {
        // An answer may end the connection by itself: its body was left unread.
        let ends = answer.headers().get(CONNECTION);
        if self.keeps && ends.is_none_or(|value| value != "close") {
            let headers = answer.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.insert(KEEP_ALIVE, KEPT.clone());
        }
        answer.map(|body| Answer { body, _turn: self })
    }
}

/// The name of what says for how long a connection is kept.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static KEPT: LazyLock<HeaderValue> = LazyLock::new(|| {
    let text = format!("timeout={ANNOUNCED_S}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
});

/// An answer's body; when it was sent, or given up, its request's turn is over.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    _turn: Turn,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<S> Guarded<S> {
    /// Read along with `stream`, from its beginning. A head may take `head`,
    /// and the connection says to `idle` when it waits for a request.
    pub fn new(stream: S, head: Duration, idle: Idle) -> (Self, Conversation) {
        let conversation = Conversation::default();
        let guarded = Self {
            stream,
            framing: Framing::new(),
            conversation: conversation.clone(),
            idle,
            head,
            waiting: (Wait::Head, 0, Instant::now()),
            alarm: None,
        };
        (guarded, conversation)
    }

    /// Nothing came: whether the connection ends now.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let heads = self.framing.heads();
        let answered = self.conversation.0.answered.load(Ordering::Relaxed);
        let wait = match self.framing.rests() {
            _ if self.framing.in_head() => Wait::Head,
            true if heads == 0 => Wait::Head,
            true if answered >= heads => Wait::Request,
            true | false => Wait::Others,
        };
        let (before, of, since) = self.waiting;
        let since = if (wait, heads) == (before, of) {
            since
        } else {
            Instant::now()
        };
        self.waiting = (wait, heads, since);
        if wait == Wait::Request {
            if self.idle.rest(context.waker()) {
                return Poll::Ready(());
            }
        } else {
            self.idle.resume();
        }
        let end = match wait {
            Wait::Head => since + self.head,
            Wait::Request => since + IDLE,
            Wait::Others => return Poll::Pending,
        };
        self.poll_alarm(context, end)
    }

    /// Ready once it is `end`. The alarm may be set to an earlier time, which
    /// spares setting it anew for every request.
    fn poll_alarm(&mut self, context: &mut Context<'_>, end: Instant) -> Poll<()> {
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if alarm.deadline() > end {
            alarm.as_mut().reset(end);
        }
        while alarm.as_mut().poll(context).is_ready() {
            if alarm.deadline() >= end {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(end);
        }
        Poll::Pending
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
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) else {
            // Only now: bytes that have come are a request. The end of the stream
            // ends the connection without a word.
            return this.poll_end(context).map(Ok);
        };
        this.idle.resume();
        if let Some(bytes) = buffer.filled().get(before..)
            && let Some(flawed) = this.framing.read(bytes)
        {
            // The first one stays.
            let _ = this.conversation.0.flawed.set(flawed);
        }
        Poll::Ready(read)
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

    /// The answer may be whole now; the HTTP library does not read again before
    /// something comes.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(context));
        if this.poll_end(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Ready(flushed)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::Places;

    const HEAD: Duration = Duration::from_secs(15);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// How long a connection lives, to which `sent` came and all of it was
    /// answered.
    async fn life(sent: &[u8], answered: usize) -> Duration {
        let places = Places::new(1, 1);
        let room = places.room().await.unwrap();
        let source = std::net::Ipv4Addr::LOCALHOST.into();
        let place = places.take(room, source).await.unwrap();
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut guarded, conversation) = Guarded::new(server, HEAD, place.idle());
        let began = Instant::now();
        client.write_all(sent).await.unwrap();
        let mut byte = [0];
        for _ in sent {
            guarded.read_exact(&mut byte).await.unwrap();
        }
        for _ in 0..answered {
            drop(conversation.turn(true));
        }
        let read = guarded.read(&mut byte);
        let Ok(read) = tokio::time::timeout(Duration::from_secs(1000), read).await else {
            return Duration::MAX;
        };
        assert_eq!(read.unwrap(), 0);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn t111_a_connection_ends_when_a_head_is_late_or_nothing_comes_for_long() {
        let second = Duration::from_secs(1);
        for (sent, answered, expected) in [
            (&b""[..], 0, HEAD),
            (b"GET / HT", 0, HEAD),
            (REQUEST, 1, IDLE),
            (&[REQUEST, b"GET"].concat(), 1, HEAD),
        ] {
            let lived = life(sent, answered).await;
            assert!(lived >= expected && lived < expected + second, "{lived:?}");
        }
        // One that is not answered yet has no end here.
        assert_eq!(life(REQUEST, 0).await, Duration::MAX);
        assert_eq!(life(&[REQUEST, REQUEST].concat(), 1).await, Duration::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_have_come_count_before_the_end_does() {
        let places = Places::new(1, 1);
        let room = places.room().await.unwrap();
        let place = places
            .take(room, std::net::Ipv4Addr::LOCALHOST.into())
            .await
            .unwrap();
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut guarded, conversation) = Guarded::new(server, HEAD, place.idle());
        client.write_all(REQUEST).await.unwrap();
        let mut bytes = [0; REQUEST.len()];
        guarded.read_exact(&mut bytes).await.unwrap();
        drop(conversation.turn(true));
        let mut byte = [0];
        tokio::select! {
            biased;
            _ = guarded.read(&mut byte) => panic!("nothing was sent"),
            () = tokio::time::sleep(IDLE - Duration::from_secs(1)) => {}
        }
        client.write_all(b"G").await.unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(guarded.read(&mut byte).await.unwrap(), 1);
    }
}
