//! The way to the auth service: requests over its Unix socket, on
//! connections that are kept for the next one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{HOST, HeaderName};
use axum::http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::error::Elapsed;
use warrant_door::QuietStream;

/// How long an answer is waited for: longer than the auth service itself waits
/// for its database, the directory of accounts or the password checker, so that
/// it says which of them it was.
const PATIENCE: Duration = Duration::from_secs(35);
/// The most an answer may hold.
const ANSWER: usize = 256 * 1024;
/// The most connections kept for later.
const KEPT: usize = 16;

/// What names the auth service in the requests to it.
pub const NAME: &str = "authsvc";

/// Who asks, for the auth service's throttle and its audit trail.
pub const SOURCE: HeaderName = warrant_door::proxies::SOURCE;

type Connection = SendRequest<Full<Bytes>>;

/// The auth service, behind its Unix socket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuthService(Arc<Inner>);

struct Inner {
    socket: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthService")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// What callers are told where a request to the auth service failed: that it
/// cannot be reached, or that it was reached and did not answer.
pub fn told(error: &anyhow::Error) -> &'static str {
    match error.is::<Elapsed>() {
        true => "The auth service does not answer.",
        false => "The auth service cannot be reached.",
    }
}

/// What callers are told where the auth service answered that it cannot do
/// something now: what it says itself.
pub fn said(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        detail: Option<String>,
        error_description: Option<String>,
    }
    let said: Said = serde_json::from_slice(answer).ok()?;
    said.detail.or(said.error_description)
}

impl AuthService {
    /// The service that listens at `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self(Arc::new(Inner {
            socket,
            idle: Mutex::default(),
        }))
    }

    /// Send a request that may be made twice, and read the whole answer. It
    /// is made again where the service was started anew since the last one.
    ///
    /// Errors: as [`AuthService::send`].
    pub async fn send_safely(
        &self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Response<Bytes>> {
        match self.send(request.clone()).await {
            Ok(answer) => Ok(answer),
            // It was there all the time.
            Err(error) if error.is::<Elapsed>() => Err(error),
            Err(_) => {
                self.idle().clear();
                self.send(request).await
            }
        }
    }

    /// Send one request and read the whole answer.
    ///
    /// Errors: the service is away, does not answer in time, or answers more
    /// than this program takes.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
        let exchange = async {
            let mut connection = self.connection().await?;
            let answer = connection.send_request(request).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER)
                .collect()
                .await
                .map_err(anyhow::Error::from_boxed)?;
            self.keep(connection);
            anyhow::Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, exchange).await?
    }

    /// A connection that is not in use, or a new one. One whose other end was
    /// closed meanwhile is dropped: nothing is sent twice.
    async fn connection(&self) -> anyhow::Result<Connection> {
        while let Some(mut kept) = self.take() {
            if !kept.is_closed() && kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = QuietStream::new(UnixStream::connect(&self.0.socket).await?)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when the sender is dropped, or the service closes its end.
        tokio::spawn(driver);
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Connection> {
        self.idle().pop()
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }

    /// Health check of the service and its database.
    ///
    /// Errors: the service is away, does not answer in time, or reports a failure.
    pub async fn check(&self) -> anyhow::Result<()> {
        let request = Request::get("/healthz").header(HOST, NAME);
        let answer = self.send_safely(request.body(Full::default())?).await?;
        let told = || said(answer.body()).unwrap_or_else(|| answer.status().to_string());
        anyhow::ensure!(answer.status() == StatusCode::OK, "{}", told());
        Ok(())
    }

    /// Get a JSON document.
    ///
    /// Errors: the service is away, refuses, or answers something else.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = Request::get(path)
            .header(HOST, NAME)
            .body(Full::default())?;
        let answer = self.send_safely(request).await?;
        anyhow::ensure!(
            answer.status() == StatusCode::OK,
            "{path} answers {}",
            answer.status()
        );
        Ok(serde_json::from_slice(answer.body())?)
    }
}
