//! The endpoints of OAuth 2.0, and how their refusals look.

mod decide;
mod exchange;
mod known;
mod token;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use warrant_api::token::OAuthError;
use warrant_dpop::{ALGORITHMS, SCHEME};

pub(super) use decide::begin_device;
pub(crate) use decide::{authorize_code, decide_device, show_authorize};
pub(super) use known::{get_metadata, introspect_token, revoke_token};
pub(super) use token::give_token;

use super::Service;
use super::certificate::Certificate;
use crate::audit::Event;
use crate::oauth::{Claim, Refused};
use crate::secret::Secret;

/// What is told a client that did not prove who it is. Source: RFC 6749 §5.2.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"warrant\"");
/// What is told whoever is not signed in. Source: RFC 6750 §3.
const BEARER: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"warrant\", error=\"invalid_token\"");

/// Refuse whatever has a query: a secret in an address ends up in logs.
pub(super) async fn without_query(request: Request, next: Next) -> Response {
    if request.uri().query().is_some() {
        return refusal(&Refused::Form("nothing may stand in the query"));
    }
    next.run(request).await
}

/// The answer, never to be kept. A refusal is recorded; that a device has to
/// wait is none.
fn answer<T: Serialize>(service: &Service, event: Event, answer: Result<T, Refused>) -> Response {
    match answer {
        Ok(body) => (uncached(), Json(body)).into_response(),
        Err(refused) => {
            record(service, event, &refused);
            refusal(&refused)
        }
    }
}

fn record(service: &Service, event: Event, refused: &Refused) {
    if let Refused::Failed(error) = refused {
        let cause = error.source.as_ref().map(tracing::field::display);
        tracing::error!(source = %event.source, %error, cause, "tokens could not be given");
    }
    if !matches!(refused, Refused::Pending | Refused::SlowDown) {
        service.audit.refused(event, refused.reason());
    }
}

/// Source: RFC 6749 §5.2.
fn refusal(refused: &Refused) -> Response {
    let body = OAuthError {
        error: refused.code().into(),
        error_description: refused.text().into(),
        reason: refused.told().into(),
    };
    let mut headers = uncached();
    let mut add = |name, value| {
        headers.insert(name, value);
    };
    let status = match refused {
        Refused::Client | Refused::ClientCertificate(_) => {
            add(header::WWW_AUTHENTICATE, BASIC);
            StatusCode::UNAUTHORIZED
        }
        Refused::Bearer => {
            add(header::WWW_AUTHENTICATE, BEARER);
            StatusCode::UNAUTHORIZED
        }
        Refused::Bound(refused) => {
            let text = format!(
                "{SCHEME} error=\"{}\", error_description=\"{refused}\", algs=\"{}\"",
                Refused::Bound(*refused).code(),
                ALGORITHMS.join(" ")
            );
            if let Ok(challenge) = HeaderValue::from_str(&text) {
                add(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::UNAUTHORIZED
        }
        Refused::Peer => StatusCode::FORBIDDEN,
        Refused::Throttled(wait_s) => {
            add(header::RETRY_AFTER, HeaderValue::from(*wait_s));
            StatusCode::TOO_MANY_REQUESTS
        }
        Refused::Busy | Refused::Failed(_) => {
            add(header::RETRY_AFTER, HeaderValue::from(1));
            StatusCode::SERVICE_UNAVAILABLE
        }
        Refused::Form(_)
        | Refused::Grant
        | Refused::ClientGrant
        | Refused::Proof(_)
        | Refused::Password(_)
        | Refused::Barred(_)
        | Refused::Possession(_)
        | Refused::Scope
        | Refused::Audience
        | Refused::ResponseType
        | Refused::Pending
        | Refused::SlowDown
        | Refused::Expired
        | Refused::Denied => StatusCode::BAD_REQUEST,
    };
    (status, headers, Json(body)).into_response()
}

/// Source: RFC 6749 §5.1.
fn uncached() -> HeaderMap {
    HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))])
}

/// Who the client says it is.
///
/// Errors: [`Refused::Form`], [`Refused::Client`].
fn claim(
    headers: &HeaderMap,
    id: Option<String>,
    secret: Option<Secret>,
    certificate: Certificate,
) -> Result<Option<Claim>, Refused> {
    let header = one_authorization(headers).map_err(|()| Refused::Client)?;
    Claim::read(header, id, secret, certificate.0)
}

fn one_authorization(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}
