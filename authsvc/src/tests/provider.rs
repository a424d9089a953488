//! An OpenID provider of a test's own, for what a real one never does: other
//! keys, other descriptions, silence.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::clock;
use crate::config::Section;

/// The client of programs, whose ID tokens are exchanged.
pub(super) const PROGRAM: &str = "warrant-cli";
/// The client of browsers.
pub(super) const BROWSER: &str = "warrant-web";

/// How it answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mood {
    /// As it should.
    Good,
    /// Never.
    Silent,
    /// With a redirect.
    Elsewhere,
    /// With a megabyte.
    Huge,
    /// With this.
    Text(String),
}

/// What it answers, and what it was asked.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) discovery: Mood,
    pub(super) keys: Mood,
    pub(super) token: Mood,
    pub(super) issuer: Option<String>,
    pub(super) names_issuer: bool,
    /// The ids of the keys that it publishes.
    pub(super) kids: Vec<String>,
    pub(super) discoveries: usize,
    pub(super) key_fetches: usize,
    /// The forms that came to its token endpoint.
    pub(super) forms: Vec<String>,
}

/// A running provider. It ends with the test.
#[derive(Debug, Clone)]
pub(super) struct FakeProvider {
    pub(super) issuer: String,
    pub(super) key: SigningKey,
    pub(super) shown: Arc<Mutex<Shown>>,
}

impl FakeProvider {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self {
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            key: SigningKey::from_bytes(&[9; 32]),
            shown: Arc::new(Mutex::new(Shown {
                discovery: Mood::Good,
                keys: Mood::Good,
                token: Mood::Good,
                issuer: None,
                names_issuer: true,
                kids: vec!["one".into()],
                discoveries: 0,
                key_fetches: 0,
                forms: Vec::new(),
            })),
        };
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        provider
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap()
    }

    /// The settings of a service that knows it.
    pub(super) fn section(&self) -> Section {
        Section {
            name: "campus".into(),
            issuer: self.issuer.clone(),
            client_id: BROWSER.into(),
            audience: vec![PROGRAM.into()],
            allow_http: true,
            ..Section::default()
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "use": "sig", "x": x})
    }

    /// The claims of an ID token for programs about `name`.
    pub(super) fn claims(&self, name: &str) -> Value {
        let now_s = clock::now_s();
        json!({
            "iss": self.issuer,
            "sub": format!("sub-{name}"),
            "aud": PROGRAM,
            "exp": now_s + 300,
            "iat": now_s,
            "jti": format!("{now_s}"),
            "preferred_username": name,
        })
    }

    /// An ID token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": "EdDSA", "kid": "one", "typ": "JWT"}), claims)
    }

    /// A JWS with this header.
    pub(super) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    /// What the token endpoint answers from now on.
    pub(super) fn gives(&self, answer: &Value) {
        self.shown().token = Mood::Text(answer.to_string());
    }
}

/// The first two parts of a JWS.
pub(super) fn message(header: &Value, claims: &Value) -> String {
    [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".")
}

async fn discovery(State(provider): State<FakeProvider>) -> Response {
    let issuer = &provider.issuer;
    let (mood, document) = {
        let mut shown = provider.shown();
        shown.discoveries += 1;
        let document = json!({
            "issuer": shown.issuer.as_ref().unwrap_or(issuer),
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": shown.names_issuer,
        });
        (shown.discovery.clone(), document)
    };
    answer(mood, &document).await
}

async fn keys(State(provider): State<FakeProvider>) -> Response {
    let (mood, kids) = {
        let mut shown = provider.shown();
        shown.key_fetches += 1;
        (shown.keys.clone(), shown.kids.clone())
    };
    let keys: Vec<_> = kids.iter().map(|kid| provider.jwk(kid)).collect();
    answer(mood, &json!({ "keys": keys })).await
}

async fn token(State(provider): State<FakeProvider>, body: Bytes) -> Response {
    let mood = {
        let mut shown = provider.shown();
        shown.forms.push(String::from_utf8(body.to_vec()).unwrap());
        shown.token.clone()
    };
    answer(mood, &json!({})).await
}

async fn answer(mood: Mood, good: &Value) -> Response {
    let as_json = |text: String| ([(header::CONTENT_TYPE, "application/json")], text);
    match mood {
        Mood::Good => as_json(good.to_string()).into_response(),
        Mood::Text(text) => as_json(text).into_response(),
        Mood::Huge => {
            as_json(format!("{{\"keys\":[],\"a\":\"{}\"}}", "x".repeat(1 << 20))).into_response()
        }
        Mood::Elsewhere => Redirect::temporary("/jwks").into_response(),
        Mood::Silent => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
    }
}
