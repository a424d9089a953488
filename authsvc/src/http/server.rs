//! The sockets that the service listens on.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
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
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::time::Interval;
use tower::Service;
use warrant_door::received::{Holding, Received};
use warrant_door::tls::{NotAccepted, STRICT_TRANSPORT, Tls, reason};
use warrant_door::unix::{self, NotBound, Socket, SocketFile};
use warrant_door::{
    Guarded, Idle, Paced, Place, Places, Prefix, QuietStream, bound_unsent, proxy_protocol,
};
use warrant_upkeep::service_manager;

use super::Fault;

use crate::audit::{Audit, Event, Sort};
use crate::certificates::Shown;
use crate::config::Listen;
use crate::error::{Error, Kind, Result};
use crate::peer::Peer;
use crate::source::{Forwarders, Source};

/// The longest head of a request, in bytes: the same as the broker's, so that a
/// proxy in front of both needs one limit.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// How long a client may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once, on each of the two sockets.
const MAX_CONNECTIONS: u32 = 1024;
/// Of those, from one address where clients come over TLS themselves; and the
/// requests under way for one client that the broker or a proxy names.
const MAX_OF_ONE: u32 = 256;
/// The most connections that wait for a place.
const MAX_WAITING: u32 = 64;
/// How long requests may take to end after the service is told to stop.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a client may leave an answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The rest after an accept that failed, commonly for want of descriptors.
const RECOVERY: Duration = Duration::from_millis(100);

/// The bound sockets.
#[derive(Debug)]
pub(crate) struct Server {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
    proxy_protocol: bool,
    audit: Option<Audit>,
    callers: Callers,
    _socket: SocketFile,
}

/// How a request is read that others send for somebody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Callers {
    /// Those who may say for whom they send it.
    pub(crate) forwarders: Forwarders,
    /// The path below which clients reach the service.
    pub(crate) prefix: Prefix,
}

impl Server {
    /// Bind the sockets that `listen` names.
    ///
    /// Errors: TLS cannot be used as it is configured; an address is taken or not ours; the socket's directory is open
    /// to others; something that is no socket is in the way.
    pub(crate) async fn bind(listen: &Listen) -> Result<Self> {
        let tls = listen.tls.files().map(Tls::open).transpose();
        let tls = tls.map_err(|error| Error::new(Kind::Insecure, error.to_string()))?;
        let socket = Socket::bind(&listen.socket, listen.socket_mode.bits()).map_err(not_bound)?;
        let (unix, file) = socket.into_parts();
        let tcp = match listen.tcp {
            None => None,
            Some(address) => Some(TcpListener::bind(address).await.map_err(|source| {
                Error::unavailable(format!("listen.tcp: cannot listen on {address}"), source)
            })?),
        };
        Ok(Self {
            unix,
            tcp,
            tls,
            proxy_protocol: listen.proxy_protocol,
            audit: None,
            callers: Callers::default(),
            _socket: file,
        })
    }

    /// Record in `audit` what is refused before there is a request.
    pub(crate) fn recording(self, audit: Audit) -> Self {
        Self {
            audit: Some(audit),
            ..self
        }
    }

    /// Read requests as `callers` says.
    pub(crate) fn reading(self, callers: Callers) -> Self {
        Self { callers, ..self }
    }

    /// The address on which TCP is accepted, if it is.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// Answer requests until `stop`, then let those under way end.
    pub(crate) async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let (stopping, stopped) = watch::channel(());
        let unix_door = Door::new(MAX_OF_ONE, &router, &self.callers, None);
        let over_tls = self.tls.map(|tls| {
            tokio::spawn(tls.clone().watch());
            OverTls {
                tls,
                audit: self.audit,
                stopped,
            }
        });
        let of_one = match &over_tls {
            Some(_) => MAX_OF_ONE,
            None => MAX_CONNECTIONS,
        };
        let mut tcp_door = Door::new(of_one, &router, &self.callers, over_tls);
        tcp_door.proxy_protocol = self.proxy_protocol;
        let graceful = GracefulShutdown::new();
        tokio::pin!(stop);
        let mut ticks = service_manager::alive_every().map(tokio::time::interval);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = tick(ticks.as_mut()) => {
                    if let Err(error) = service_manager::tell_alive() {
                        tracing::warn!(%error, "the service manager is not told that this service is alive");
                    }
                }
                accepted = self.unix.accept() => match accepted {
                    Ok((stream, _)) => {
                        let peer = stream.peer_cred().ok().map(|peer| peer.uid());
                        match QuietStream::new(stream) {
                            Ok(stream) => unix_door.admit_unix(stream, peer, graceful.watcher()),
                            Err(error) => tracing::warn!(%error, "a connection was not served"),
                        }
                    }
                    Err(error) => rest(&error).await,
                },
                accepted = accept_tcp(self.tcp.as_ref()) => match accepted {
                    Ok((stream, from)) => tcp_door.admit_tcp(stream, from.ip(), graceful.watcher()),
                    Err(error) => rest(&error).await,
                },
            }
        }
        drop(stopping);
        if tokio::time::timeout(FAREWELL, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way at the end");
        }
    }
}

