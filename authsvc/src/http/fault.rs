//! How a refusal looks to the caller: `{"detail": …}`, as FastAPI writes it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::Error;
use crate::login::Refusal;

/// A refusal.
#[derive(Debug)]
pub(crate) struct Fault {
    status: StatusCode,
    detail: Value,
    /// A stable word for programs.
    reason: Option<&'static str>,
    retry_after_s: Option<u64>,
    challenge: Option<HeaderValue>,
}

impl Fault {
    /// A refusal that says `detail`.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Value>) -> Self {
        Self {
            status,
            detail: detail.into(),
            reason: None,
            retry_after_s: None,
            challenge: None,
        }
    }

    /// The same, with what the caller is told to show.
    pub(crate) fn challenging(self, challenge: HeaderValue) -> Self {
        Self {
            challenge: Some(challenge),
            ..self
        }
    }

    /// 429, to be tried again after some seconds.
    pub(crate) fn too_many(detail: impl Into<Value>, retry_after_s: u64) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// 503, to be tried again after some seconds.
    pub(crate) fn later(detail: impl Into<Value>, retry_after_s: u64) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

/// That nobody can log in, and whose failure that is.
pub(crate) fn not_possible(error: &Error) -> String {
    format!(
        "Logins are not possible at the moment. {}",
        error.part.told()
    )
}

impl From<Refusal> for Fault {
    /// A wrong password answers 400, never 401: at a 401, existing clients
    /// ask for a token again, without end.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wrong(_) => Self::new(StatusCode::BAD_REQUEST, "Incorrect user or password"),
            Refusal::Barred(barred) => Self {
                reason: Some(barred.word()),
                ..Self::new(StatusCode::BAD_REQUEST, barred.text())
            },
            Refusal::Payload(refused) => Self::new(StatusCode::BAD_REQUEST, refused.to_string()),
            Refusal::Possession(refused) => Self::new(StatusCode::BAD_REQUEST, refused.text()),
            Refusal::Scope => Self::new(StatusCode::BAD_REQUEST, "Nothing may be had by this user"),
            Refusal::Throttled(wait_s) => Self {
                retry_after_s: Some(wait_s),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    format!("Too many failed logins. Try again in {wait_s} seconds."),
                )
            },
            Refusal::Busy => Self::later("Too many logins at once. Try again in 1 second.", 1),
            Refusal::Failed(error) => Self::later(not_possible(&error), 5),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut body = json!({"detail": self.detail});
        if let Some(reason) = self.reason {
            body["reason"] = reason.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
