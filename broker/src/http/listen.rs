//! Accepting connections, with bounds on how many, how slow and how large: also
//! on how slowly a response may be read.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::header::STRICT_TRANSPORT_SECURITY;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Interval;
use tower::Service;
use warrant_door::proxies::{Hop, Proxies};
use warrant_door::received::{Holding, Received};
use warrant_door::tls::{STRICT_TRANSPORT, Tls};
use warrant_door::{
    Guarded, Idle, Paced, Place, Places, Prefix, QuietStream, bound_unsent, proxy_protocol,
};

use super::flux::fault::Fault;

/// The longest a request's head may take to come.
const HEAD: Duration = Duration::from_secs(15);
/// The most bytes of a request's head: the existing clients put whole
/// submissions into the URL, which may have 64 KiB by itself.
const HEAD_BYTES: usize = 128 * 1024;
/// The most connections to the admin listener.
const ADMIN_CONNECTIONS: u32 = 16;
/// How long a client of the admin listener may leave a response unread.
const ADMIN_WRITE: Duration = Duration::from_secs(10);
/// How long requests in progress may take once the service stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is told that connections are still taken, and how often.
pub type Pulse = (Duration, Box<dyn Fn() + Send + Sync>);

/// What is listened on, and how what comes in is read.
#[derive(Debug)]
pub struct Listeners {
    /// The main listener.
    pub tcp: TcpListener,
    /// TLS on it.
    pub tls: Option<Arc<Tls>>,
    /// Whether connections to it begin with the PROXY protocol.
    pub proxy_protocol: bool,
    /// The Unix socket for the proxy in front.
    pub unix: Option<UnixListener>,
    /// The proxies that are trusted to name the client of a request.
    pub proxies: Proxies,
    /// The path below which clients reach the service.
    pub prefix: Prefix,
    /// Room for connections, in all and of each source.
    pub places: Places,
    /// How long a client may leave a response unread.
    pub write_timeout: Duration,
}

impl Listeners {
    /// The listener for those who look after the server, which few use.
    pub fn of_admin(tcp: TcpListener) -> Self {
        Self {
            tcp,
            tls: None,
            proxy_protocol: false,
            unix: None,
            proxies: Proxies::default(),
            prefix: Prefix::default(),
            places: Places::new(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS),
            write_timeout: ADMIN_WRITE,
        }
    }
}

/// The address of the client that a request is from, where that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) Option<IpAddr>);

/// What every connection needs.
struct Server {
    router: Router,
    places: Places,
    proxies: Proxies,
    prefix: Prefix,
    write_timeout: Duration,
    /// Whether only TLS is spoken.
    over_tls: bool,
    stop: watch::Receiver<bool>,
}

/// A connection that was accepted.
enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(QuietStream, Option<u32>),
}

