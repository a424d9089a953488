//! Bodies of requests that are given up in time and drained where nobody reads
//! them; bodies of answers that keep hold of something until they were sent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// The longest a request's body may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a body which nobody wants is read for, in all and without a
/// byte of it.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_PAUSE: Duration = Duration::from_secs(2);
/// The most of it that is read, in bytes.
const DRAIN_BYTES: u64 = 64 << 20;

/// So many bytes of it are no reason to end the connection.
const LITTLE: u64 = 64 << 10;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
///
/// It fails where it does not come in time. Dropped before its end, it is read
/// on, within bounds: a server that closes with bytes unread makes the kernel
/// reset the connection, and the client loses the answer. Source: RFC 9112 §9.6.
#[derive(Debug)]
pub struct Received<B: Drained> {
    body: Option<B>,
    /// Set once the body has to be waited for.
    late: Option<Pin<Box<Sleep>>>,
    /// Whether the client sends nothing before it is told to.
    waits: bool,
    unread: Unread,
}

/// Whether much of a request's body was left unread.
#[derive(Debug, Clone, Default)]
pub struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Tell the client, in the head of the answer, that the connection ends with
    /// it: some would else wait to send the rest.
    pub fn write(&self, headers: &mut http::HeaderMap) {
        if self.0.load(Ordering::Relaxed) {
            let close = http::HeaderValue::from_static("close");
            headers.insert(http::header::CONNECTION, close);
        }
    }
}

/// What the body of a request can be: something that can be read elsewhere.
pub trait Drained: Body<Data = Bytes, Error: Into<Failure>> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error: Into<Failure>> + Send + Unpin + 'static> Drained for B {}

impl<B: Drained> Received<B> {
    /// The body of a request with these headers, and what tells whether it was left
    /// unread.
    pub fn new(body: B, headers: &http::HeaderMap) -> (Self, Unread) {
        let unread = Unread::default();
        let received = Self {
            body: Some(body),
            late: None,
            waits: headers.contains_key(http::header::EXPECT),
            unread: unread.clone(),
        };
        (received, unread)
    }
}

impl<B: Drained> Body for Received<B> {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        this.waits = false;
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let late = this
            .late
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        late.as_mut().poll(context).map(|()| {
            this.body = None;
            Some(Err("the request's body did not come in time".into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Drained> Drop for Received<B> {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        let rest = unread.as_ref().map(|body| body.size_hint().upper());
        if rest.is_some_and(|rest| rest.is_none_or(|bytes| bytes > LITTLE)) {
            self.unread.0.store(true, Ordering::Relaxed);
        }
        if let (Some(body), false, Ok(runtime)) =
            (unread, self.waits, tokio::runtime::Handle::try_current())
        {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(body)));
        }
    }
}

async fn drain<B: Drained>(mut body: B) {
    let mut left = DRAIN_BYTES;
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let Ok(Some(Ok(frame))) = tokio::time::timeout(DRAIN_PAUSE, next).await else {
            return;
        };
        let read = frame.data_ref().map_or(0, Buf::remaining) as u64;
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The body of an answer, and what is kept until it was sent or given up.
#[derive(Debug)]
pub struct Holding<B, T> {
    body: B,
    _kept: T,
}

impl<B, T> Holding<B, T> {
    /// Keep `kept` as long as `body`.
    pub fn new(body: B, kept: T) -> Self {
        Self { body, _kept: kept }
    }
}

impl<B: Body + Unpin, T: Unpin> Body for Holding<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
