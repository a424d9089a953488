//! The way to the auth service: its Unix socket. Token requests are handed
//! on as they are, and nothing of them is kept.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER,
};
use axum::http::{Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::flux::fault::Fault;
use super::{Gate, Shared};

/// The longest the auth service may take: a password's hash, with others before it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most a request for a token may hold.
const REQUEST: usize = 64 * 1024;
/// The most an answer may hold.
const ANSWER: usize = 256 * 1024;

/// Who asks, for the auth service's throttle.
const SOURCE: HeaderName = HeaderName::from_static("x-warrant-source");

/// The auth service, behind its Unix socket.
#[derive(Debug, Clone)]
pub struct AuthService {
    socket: PathBuf,
}

impl AuthService {
    /// The service that listens at `socket`.
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Send one request and read the whole answer.
    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(connection);
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER)
                .collect()
                .await
                .map_err(anyhow::Error::from_boxed)?;
            driver.abort();
            anyhow::Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, exchange).await?
    }

    /// Get a JSON document.
    ///
    /// Errors: the service is away, refuses, or answers something else.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &'static str) -> anyhow::Result<T> {
        let request = Request::get(path)
            .header(HOST, "authsvc")
            .body(Full::default())?;
        let answer = self.send(request).await?;
        anyhow::ensure!(
            answer.status() == StatusCode::OK,
            "{path} answers {}",
            answer.status()
        );
        Ok(serde_json::from_slice(answer.body())?)
    }
}

/// The routes whose requests are handed on.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/auth", get(hand_on))
        .route("/v1/token", post(hand_on))
        .route("/v1/login/access-token", post(hand_on))
        .route("/.well-known/jwks.json", get(hand_on))
}

async fn hand_on(
    State(gate): State<Arc<Gate>>,
    source: Option<axum::Extension<ConnectInfo<SocketAddr>>>,
    request: Request<Body>,
) -> Result<Response<Body>, Fault> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, REQUEST)
        .collect()
        .await
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Fault::too_large(REQUEST),
            None => Fault::detail(
                StatusCode::BAD_REQUEST,
                "The request's body did not come whole.",
            ),
        })?;
    let path = head.uri.path().to_owned();
    let mut ask = Request::builder()
        .method(if head.method == Method::POST {
            Method::POST
        } else {
            Method::GET
        })
        .uri(path)
        .header(HOST, "authsvc");
    for name in [AUTHORIZATION, CONTENT_TYPE] {
        if let Some(value) = head.headers.get(&name) {
            ask = ask.header(name, value);
        }
    }
    if let Some(axum::Extension(ConnectInfo(address))) = source
        && let Ok(value) = HeaderValue::from_str(&address.ip().to_string())
    {
        ask = ask.header(SOURCE, value);
    }
    let away = || Fault::unavailable("The auth service cannot be reached.");
    let ask = ask.body(Full::new(body.to_bytes())).map_err(|_| away())?;
    let answer = gate.authsvc().send(ask).await.map_err(|error| {
        tracing::warn!(%error, "a token request could not be handed on");
        away()
    })?;
    let (from, bytes) = answer.into_parts();
    let mut reply = (from.status, bytes).into_response();
    for name in [CONTENT_TYPE, CACHE_CONTROL, RETRY_AFTER] {
        if let Some(value) = from.headers.get(&name) {
            reply.headers_mut().insert(name, value.clone());
        }
    }
    Ok(reply)
}