/// Serve `router` on `listeners` until `stop` says so; then finish the requests in
/// progress. Where all places are taken, or a source has its share of them, the
/// connection goes that was idle for longest.
pub async fn serve(
    listeners: Listeners,
    router: Router,
    mut stop: watch::Receiver<bool>,
    pulse: Option<Pulse>,
) {
    let places = listeners.places.clone();
    let server = Arc::new(Server {
        router,
        places: places.clone(),
        proxies: listeners.proxies.clone(),
        prefix: listeners.prefix.clone(),
        write_timeout: listeners.write_timeout,
        over_tls: listeners.tls.is_some(),
        stop: stop.clone(),
    });
    let mut ticks = pulse
        .as_ref()
        .map(|(every, _)| tokio::time::interval(*every));
    // A connection that waits for room; others wait in the kernel meanwhile.
    let mut waiting = None;
    loop {
        let taken = tokio::select! {
            taken = next(&listeners, &mut waiting) => taken,
            _ = stop.wait_for(|stop| *stop) => break,
            () = tick(&mut ticks) => {
                if let Some((_, tell)) = &pulse {
                    tell();
                }
                continue;
            }
        };
        match taken {
            Ok(Some((accepted, room))) => {
                let tls = listeners.tls.clone();
                let proxied = listeners.proxy_protocol;
                tokio::spawn(server.clone().take(accepted, room, tls, proxied));
            }
            Ok(None) => return,
            Err(error) => {
                // Out of descriptors, most likely: let some connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let _ = tokio::time::timeout(FAREWELL, places.all_free()).await;
}

/// The next connection, and room for it; `None` where there never will be any.
/// One that was accepted is `waiting` until there is room, also where this
/// future is dropped.
async fn next(
    listeners: &Listeners,
    waiting: &mut Option<Accepted>,
) -> io::Result<Option<(Accepted, OwnedSemaphorePermit)>> {
    if waiting.is_none() {
        *waiting = Some(accept(&listeners.tcp, listeners.unix.as_ref()).await?);
    }
    let room = listeners.places.room().await;
    Ok(waiting.take().zip(room))
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

impl Accepted {
    fn hop(&self) -> Hop {
        match self {
            Self::Tcp(_, address) => Hop::Address(*address),
            Self::Unix(_, uid) => Hop::Account(*uid),
        }
    }
}

async fn accept(tcp: &TcpListener, unix: Option<&UnixListener>) -> io::Result<Accepted> {
    let by_unix = async {
        match unix {
            Some(unix) => unix.accept().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        accepted = tcp.accept() => {
            let (stream, peer) = accepted?;
            Ok(Accepted::Tcp(stream, peer.ip()))
        }
        accepted = by_unix => {
            let (stream, _) = accepted?;
            let uid = stream.peer_cred().ok().map(|peer| peer.uid());
            Ok(Accepted::Unix(QuietStream::new(stream)?, uid))
        }
    }
}

impl Server {
    /// Serve a connection for which there is `room`, unless its source has its
    /// share of places already. Whoever comes by the Unix socket has no address
    /// to be counted by, and a proxy's requests are counted one by one.
    async fn take(
        self: Arc<Self>,
        accepted: Accepted,
        room: OwnedSemaphorePermit,
        tls: Option<Arc<Tls>>,
        proxied: bool,
    ) {
        let hop = accepted.hop();
        let is_proxy = self.proxies.trusts(hop);
        if let (Hop::Address(peer), false, true) = (hop, is_proxy, proxied) {
            tracing::debug!(%peer, "closed a connection: it is not from a proxy");
            return;
        }
        let place = match hop {
            Hop::Address(address) if !is_proxy => self.places.take(room, address).await,
            Hop::Address(_) | Hop::Account(_) => Some(self.places.take_for_many(room)),
        };
        let Some(place) = place else {
            tracing::debug!(?hop, "closed a connection: there are too many from there");
            return;
        };
        match accepted {
            Accepted::Unix(stream, uid) => {
                self.converse(stream, Hop::Account(uid), place.idle()).await;
            }
            Accepted::Tcp(stream, from) => {
                let prepared = stream.set_nodelay(true);
                let prepared = prepared.and_then(|()| bound_unsent(&stream, self.write_timeout));
                match prepared {
                    Ok(()) => self.converse_tcp(stream, from, tls, proxied, &place).await,
                    Err(error) => {
                        tracing::debug!(%from, %error, "a connection broke before it was served");
                    }
                }
            }
        }
        drop(place);
    }

    async fn converse_tcp(
        self: Arc<Self>,
        mut stream: TcpStream,
        mut from: IpAddr,
        tls: Option<Arc<Tls>>,
        proxied: bool,
        place: &Place,
    ) {
        let mut share = None;
        if proxied {
            match proxy_protocol::read(&mut stream).await {
                Ok(Some(client)) => {
                    share = self.places.share(client);
                    if share.is_none() {
                        tracing::debug!(%client, "closed a connection: there are too many");
                        return;
                    }
                    from = client;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%from, %error, "closed a connection of a proxy");
                    return;
                }
            }
        }
        match tls {
            None => {
                self.converse(stream, Hop::Address(from), place.idle())
                    .await
            }
            Some(tls) => {
                let mut stop = self.stop.clone();
                let accepted = tokio::select! {
                    accepted = tls.accept(stream) => accepted,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                match accepted {
                    Ok((stream, _)) => {
                        self.converse(stream, Hop::Address(from), place.idle())
                            .await;
                    }
                    Err(error) => tracing::debug!(%from, %error, "no connection over TLS"),
                }
            }
        }
        drop(share);
    }

    /// HTTP/1.1 alone. The HTTP library takes at most 100 headers of a request. It
    /// must not gather the answers to pipelined requests: a refusal of a broken
    /// head, with bytes behind it, would then never be sent. How long a head may
    /// take, and a connection be idle, is seen to by [`Guarded`].
    async fn converse<S>(self: Arc<Self>, stream: S, hop: Hop, idle: Idle)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = Paced::new(stream, self.write_timeout);
        let (stream, conversation) = Guarded::new(stream, HEAD, idle);
        let mut stop = self.stop.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let turn = warrant_door::settle(&mut request, &conversation);
            let answer = self.clone().answer(hop, request);
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

    /// Answer a request. One that a proxy sends is counted for its client as long
    /// as it is under way.
    async fn answer(
        self: Arc<Self>,
        hop: Hop,
        mut request: hyper::Request<Incoming>,
    ) -> Result<Response, Infallible> {
        self.prefix.strip_from(request.uri_mut());
        let client = self.proxies.client(hop, request.headers());
        let own = hop.address();
        let share = match client.filter(|_| client != own) {
            None => None,
            Some(client) => match self.places.share(client) {
                Some(share) => Some(share),
                None => return Ok(Fault::too_many().into_response()),
            },
        };
        request.extensions_mut().insert(Client(client));
        let (head, body) = request.into_parts();
        let (body, unread) = Received::new(body, &head.headers);
        let request = Request::from_parts(head, Body::new(body));
        let mut answer = self.router.clone().call(request).await?;
        unread.write(answer.headers_mut());
        if self.over_tls && matches!(hop, Hop::Address(_)) {
            let headers = answer.headers_mut();
            headers.insert(STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
        }
        Ok(match share {
            Some(share) => answer.map(|body| Body::new(Holding::new(body, share))),
            None => answer,
        })
    }
}
