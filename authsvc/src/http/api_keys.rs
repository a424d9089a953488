//! `/v1/keys`: API keys. Who they are listed and revoked for shows an access token
//! for the broker; who has one made proves who they are with that request.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use warrant_api::keys::{KeyList, NewKey, RevokedKeys};

use super::certificate::Certificate;
use super::possession::shown;
use super::{Fault, Service};
use crate::api_keys::{Asker, Refused, Wish};
use crate::audit::{Event, Sort};
use crate::config::Grants;
use crate::lasting::KEY;
use crate::login::{Attempt, Certified, Confirmed, Proven};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;
use crate::web::read_basic;

/// What whoever shows nothing is told. Source: RFC 7617 §2.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"API keys\", charset=\"UTF-8\"");

/// Whose keys, where it is not one's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    user: Option<String>,
}

impl FromRequestParts<Arc<Service>> for Asker {
    type Rejection = Fault;

    /// Whoever the one bearer token in the head is of.
    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Fault> {
        let source = Source::from_request_parts(parts, service).await?;
        let shown = shown(&parts.headers);
        let token = shown.as_ref().map(|shown| shown.token.expose());
        let asker = service.api_keys.asker(token, source).await?;
        let peer = Extension::<Peer>::from_request_parts(parts, service).await;
        // The broker has seen to the proofs of its callers.
        let vouched = peer
            .is_ok_and(|Extension(peer)| service.broker_uids.iter().any(|uid| peer.is_user(*uid)));
        if let Some(shown) = shown.filter(|_| !vouched) {
            let jkt = asker.jkt();
            let (method, path) = (parts.method.as_str(), parts.uri.path());
            let proof = shown.judge(service, &parts.headers, method, path, jkt);
            service.api_keys.possessed(&asker, proof).await?;
        }
        Ok(asker)
    }
}

/// Make a key for a proof of its user that comes with this very request. It is
/// answered this once.
pub(super) async fn create(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    source: Source,
    certificate: Certificate,
    headers: HeaderMap,
    body: Result<Json<NewKey>, JsonRejection>,
) -> Result<Response, Fault> {
    let asked = prove(&service, peer, &source, certificate, &headers).await?;
    let Json(new) = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The body may have 65536 bytes.",
        ),
        _ => Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "The body must be JSON with label, and optionally scopes (of read, submit, control \
             and admin, with one space between) and expires_in_days.",
        ),
    })?;
    let wish = Wish {
        proven: &asked,
        new,
        session: None,
        source,
    };
    let created = service.api_keys.create(wish).await?;
    let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, uncached, Json(created)).into_response())
}

/// The user, by the proof in the request: a name and a password in the head, or
/// else the certificate of the connection. No token, key or cookie is one.
async fn prove(
    service: &Service,
    peer: Peer,
    source: &Source,
    certificate: Certificate,
    headers: &HeaderMap,
) -> Result<Proven, Fault> {
    // Where clients get their own warrants, no password is the broker's to see.
    let clients = service.warrants.as_ref();
    let clients = clients.filter(|warrants| warrants.grants == Grants::Client);
    if clients.is_some_and(|warrants| !warrants.gives_to_clients(peer)) {
        return Err(unproven(service, source, headers, Refused::Peer));
    }
    let asked = Confirmed { audience: "key" };
    let basic = basic(headers).filter(|_| service.password_login);
    if let Some((user, password)) = basic {
        let attempt = Attempt {
            user,
            password,
            code: None,
            once: None,
            asked,
            source: source.clone(),
        };
        return Ok(service.login.clone().judge(attempt).await?);
    }
    let bare = !headers.contains_key(header::AUTHORIZATION);
    if let (Some(users), Some(shown), true) = (&service.certificates, certificate.0, bare) {
        let certified = Certified {
            shown: Some(shown),
            asked,
            source: source.clone(),
        };
        let judged = service.login.clone().judge_certificate(users, certified);
        return Ok(judged.await?);
    }
    Err(unproven(service, source, headers, Refused::Unproven))
}

/// The name and the password in the one `Authorization` header. Source: RFC 7617.
fn basic(headers: &HeaderMap) -> Option<(String, Secret)> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    is_basic.then(|| read_basic(&Secret::new(encoded)))?
}

