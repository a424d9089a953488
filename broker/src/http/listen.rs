//! Accepting connections, with bounds on how many, how slow and how large: also
//! on how slowly a response may be read.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request};
use axum::middleware;
use axum::response::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::STRICT_TRANSPORT_SECURITY;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, Sleep};
use tower::Service;
use warrant_door::tls::{STRICT_TRANSPORT, Tls};
use warrant_door::{Guarded, Idle, Paced, Places, bound_unsent};

/// The longest a request's head may take to come.
const HEAD: Duration = Duration::from_secs(15);
/// The longest a request's body may take to come.
const BODY: Duration = Duration::from_secs(30);
/// The most bytes of a request's head: the existing clients put whole
/// submissions into the URL, which may have 64 KiB by itself.
const HEAD_BYTES: usize = 128 * 1024;
/// How long requests in progress may take once the service stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is told that connections are still taken, and how often.
pub type Pulse = (Duration, Box<dyn Fn() + Send + Sync>);

/// Where connections are accepted.
#[derive(Debug)]
pub struct Entrance {
    /// The socket.
    pub listener: TcpListener,
    /// TLS; plain HTTP where there is none.
    pub tls: Option<Arc<Tls>>,
    /// Room for connections, in all and of each source.
    pub places: Places,
    /// How long a client may leave a response unread.
    pub write_timeout: Duration,
}

/// Serve `router` until `stop` says so; then finish the requests in progress.
/// Where all places are taken, or a source has its share of them, the connection
/// goes that was idle for longest.
pub async fn serve(
    entrance: Entrance,
    router: Router,
    mut stop: watch::Receiver<bool>,
    pulse: Option<Pulse>,
) {
    let Entrance {
        listener,
        tls,
        places,
        write_timeout,
    } = entrance;
    let mut ticks = pulse
        .as_ref()
        .map(|(every, _)| tokio::time::interval(*every));
    let router = match &tls {
        Some(_) => router.layer(middleware::map_response(by_tls_alone)),
        None => router,
    };
    // A connection that waits for room; others wait in the kernel meanwhile.
    let mut waiting = None;
    loop {
        let taken = tokio::select! {
            taken = next(&listener, &places, &mut waiting) => taken,
            _ = stop.wait_for(|stop| *stop) => break,
            () = tick(&mut ticks) => {
                if let Some((_, tell)) = &pulse {
                    tell();
                }
                continue;
            }
        };
        let (stream, peer, room) = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => return,
            Err(error) => {
                // Out of descriptors, most likely: let some connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let prepared = stream.set_nodelay(true);
        if let Err(error) = prepared.and_then(|()| bound_unsent(&stream, write_timeout)) {
            tracing::debug!(%peer, %error, "a connection broke before it was served");
            continue;
        }
        let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
        let places = places.clone();
        tokio::spawn(async move {
            let Some(place) = places.take(room, peer.ip()).await else {
                tracing::debug!(%peer, "closed a connection: there are too many from there");
                return;
            };
            let client = Client {
                address: peer,
                router,
                write_timeout,
                idle: place.idle(),
            };
            match tls {
                None => converse(stream, client, stop).await,
                Some(tls) => converse_over(&tls, stream, client, stop).await,
            }
            drop(place);
        });
    }
    let _ = tokio::time::timeout(FAREWELL, places.all_free()).await;
}

/// The next connection, and room for it; `None` where there never will be any.
/// One that was accepted is `waiting` until there is room, also where this
/// future is dropped.
async fn next(
    listener: &TcpListener,
    places: &Places,
    waiting: &mut Option<(TcpStream, SocketAddr)>,
) -> io::Result<Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)>> {
    if waiting.is_none() {
        *waiting = Some(listener.accept().await?);
    }
    let room = places.room().await;
    let taken = waiting.take().zip(room);
    Ok(taken.map(|((stream, peer), room)| (stream, peer, room)))
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

async fn by_tls_alone(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
    response
}

/// Who connected, what answers, and where the connection says that it is idle.
struct Client {
    address: SocketAddr,
    router: Router,
    write_timeout: Duration,
    idle: Idle,
}

/// As [`converse`], once there is a connection over TLS.
async fn converse_over(
    tls: &Tls,
    stream: TcpStream,
    client: Client,
    mut stop: watch::Receiver<bool>,
) {
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    match accepted {
        Ok((stream, _)) => converse(stream, client, stop).await,
        Err(error) => {
            let peer = client.address;
            tracing::debug!(%peer, %error, "no connection over TLS");
        }
    }
}

/// HTTP/1.1 alone. The HTTP library takes at most 100 headers of a request. It
/// must not gather the answers to pipelined requests: a refusal of a broken
/// head, with bytes behind it, would then never be sent. How long a head may
/// take, and a connection be idle, is seen to by [`Guarded`].
async fn converse<S>(stream: S, client: Client, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Client {
        address,
        router,
        write_timeout,
        idle,
    } = client;
    let stream = Paced::new(stream, write_timeout);
    let (stream, conversation) = Guarded::new(stream, HEAD, idle);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        let turn = warrant_door::settle(&mut request, &conversation);
        let request = request.map(|body| axum::body::Body::new(Timely::new(body)));
        let answer = router.clone().call(request);
        async move { Ok::<_, Infallible>(turn.answer(answer.await?)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None::<Duration>)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopped = tokio::select! {
        _ = connection.as_mut() => false,
        _ = stop.wait_for(|stop| *stop) => true,
    };
    if stopped {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// A request's body that is given up where it does not come in time.
struct Timely {
    body: Incoming,
    /// Set once the body has to be waited for.
    late: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    const fn new(body: Incoming) -> Self {
        Self { body, late: None }
    }
}

impl Body for Timely {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let late = this
            .late
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY)));
        late.as_mut()
            .poll(context)
            .map(|()| Some(Err("the request's body did not come in time".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