async fn accept_tcp(tcp: Option<&TcpListener>) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match tcp {
        Some(tcp) => tcp.accept().await,
        None => std::future::pending().await,
    }
}

async fn tick(ticks: Option<&mut Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

async fn rest(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(RECOVERY).await;
}

/// Where connections of one socket come in.
#[derive(Clone)]
struct Door {
    places: Places,
    router: Router,
    http: http1::Builder,
    callers: Callers,
    /// Whether connections begin with the PROXY protocol.
    proxy_protocol: bool,
    over_tls: Option<OverTls>,
}

/// What connections over TLS need.
#[derive(Clone)]
struct OverTls {
    tls: Arc<Tls>,
    audit: Option<Audit>,
    /// Ends once no more handshakes are waited for.
    stopped: watch::Receiver<()>,
}

impl Door {
    fn new(of_one: u32, router: &Router, callers: &Callers, over_tls: Option<OverTls>) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(None::<Duration>)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(2 * MAX_HEAD_BYTES);
        Self {
            places: Places::new(MAX_CONNECTIONS, of_one),
            router: router.clone(),
            http,
            callers: callers.clone(),
            proxy_protocol: false,
            over_tls,
        }
    }

    /// A place for a connection, if there is one soon: idle ones go for it. The
    /// connections of the broker and of proxies are counted request by request.
    async fn place(&self, peer: Peer) -> Option<Place> {
        let mut place = None;
        if self.places.wanted() < MAX_WAITING
            && let Some(room) = self.places.room_soon().await
        {
            place = match peer {
                Peer::Tcp(address) if !self.callers.forwarders.trusts(peer) => {
                    self.places.take(room, address).await
                }
                Peer::Tcp(_) | Peer::Unix(_) | Peer::Forwarded => {
                    Some(self.places.take_for_many(room))
                }
            };
        }
        if place.is_none() {
            tracing::warn!(?peer, "closed a connection: there are too many");
        }
        place
    }

    /// Serve a connection over the Unix socket, or close it when there are too
    /// many.
    fn admit_unix(&self, stream: QuietStream, uid: Option<u32>, watcher: Watcher) {
        let (door, peer) = (self.clone(), Peer::Unix(uid));
        tokio::spawn(async move {
            let Some(place) = door.place(peer).await else {
                return;
            };
            let connection = door.connection(stream, peer, None, place.idle());
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }

    /// As [`Door::admit_unix`], over TCP, and over TLS where it is configured.
    fn admit_tcp(&self, stream: TcpStream, from: IpAddr, watcher: Watcher) {
        let peer = Peer::Tcp(from);
        if let Err(error) = bound_unsent(&stream, WRITE_TIMEOUT) {
            tracing::debug!(%from, %error, "a connection broke before it was served");
            return;
        }
        if self.proxy_protocol && !self.callers.forwarders.trusts(peer) {
            tracing::debug!(%from, "closed a connection: it is not from a proxy");
            return;
        }
        let door = self.clone();
        tokio::spawn(async move {
            if let Some(place) = door.place(peer).await {
                door.converse(stream, from, watcher, &place).await;
            }
        });
    }

    async fn converse(
        &self,
        mut stream: TcpStream,
        mut from: IpAddr,
        watcher: Watcher,
        place: &Place,
    ) {
        let mut share = None;
        if self.proxy_protocol {
            match proxy_protocol::read(&mut stream).await {
                Ok(Some(client)) => {
                    share = self.places.share(client);
                    if share.is_none() {
                        tracing::warn!(%client, "closed a connection: there are too many");
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
        let peer = Peer::Tcp(from);
        let served = match &self.over_tls {
            None => {
                let connection = self.connection(stream, peer, None, place.idle());
                watcher.watch(connection).await
            }
            Some(over_tls) => {
                let mut stopped = over_tls.stopped.clone();
                let accepted = tokio::select! {
                    accepted = over_tls.tls.accept(stream) => accepted,
                    _ = stopped.changed() => return,
                };
                let (stream, chain) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => return over_tls.not_accepted(from, &error),
                };
                let shown = chain.map(|chain| Shown::new(chain, over_tls.tls.clone()));
                let connection = self.connection(stream, peer, shown, place.idle());
                watcher.watch(connection).await
            }
        };
        drop(share);
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// A connection to be served, whose client `shown` is of.
    fn connection<S>(
        &self,
        stream: S,
        peer: Peer,
        shown: Option<Shown>,
        idle: Idle,
    ) -> impl GracefulConnection<Error = hyper::Error> + Send + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let door = Arc::new(self.clone());
        let stream = Paced::new(stream, WRITE_TIMEOUT);
        let (stream, conversation) = Guarded::new(stream, HEAD_TIMEOUT, idle);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let turn = warrant_door::settle(&mut request, &conversation);
            let extensions = request.extensions_mut();
            extensions.insert(peer);
            if let Some(shown) = &shown {
                extensions.insert(shown.clone());
            }
            door.callers.prefix.strip_from(request.uri_mut());
            let answer = door.clone().answer(peer, request);
            async move { Ok::<_, Infallible>(turn.answer(answer.await?)) }
        });
        self.http.serve_connection(TokioIo::new(stream), service)
    }

    /// Answer a request, counted for the client that a broker or a proxy names.
    async fn answer(
        self: Arc<Self>,
        peer: Peer,
        mut request: hyper::Request<Incoming>,
    ) -> Result<Response, Infallible> {
        let (client, source) = self.callers.forwarders.source(peer, request.headers());
        request.extensions_mut().insert(source);
        let share = match (client, peer) {
            (None, _) => None,
            // Its connection is counted.
            (Some(client), Peer::Tcp(own)) if client == own.to_canonical() => None,
            (Some(client), _) => match self.places.share(client) {
                Some(share) => Some(share),
                None => {
                    let words =
                        "Too many requests at once from one address. Try again in 1 second.";
                    return Ok(Fault::too_many(words, 1).into_response());
                }
            },
        };
        let (head, body) = request.into_parts();
        let (body, unread) = Received::new(body, &head.headers);
        let request = Request::from_parts(head, Body::new(body));
        let mut answer = self.router.clone().call(request).await?;
        unread.write(answer.headers_mut());
        if self.over_tls.is_some() {
            let headers = answer.headers_mut();
            headers.insert(STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
        }
        Ok(match share {
            Some(share) => answer.map(|body| Body::new(Holding::new(body, share))),
            None => answer,
        })
    }
}

impl OverTls {
    /// Record that a client's certificate does not count.
    fn not_accepted(&self, from: IpAddr, error: &NotAccepted) {
        tracing::debug!(%from, %error, "no connection over TLS");
        let word = match error {
            NotAccepted::Refused(why) => reason(why),
            NotAccepted::Late | NotAccepted::Broken(_) => None,
        };
        if let (Some(word), Some(audit)) = (word, &self.audit) {
            let mut event = Event::new(Sort::Login, Source::of_address(from));
            event.action = Some("certificate");
            audit.refused(event, word);
        }
    }
}

/// As [`unix::check_parent`], for the directory of `listen.socket`.
///
/// Errors: others can write to it, or it is not there.
pub(crate) fn check_parent(parent: &Path) -> Result<()> {
    unix::check_parent(parent).map_err(not_bound)
}

fn not_bound(why: NotBound) -> Error {
    let kind = match why {
        NotBound::NotAbsolute => Kind::Invalid,
        NotBound::Open(..) => Kind::Insecure,
        NotBound::NoSocket(_) | NotBound::Taken(_) => Kind::Conflict,
        NotBound::Failed(..) => Kind::Unavailable,
    };
    Error::new(kind, format!("listen.socket: {why}"))
}
