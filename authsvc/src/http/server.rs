//! The sockets that the service listens on.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::STRICT_TRANSPORT_SECURITY;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use nix::unistd::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::time::Interval;
use tower::Service;
use warrant_door::tls::{NotAccepted, STRICT_TRANSPORT, Tls, reason};
use warrant_door::{Guarded, Idle, Paced, Place, Places, QuietStream, bound_unsent};
use warrant_upkeep::service_manager;

use crate::audit::{Audit, Event, Sort};
use crate::certificates::Shown;
use crate::config::Listen;
use crate::error::{Error, Kind, Result};
use crate::peer::Peer;
use crate::source::Source;

/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// How long a client may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once, on each of the two sockets.
const MAX_CONNECTIONS: u32 = 1024;
/// Of those, from one address, where clients come over TLS themselves: else
/// all come from the proxy's.
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
    audit: Option<Audit>,
    _socket: SocketFile,
}

/// The path of the Unix socket; removed in the end.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it cannot be removed, the next start replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

impl Server {
    /// Bind the sockets that `listen` names.
    ///
    /// Errors: TLS cannot be used as it is configured; an address is taken or not ours; the socket's directory is open
    /// to others; something that is no socket is in the way.
    pub(crate) async fn bind(listen: &Listen) -> Result<Self> {
        let tls = listen.tls.files().map(Tls::open).transpose();
        let tls = tls.map_err(|error| Error::new(Kind::Insecure, error.to_string()))?;
        let unix = bind_unix(&listen.socket, listen.socket_mode.bits())?;
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
            audit: None,
            _socket: SocketFile(listen.socket.clone()),
        })
    }

    /// Record in `audit` what is refused before there is a request.
    pub(crate) fn recording(self, audit: Audit) -> Self {
        Self {
            audit: Some(audit),
            ..self
        }
    }

    /// The address on which TCP is accepted, if it is.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// Answer requests until `stop`, then let those under way end.
    pub(crate) async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let (stopping, stopped) = watch::channel(());
        let unix_door = Door::new(MAX_CONNECTIONS, &router, None);
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
        let tcp_door = Door::new(of_one, &router, over_tls);
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
                            Ok(stream) => unix_door.admit(stream, Peer::Unix(peer), &graceful),
                            Err(error) => tracing::warn!(%error, "a connection was not served"),
                        }
                    }
                    Err(error) => rest(&error).await,
                },
                accepted = accept_tcp(self.tcp.as_ref()) => match accepted {
                    Ok((stream, from)) => tcp_door.admit_tcp(stream, from.ip(), &graceful),
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
    fn new(of_one: u32, router: &Router, over_tls: Option<OverTls>) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(None::<Duration>)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(2 * MAX_HEAD_BYTES);
        Self {
            places: Places::new(MAX_CONNECTIONS, of_one),
            router: router.clone(),
            http,
            over_tls,
        }
    }

    /// A place for a connection, if there is one soon: idle ones go for it.
    async fn place(&self, peer: Peer) -> Option<Place> {
        let source = match peer {
            Peer::Tcp(address) => address,
            Peer::Unix(_) | Peer::Forwarded => Ipv4Addr::UNSPECIFIED.into(),
        };
        let mut place = None;
        if self.places.wanted() < MAX_WAITING
            && let Some(room) = self.places.room_soon().await
        {
            place = self.places.take(room, source).await;
        }
        if place.is_none() {
            tracing::warn!(?peer, "closed a connection: there are too many");
        }
        place
    }

    /// Serve a connection, or close it when there are too many.
    fn admit<S>(&self, stream: S, peer: Peer, graceful: &GracefulShutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (door, watcher) = (self.clone(), graceful.watcher());
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

    /// As [`Door::admit`], over TLS where it is configured.
    fn admit_tcp(&self, stream: TcpStream, from: IpAddr, graceful: &GracefulShutdown) {
        let peer = Peer::Tcp(from);
        if let Err(error) = bound_unsent(&stream, WRITE_TIMEOUT) {
            tracing::debug!(%from, %error, "a connection broke before it was served");
            return;
        }
        let Some(over_tls) = self.over_tls.clone() else {
            return self.admit(stream, peer, graceful);
        };
        let (door, watcher) = (self.clone(), graceful.watcher());
        tokio::spawn(async move {
            if let Some(place) = door.place(peer).await {
                door.converse(&over_tls, stream, from, watcher, place).await;
            }
        });
    }

    async fn converse(
        &self,
        over_tls: &OverTls,
        stream: TcpStream,
        from: IpAddr,
        watcher: Watcher,
        place: Place,
    ) {
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
        let connection = self.connection(stream, Peer::Tcp(from), shown, place.idle());
        if let Err(error) = watcher.watch(connection).await {
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
        let router = self.router.clone();
        let over_tls = self.over_tls.is_some();
        let stream = Paced::new(stream, WRITE_TIMEOUT);
        let (stream, conversation) = Guarded::new(stream, HEAD_TIMEOUT, idle);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let turn = warrant_door::settle(&mut request, &conversation);
            let extensions = request.extensions_mut();
            extensions.insert(peer);
            if let Some(shown) = &shown {
                extensions.insert(shown.clone());
            }
            let answer = router.clone().call(request.map(Body::new));
            async move {
                let mut answer = answer.await?;
                if over_tls {
                    let headers = answer.headers_mut();
                    headers.insert(STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
                }
                Ok::<_, Infallible>(turn.answer(answer))
            }
        });
        self.http.serve_connection(TokioIo::new(stream), service)
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

/// Bind `path` so that nobody can connect before its mode is set.
fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener> {
    let failed = |source: io::Error| {
        Error::unavailable(
            format!("listen.socket: cannot listen on {}", path.display()),
            source,
        )
    };
    let parent = path
        .parent()
        .filter(|parent| parent.is_absolute())
        .ok_or_else(|| Error::invalid("listen.socket: an absolute path is needed"))?;
    check_parent(parent)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::new(
                Kind::Conflict,
                format!("listen.socket: {} exists and is no socket", path.display()),
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "listen.socket: another service answers on {}",
                    path.display()
                ),
            ));
        }
        Ok(_) | Err(_) => {}
    }
    let hidden = parent.join(format!(".{}", std::process::id()));
    let _ = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(failed)?;
    fs::set_permissions(&hidden, Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&hidden, path))
        .map_err(failed)?;
    Ok(listener)
}

/// Whoever can write to the socket's directory can put another service in
/// the place of this one.
///
/// Errors: others can write to it, or it is not there.
pub(crate) fn check_parent(parent: &Path) -> Result<()> {
    let found = fs::metadata(parent).map_err(|source| {
        Error::unavailable(
            format!("listen.socket: no directory {}", parent.display()),
            source,
        )
    })?;
    let own = geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    if (found.uid() != own && found.uid() != 0) || mode & 0o022 != 0 {
        return Err(Error::new(
            Kind::Insecure,
            format!(
                "listen.socket: {} has mode {mode:04o} and owner {}; it must belong to root or uid \
                 {own} and be writable by its owner alone",
                parent.display(),
                found.uid()
            ),
        ));
    }
    Ok(())
}