/// Record that there was no proof, as far as it is known by whom, and say which
/// there may be.
fn unproven(service: &Service, source: &Source, headers: &HeaderMap, refused: Refused) -> Fault {
    let mut event = Event::new(Sort::Key, source.clone());
    event.action = Some("create");
    let shown = shown(headers);
    let claims = shown.and_then(|shown| service.api_keys.read(shown.token.expose()));
    if let Some(claims) = claims {
        event.subject = Some(claims.sub.clone());
        event.uid = claims.uid;
        event.jti = Some(claims.jti.clone());
    }
    service.audit.refused(event, refused.reason());
    if matches!(refused, Refused::Peer) {
        return refused.into();
    }
    let mut proofs = Vec::new();
    if service.password_login {
        proofs.push("the user's name and password (Authorization: Basic)");
    }
    if service.certificates.is_some() {
        proofs.push("the user's certificate, shown to the auth service over TLS");
    }
    let page = service.web.account_url();
    proofs.extend(page.as_deref());
    let detail = format!(
        "{} is made only for {}: {}. Access tokens, API keys and cookies do not suffice.",
        KEY.gives,
        KEY.needs.words(),
        proofs.join("; or ")
    );
    let shows = [header::AUTHORIZATION, header::COOKIE];
    let something = shows.iter().any(|name| headers.contains_key(name));
    match something || !service.password_login {
        true => Fault::new(StatusCode::FORBIDDEN, detail),
        false => Fault::new(StatusCode::UNAUTHORIZED, detail).challenging(BASIC),
    }
}

/// List the keys that count.
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    asker: Asker,
    Query(whose): Query<Whose>,
) -> Result<Json<KeyList>, Fault> {
    let list = service.api_keys.list(&asker, whose.user.as_deref());
    Ok(Json(list.await?))
}

/// Revoke one key.
pub(super) async fn revoke(
    State(service): State<Arc<Service>>,
    asker: Asker,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<Json<RevokedKeys>, Fault> {
    let user = whose.user.as_deref();
    let revoked = service.api_keys.revoke(&asker, user, Some(&id)).await?;
    Ok(Json(RevokedKeys { revoked }))
}

/// Revoke all keys.
pub(super) async fn revoke_all(
    State(service): State<Arc<Service>>,
    asker: Asker,
    Query(whose): Query<Whose>,
) -> Result<Json<RevokedKeys>, Fault> {
    let user = whose.user.as_deref();
    let revoked = service.api_keys.revoke(&asker, user, None).await?;
    Ok(Json(RevokedKeys { revoked }))
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        let (status, detail) = match refused {
            Refused::Token | Refused::Possession(_) => (
                StatusCode::UNAUTHORIZED,
                "Could not validate credentials".into(),
            ),
            Refused::OfKey => (
                StatusCode::FORBIDDEN,
                "Keys cannot revoke keys: log in.".into(),
            ),
            Refused::Form(what) => (StatusCode::UNPROCESSABLE_ENTITY, what),
            Refused::Scopes(most) => (
                StatusCode::FORBIDDEN,
                format!(
                    "scopes: a key of this user may be used for no more than {most}, by the \
                     user's role and the configuration of this server"
                ),
            ),
            Refused::NeedsScope(scope) => (
                StatusCode::FORBIDDEN,
                format!(
                    "The token may not be used for this: it takes the scope {}.",
                    scope.name()
                ),
            ),
            Refused::Unproven => (
                StatusCode::FORBIDDEN,
                format!("{} is made only for {}.", KEY.gives, KEY.needs.words()),
            ),
            Refused::Peer => (
                StatusCode::FORBIDDEN,
                "API keys are not made over this connection: ask the auth service directly.".into(),
            ),
            Refused::Rate(wait_s) => {
                let detail = format!(
                    "This user has made many keys just now. Try again in {wait_s} seconds."
                );
                return Self::too_many(detail, wait_s);
            }
            Refused::NotYours => (
                StatusCode::FORBIDDEN,
                "user: the keys of others are an administrator's".into(),
            ),
            Refused::NoKey => (StatusCode::NOT_FOUND, "There is no such key.".into()),
            Refused::Full(most) => (
                StatusCode::CONFLICT,
                format!("There may be {most} keys: revoke some first."),
            ),
            Refused::Key(_) => (StatusCode::UNAUTHORIZED, "The key does not count.".into()),
            Refused::User(_) | Refused::OtherAccount => {
                (StatusCode::FORBIDDEN, "The account may not be used.".into())
            }
            Refused::Busy => {
                return Self::later("Keys cannot be dealt with at the moment.", 5);
            }
            Refused::Failed(error) => {
                let part = error.part.told();
                let text = format!("Keys cannot be dealt with at the moment. {part}");
                return Self::later(text, 5);
            }
        };
        Self::new(status, detail)
    }
}
