//! An access token for a job's warrant.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use warrant_api::token::{ACCESS_TOKEN_URN, OAuthError, WARRANT_URN};

use super::super::Service;
use super::token::{PATH, TokenForm};
use super::uncached;
use crate::audit::{Event, Sort};
use crate::peer::Peer;
use crate::source::Source;
use crate::warrants::{Exchange, Refused};

/// Give a warrant for a job to whoever holds an access token of its user.
/// Source: RFC 8693 §2.
pub(super) async fn exchange(
    service: &Service,
    headers: &HeaderMap,
    form: TokenForm,
    peer: Peer,
    source: Source,
) -> Response {
    let unread = match (&service.warrants, read(service, headers, form)) {
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

fn read(service: &Service, headers: &HeaderMap, form: TokenForm) -> Result<Exchange, Refused> {
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
    let subject_token = form
        .subject_token
        .ok_or(Refused::Form("subject_token: required"))?;
    let token = Some(subject_token.expose());
    let proof = service.proofs.check(headers, "POST", PATH, token);
    Ok(Exchange {
        proof: proof.map_err(Refused::Possession)?,
        subject_token,
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
        Refused::Busy | Refused::Failed(_) => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
            StatusCode::SERVICE_UNAVAILABLE
        }
        Refused::Rate(wait_s) => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*wait_s));
            StatusCode::TOO_MANY_REQUESTS
        }
        Refused::Form(_)
        | Refused::Grant
        | Refused::Peer
        | Refused::Audience
        | Refused::Subject
        | Refused::Possession(_)
        | Refused::Account(_)
        | Refused::OtherAccount
        | Refused::Ended
        | Refused::Scope => StatusCode::BAD_REQUEST,
    };
    (status, headers, Json(body)).into_response()
}
