//! `POST /oauth/token`: an access token for a job's warrant.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form, Json};
use serde::Deserialize;
use warrant_api::token::{ACCESS_TOKEN_URN, EXCHANGE_GRANT, OAuthError, WARRANT_URN};

use super::Service;
use crate::audit::{Event, Sort};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;
use crate::warrants::{Exchange, Refused};

/// The form. Source: RFC 8693 §2.1; `job_sha256` is this service's own.
#[derive(Deserialize)]
pub(super) struct ExchangeForm {
    grant_type: Option<String>,
    subject_token: Option<Secret>,
    subject_token_type: Option<String>,
    requested_token_type: Option<String>,
    audience: Option<String>,
    job_sha256: Option<String>,
    actor_token: Option<Secret>,
}

/// Give a warrant for a job to whoever holds an access token of its user.
/// Source: RFC 8693 §2.
pub(super) async fn exchange_token(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    source: Source,
    form: Result<Form<ExchangeForm>, FormRejection>,
) -> Response {
    let unread = match (&service.warrants, read(form)) {
        (Some(warrants), Ok(exchange)) => {
            let answer = warrants.exchange(exchange, peer, source).await;
            return match answer {
                Ok(answer) => (uncached(), Json(answer)).into_response(),
                Err(refused) => refusal(&refused),
            };
        }
        (Some(_), Err(refused)) => refused,
        (None, _) => Refused::Grant,
    };
    let event = Event::new(Sort::Warrant, source);
    service.audit.refused(event, unread.reason());
    refusal(&unread)
}

fn read(form: Result<Form<ExchangeForm>, FormRejection>) -> Result<Exchange, Refused> {
    let Form(form) = form.map_err(|_| {
        Refused::Form("application/x-www-form-urlencoded is needed, each field once")
    })?;
    match form.grant_type.as_deref() {
        Some(EXCHANGE_GRANT) => {}
        None | Some("") => return Err(Refused::Form("grant_type: required")),
        Some(_) => return Err(Refused::Grant),
    }
    if form.subject_token_type.as_deref() != Some(ACCESS_TOKEN_URN) {
        return Err(Refused::Form(
            "subject_token_type: urn:ietf:params:oauth:token-type:access_token is needed",
        ));
    }
    if form.requested_token_type.as_deref() != Some(WARRANT_URN) {
        return Err(Refused::Form(
            "requested_token_type: urn:warrant:params:oauth:token-type:warrant is needed",
        ));
    }
    if form.actor_token.is_some() {
        return Err(Refused::Form("actor_token: nobody acts for another here"));
    }
    Ok(Exchange {
        subject_token: form
            .subject_token
            .ok_or(Refused::Form("subject_token: required"))?,
        audience: form.audience.ok_or(Refused::Form("audience: required"))?,
        job_sha256: form
            .job_sha256
            .ok_or(Refused::Form("job_sha256: required"))?,
    })
}

fn refusal(refused: &Refused) -> Response {
    let body = OAuthError {
        error: refused.code().into(),
        error_description: refused.text().into(),
        reason: refused.reason().into(),
    };
    let mut headers = uncached();
    let status = match refused {
        Refused::Failed(_) => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
            StatusCode::SERVICE_UNAVAILABLE
        }
        Refused::Form(_)
        | Refused::Grant
        | Refused::Peer
        | Refused::Audience
        | Refused::Subject
        | Refused::Account(_)
        | Refused::OtherAccount => StatusCode::BAD_REQUEST,
    };
    (status, headers, Json(body)).into_response()
}

/// Source: RFC 6749 §5.1.
fn uncached() -> HeaderMap {
    HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))])
}
