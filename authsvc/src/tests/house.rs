//! A running service of its own for each test, and a client of it.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use warrant_api::token::{
    ACCESS_TOKEN_URN, AccessClaims, BROKER_AUDIENCE, EXCHANGE_GRANT, WARRANT_URN,
};
use warrant_migrations::{Db, Schema, on};
use warrant_trail::{Filter, Row, Trail, Verified};

use crate::commands::serve::start;
use crate::config::{Config, Environment, Mode, Settings};
use crate::http::{Service, router};
use crate::secret::Secret;
use crate::store::users;
use crate::user_name::UserName;
use crate::{clock, passwords, store};

pub(super) const SECRET: &str = "the shared secret";
/// The SHA-256 of some job.
pub(super) const JOB: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A running service.
pub(super) struct House {
    pub(super) dir: tempfile::TempDir,
    pub(super) db: Db,
    pub(super) service: Arc<Service>,
    pub(super) socket: PathBuf,
    pub(super) tcp: std::net::SocketAddr,
    params: argon2::Params,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

/// What the service answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    pub(super) text: String,
}

impl Answer {
    async fn read(response: hyper::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: head.status,
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    /// That a warrant was refused for `reason`.
    pub(super) fn is_no_warrant(&self, error: &str, reason: &str) {
        assert_eq!(self.status, 400, "{:?}", self.body);
        let given = [&self.body["error"], &self.body["reason"]];
        assert_eq!(given, [error, reason], "{:?}", self.body);
        assert_eq!(self.headers["cache-control"], "no-store");
        assert!(!self.headers.contains_key("www-authenticate"));
    }
    pub(super) fn token(&self) -> &str {
        assert_eq!(self.status, 200, "{:?}", self.body);
        self.body["access_token"].as_str().unwrap()
    }

    pub(super) fn is_refused(&self, status: u16, detail: &str) {
        assert_eq!(
            (self.status.as_u16(), &self.body),
            (status, &json!({"detail": detail}))
        );
    }
}

/// A connection that is kept.
pub(super) struct Line(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

impl Line {
    pub(super) async fn over<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.0.ready().await.unwrap();
        Answer::read(self.0.send_request(request).await.unwrap()).await
    }
}

/// The form of an exchange, field by field.
pub(super) fn exchange_fields(token: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("grant_type", EXCHANGE_GRANT),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN_URN),
        ("requested_token_type", WARRANT_URN),
        ("audience", "local"),
        ("job_sha256", JOB),
    ]
}

/// A request for a warrant with `fields`.
pub(super) fn exchange(fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let escape = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
    };
    let body: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    request(Method::POST, "/oauth/token", &headers, &body.join("&"))
}

impl House {
    /// In multi-user mode with this process as the broker, the accounts that
    /// every machine has, and users `daemon` and `bin` with password `pw`.
    pub(super) async fn open_multi_user(configure: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open_multi_user_in(dir, configure).await
    }

    pub(super) async fn open_multi_user_in(
        dir: tempfile::TempDir,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let house = Self::open_in(dir, &[("FLUX_SECRET_KEY", SECRET)], |config| {
            config.mode = Mode::MultiUser;
            config.accounts.min_uid = 1;
            config.warrants.broker_uid = Some(nix::unistd::geteuid().as_raw());
            configure(config);
        })
        .await;
        house.add("daemon", "pw").await;
        house.add("bin", "pw").await;
        house
    }

    /// Ask for a warrant with `token`, as the broker does.
    pub(super) async fn exchange(&self, token: &str) -> Answer {
        self.send(exchange(&exchange_fields(token))).await
    }

    /// Send the requests one after the other, over one connection.
    pub(super) async fn send_all(
        &self,
        requests: impl Iterator<Item = Request<Full<Bytes>>>,
    ) -> Vec<Answer> {
        let mut line = self.line().await;
        let mut answers = Vec::new();
        for request in requests {
            answers.push(line.ask(request).await);
        }
        answers
    }

    /// A connection that is kept.
    pub(super) async fn line(&self) -> Line {
        Line::over(UnixStream::connect(&self.socket).await.unwrap()).await
    }

