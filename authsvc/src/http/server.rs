//! The sockets that the service listens on.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use nix::unistd::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tower::Service;
use warrant_door::Guarded;

use crate::config::Listen;
use crate::error::{Error, Kind, Result};
use crate::peer::Peer;

/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// How long a client may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once, on each of the two sockets.
const MAX_CONNECTIONS: usize = 1024;
/// How long requests may take to end after the service is told to stop.
const FAREWELL: Duration = Duration::from_secs(10);
/// The rest after an accept that failed, commonly for want of descriptors.
const RECOVERY: Duration = Duration::from_millis(100);

/// The bound sockets.
#[derive(Debug)]
pub(crate) struct Server {
    unix: UnixListener,
    tcp: Option<TcpListener>,
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
    /// Errors: an address is taken or not ours; the socket's directory is open
    /// to others; something that is no socket is in the way.
    pub(crate) async fn bind(listen: &Listen) -> Result<Self> {
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
            _socket: SocketFile(listen.socket.clone()),
        })
    }

    /// The address on which TCP is accepted, if it is.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// Answer requests until `stop`, then let those under way end.
    pub(crate) async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let unix_door = Door::new(Arc::new(Semaphore::new(MAX_CONNECTIONS)), &router);
        let tcp_door = Door::new(Arc::new(Semaphore::new(MAX_CONNECTIONS)), &router);
        let graceful = GracefulShutdown::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.unix.accept() => match accepted {
                    Ok((stream, _)) => {
                        let peer = stream.peer_cred().ok().map(|peer| peer.uid());
                        unix_door.admit(stream, Peer::Unix(peer), &graceful);
                    }
                    Err(error) => rest(&error).await,
                },
                accepted = accept_tcp(self.tcp.as_ref()) => match accepted {
                    Ok((stream, from)) => tcp_door.admit(stream, Peer::Tcp(from.ip()), &graceful),
                    Err(error) => rest(&error).await,
                },
            }
        }
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

async fn rest(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(RECOVERY).await;
}

/// Marks a request that says its length twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct LengthTwice;

/// Where connections of one socket come in.
struct Door {
    places: Arc<Semaphore>,
    router: Router,
    http: http1::Builder,
}

impl Door {
    fn new(places: Arc<Semaphore>, router: &Router) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(2 * MAX_HEAD_BYTES);
        Self {
            places,
            router: router.clone(),
            http,
        }
    }

    /// Serve a connection, or close it when there are too many.
    fn admit<S>(&self, stream: S, peer: Peer, graceful: &GracefulShutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::warn!(?peer, "closed a connection: there are too many");
            return;
        };
        let router = self.router.clone();
        let (stream, verdicts) = Guarded::new(stream);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            if !verdicts.next_is_plain() {
                request.extensions_mut().insert(LengthTwice);
            }
            router.clone().call(request.map(Body::new))
        });
        let serving = graceful.watch(self.http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
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
