//! The two ways to an access token.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Form, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use warrant_api::oauth::Granted;
use warrant_api::scope::Scopes;
use warrant_api::token::{AUTHSVC_AUDIENCE, BROKER_AUDIENCE, TokenAnswer};

use super::{Fault, Service};
use crate::audit::{Event, Sort};
use crate::clock;
use crate::handshake;
use crate::login::{Asked, Attempt};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;
use crate::token::{Audience, LEGACY_CLIENT};

impl<S: Sync> FromRequestParts<S> for Source {
    type Rejection = Fault;

    /// The source that was found when the request came in.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        parts.extensions.get().cloned().ok_or_else(|| {
            let words = "Internal Server Error";
            Fault::new(StatusCode::INTERNAL_SERVER_ERROR, words)
        })
    }
}

/// Exchange a payload encoded with the shared secret for a token. Source:
/// `POST /v1/token` of the Flux RESTful API.
pub(super) async fn exchange_payload(
    State(service): State<Arc<Service>>,
    source: Source,
    headers: HeaderMap,
) -> Result<Json<TokenAnswer>, Fault> {
    let refuse = |detail: String| {
        tracing::info!(%source, reason = detail, "refused");
        let event = Event::new(Sort::Login, source.clone());
        service.audit.refused(event, "payload");
        Fault::new(StatusCode::BAD_REQUEST, detail)
    };
    let Some(secret) = &service.handshake_secret else {
        return Err(refuse(
            "The shared-secret token handshake is not enabled on this server.".into(),
        ));
    };
    let payload = authorization(&headers).map_err(|detail| refuse(detail.into()))?;
    let credentials = handshake::decode(payload, secret, &service.handshake, clock::now_us())
        .map_err(|refused| refuse(refused.to_string()))?;
    let attempt = Attempt {
        user: credentials.user,
        password: credentials.password,
        code: credentials.code,
        once: credentials.once,
        asked: legacy(&service, Audience::Broker),
        source: source.clone(),
    };
    Ok(answered(service.login.clone().judge(attempt).await?))
}

/// The last word of the one `Authorization` header, whatever its scheme: so
/// does the Flux RESTful server read it.
fn authorization(headers: &HeaderMap) -> Result<&str, &'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or("Missing Authorization header")?;
    let word = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().rsplit(' ').next());
    match word {
        Some("") => Err("Missing Authorization header"),
        Some(word) if values.next().is_none() => Ok(word),
        Some(_) | None => Err("Could not decode credentials"),
    }
}

/// The form of an OAuth2 password login.
#[derive(Deserialize, Default)]
pub(super) struct LoginForm {
    username: Option<String>,
    password: Option<Secret>,
    one_time_code: Option<Secret>,
    grant_type: Option<String>,
    audience: Option<String>,
}

/// Log in by user name and password. Source: `POST /v1/login/access-token` of
/// the Flux RESTful API; RFC 6749 §4.3. `audience` is this service's own: where
/// users exchange their tokens for warrants themselves, they ask for one whose
/// audience is `warrant-authsvc`.
pub(super) async fn login(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    source: Source,
    form: Result<Form<LoginForm>, FormRejection>,
) -> Result<Json<TokenAnswer>, Fault> {
    if !service.password_login {
        return Err(Fault::new(
            StatusCode::BAD_REQUEST,
            format!(
                "The {} auth backend does not support password login.",
                service.backends.first_name()
            ),
        ));
    }
    let asked = form.as_ref().ok().and_then(|form| form.audience.as_deref());
    let audience = audience(&service, peer, asked).map_err(|detail| {
        let event = Event::new(Sort::Login, source.clone());
        service.audit.refused(event, "audience");
        Fault::new(StatusCode::BAD_REQUEST, detail)
    })?;
    let (user, password, code) = fields(form)?;
    let attempt = Attempt {
        user,
        password,
        code,
        once: None,
        asked: legacy(&service, audience),
        source,
    };
    Ok(answered(service.login.clone().judge(attempt).await?))
}

/// What whoever logs in without naming a client asks for: all that the user
/// may have, for as long as tokens live.
pub(super) fn legacy(service: &Service, audience: Audience) -> Asked {
    Asked {
        client_id: LEGACY_CLIENT.into(),
        most: Scopes::ALL,
        scopes: None,
        token_s: service.token_s,
        refresh_s: None,
        audience,
        proof: None,
    }
}

/// A token in the words of the Flux RESTful API.
fn answered(granted: Granted) -> Json<TokenAnswer> {
    Json(TokenAnswer {
        access_token: granted.access_token,
        token_type: granted.token_type,
        expires_in: granted.expires_in,
    })
}

/// Whom the token shall be for: unless asked otherwise, the broker.
///
/// Errors: this peer may not have it; the text says what is allowed.
pub(super) fn audience(
    service: &Service,
    peer: Peer,
    asked: Option<&str>,
) -> Result<Audience, &'static str> {
    match asked {
        None | Some("" | BROKER_AUDIENCE) => Ok(Audience::Broker),
        Some(AUTHSVC_AUDIENCE) => match &service.warrants {
            Some(warrants) if warrants.gives_to_clients(peer) => Ok(Audience::Authsvc),
            Some(_) | None => Err(
                "audience: warrant-authsvc is for clients that ask this service directly, where \
                 it is configured so.",
            ),
        },
        Some(_) => Err("audience: warrant-broker and warrant-authsvc are allowed."),
    }
}

/// User name, password and perhaps a one-time code, or what is wrong with the form in FastAPI's words:
/// an empty field is a missing one.
fn fields(
    form: Result<Form<LoginForm>, FormRejection>,
) -> Result<(String, Secret, Option<Secret>), Fault> {
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) if rejection.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            LoginForm::default()
        }
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = "The form may have 65536 bytes.";
            return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        Err(_) => {
            let detail = "The form must be application/x-www-form-urlencoded, each field once.";
            return Err(Fault::new(StatusCode::BAD_REQUEST, detail));
        }
    };
    let username = form.username.filter(|username| !username.is_empty());
    let password = form
        .password
        .filter(|password| !password.expose().is_empty());
    let mut wrong: Vec<Value> = Vec::new();
    if let Some(grant) = form
        .grant_type
        .filter(|grant| !grant.is_empty() && grant != "password")
    {
        wrong.push(json!({
            "type": "string_pattern_mismatch",
            "loc": ["body", "grant_type"],
            "msg": "String should match pattern '^password$'",
            "input": grant,
            "ctx": {"pattern": "^password$"},
        }));
    }
    if username.is_none() {
        wrong.push(missing("username"));
    }
    if password.is_none() {
        wrong.push(missing("password"));
    }
    match (username, password) {
        (Some(username), Some(password)) if wrong.is_empty() => {
            Ok((username, password, form.one_time_code))
        }
        _ => Err(Fault::new(StatusCode::UNPROCESSABLE_ENTITY, wrong)),
    }
}

fn missing(field: &str) -> Value {
    json!({"type": "missing", "loc": ["body", field], "msg": "Field required", "input": null})
}