    /// Do `sql` to the database, which is SQLite.
    pub(super) async fn spoil(&self, sql: &'static str) {
        let mut tx = self.db.begin().await.unwrap();
        on!(&mut tx, |db| sqlx::query(sql).execute(db).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
    }

    /// The rows of the audit trail.
    pub(super) async fn audit(&self) -> Vec<Row> {
        self.service.audit.flush().await;
        let mut conn = self.db.read().await.unwrap();
        let verified = Trail::AUTHSVC.verify(&mut conn, None).await.unwrap();
        assert!(matches!(verified, Verified::Holds { .. }), "{verified:?}");
        self.rows(&Filter::default()).await
    }

    /// The rows that are written.
    pub(super) async fn rows(&self, filter: &Filter) -> Vec<Row> {
        let mut conn = self.db.read().await.unwrap();
        let rows = Trail::AUTHSVC.last(&mut conn, filter, 10_000).await;
        rows.unwrap().into_iter().map(|stored| stored.row).collect()
    }

    /// With the handshake, cheap hashes, and a user `ann` with password `pw`.
    pub(super) async fn open() -> Self {
        Self::open_with(&[("FLUX_SECRET_KEY", SECRET)], |_| {}).await
    }

    pub(super) async fn open_with(
        variables: &[(&str, &str)],
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open_in(dir, variables, configure).await
    }

    pub(super) async fn open_in(
        dir: tempfile::TempDir,
        variables: &[(&str, &str)],
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let settings = settings(&dir, variables, configure);
        let params = settings.hash_params.clone();
        let socket = settings.config.listen.socket.clone();
        let db = store::open(&settings.database_url().unwrap())
            .await
            .unwrap();
        Schema::Auth.migrate(&db).await.unwrap();
        let (server, service) = start(settings, db.clone()).await.unwrap();
        let tcp = server.tcp_address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let app = router(service.clone());
        let running = tokio::spawn(server.run(app, async { stopped.await.unwrap_or_default() }));
        let house = Self {
            dir,
            db,
            service,
            socket,
            tcp,
            params,
            stop,
            running,
        };
        house.add("ann", "pw").await;
        house
    }

    /// Stop the service; what it left behind is in the directory.
    pub(super) async fn close(self) -> tempfile::TempDir {
        let _ = self.stop.send(());
        self.running.await.unwrap();
        self.service.audit.flush().await;
        self.db.close().await;
        self.dir
    }

    pub(super) async fn add(&self, name: &str, password: &str) {
        let hash = passwords::hash(&self.params, &Secret::new(password)).unwrap();
        let mut tx = self.db.begin().await.unwrap();
        let name = UserName::parse(name).unwrap();
        users::insert(&mut tx, &name, &hash, false, clock::now_us())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    pub(super) async fn disable(&self, name: &str) {
        let mut tx = self.db.begin().await.unwrap();
        let name = UserName::parse(name).unwrap();
        assert!(users::set_disabled(&mut tx, &name, true).await.unwrap());
        tx.commit().await.unwrap();
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], "")).await
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        answer(UnixStream::connect(&self.socket).await.unwrap(), request).await
    }

    pub(super) async fn send_tcp(&self, request: Request<Full<Bytes>>) -> Answer {
        answer(TcpStream::connect(self.tcp).await.unwrap(), request).await
    }

    /// Log in by form, as the broker forwards it for `source`.
    pub(super) async fn login(&self, user: &str, password: &str, source: &str) -> Answer {
        self.send(login(user, password, source)).await
    }

    /// Log in by handshake with `claims`.
    pub(super) async fn handshake(&self, claims: Value) -> Answer {
        self.send(bearer(&encode(&claims, SECRET))).await
    }

    /// The header's `kid` and the claims, verified by the published keys.
    pub(super) async fn verify(&self, token: &str) -> (String, AccessClaims) {
        let header = jsonwebtoken::decode_header(token).unwrap();
        assert_eq!(
            (header.typ.as_deref(), header.alg),
            (Some("at+jwt"), Algorithm::EdDSA)
        );
        let kid = header.kid.unwrap();
        let published = self.get("/.well-known/jwks.json").await.body;
        let mut keys = published["keys"].as_array().unwrap().iter();
        let key = keys
            .find(|key| key["kid"] == kid.as_str())
            .expect("the key is not published");
        let key = DecodingKey::from_ed_components(key["x"].as_str().unwrap()).unwrap();
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_audience(&[BROKER_AUDIENCE]);
        rules.set_issuer(&[published["issuer"].as_str().unwrap()]);
        (
            kid,
            jsonwebtoken::decode(token, &key, &rules).unwrap().claims,
        )
    }
}

/// Settings of a service in `dir`.
pub(super) fn settings(
    dir: &tempfile::TempDir,
    variables: &[(&str, &str)],
    configure: impl FnOnce(&mut Config),
) -> Settings {
    let mut config = Config::default();
    config.database.url = Secret::new(format!("sqlite:{}", dir.path().join("auth.db").display()));
    config.listen.socket = dir.path().join("authsvc.sock");
    config.listen.tcp = Some("127.0.0.1:0".parse().unwrap());
    config.keys.dir = dir.path().join("keys");
    config.warrants.keys_dir = dir.path().join("warrant-keys");
    config.passwords.memory_kib = 8;
    config.passwords.passes = 1;
    configure(&mut config);
    Settings::resolve(config, Environment::read(variables.iter().copied())).unwrap()
}

pub(super) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "authsvc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

pub(super) fn form(body: &str, source: &str) -> Request<Full<Bytes>> {
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-warrant-source", source),
    ];
    request(Method::POST, "/v1/login/access-token", &headers, body)
}

pub(super) fn login(user: &str, password: &str, source: &str) -> Request<Full<Bytes>> {
    form(
        &format!("grant_type=password&username={user}&password={password}"),
        source,
    )
}

pub(super) fn bearer(token: &str) -> Request<Full<Bytes>> {
    let headers = [("authorization", format!("Bearer {token}"))];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    request(Method::POST, "/v1/token", &headers, "")
}

pub(super) fn encode(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

pub(super) fn credentials(user: &str, password: &str) -> Value {
    json!({"user": user, "pass": password, "scope": "token"})
}

pub(super) async fn answer<S>(stream: S, request: Request<Full<Bytes>>) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let answer = Answer::read(response).await;
    drop(sender);
    // The service may have closed it first.
    let _ = connection.await.unwrap();
    answer
}
