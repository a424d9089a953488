//! Refusals in this dialect's forms. The one place that knows status codes.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode, Uri};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use warrant_api::flux::{BadParameter, BadParameters, Detail, NeedsWarrant, Unsubmitted};
use warrant_api::scope::Scope;
use warrant_door::{Prefix, redirected_slash};
use warrant_dpop::{ALGORITHMS, Refused, SCHEME};

use crate::error::{Error, Kind};
use crate::http::authsvc::HandedOn;
use crate::http::idempotency::HEADER;

/// How a client that is not let in is told to authenticate. Source: RFC 6750
/// §3, and the token authentication of container registries.
#[derive(Debug, Clone)]
pub struct Challenge {
    whole: Arc<str>,
    realm: Arc<str>,
}

impl Challenge {
    /// A challenge that names the token endpoint below `public_url`.
    pub fn new(public_url: &str, service: &str) -> Self {
        let clean = |text: &str| text.replace(['"', '\\'], "");
        let base = clean(public_url.trim_end_matches('/'));
        let service = clean(service);
        let realm = format!("Bearer realm=\"{base}/v1/token\"");
        Self {
            whole: format!("{realm},service=\"{service}\",scope=\"jobs\"").into(),
            realm: realm.into(),
        }
    }

    fn of_scope(&self, scope: &str) -> Option<HeaderValue> {
        let realm = &self.realm;
        let text = format!("{realm},error=\"insufficient_scope\",scope=\"{scope}\"");
        HeaderValue::from_str(&text).ok()
    }

    fn header(&self, error: Option<&str>) -> Option<HeaderValue> {
        let text = match error {
            None => self.whole.to_string(),
            Some(error) => format!("{},error=\"{error}\"", self.whole),
        };
        HeaderValue::from_str(&text).ok()
    }
}

/// A refusal: a status and a body in one of this dialect's forms.
#[derive(Debug)]
pub struct Fault {
    status: StatusCode,
    body: Shape,
    challenge: Option<HeaderValue>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Shape {
    Detail(Detail),
    Parameters(BadParameters),
    Unsubmitted(Unsubmitted),
    NeedsWarrant(Box<NeedsWarrant>),
}

impl Fault {
    /// `{"detail": …}` with `status`.
    pub fn detail(status: StatusCode, detail: impl Into<String>) -> Self {
        let body = Shape::Detail(Detail {
            detail: detail.into(),
        });
        Self {
            status,
            body,
            challenge: None,
        }
    }

    /// 401: no token was sent.
    pub fn not_authenticated(challenge: &Challenge) -> Self {
        let fault = Self::detail(StatusCode::UNAUTHORIZED, "Not authenticated");
        Self {
            challenge: challenge.header(None),
            ..fault
        }
    }

    /// 401: the token does not count.
    pub fn bad_token(challenge: &Challenge) -> Self {
        let fault = Self::detail(StatusCode::UNAUTHORIZED, "Could not validate credentials");
        Self {
            challenge: challenge.header(Some("invalid_token")),
            ..fault
        }
    }

    /// 401: the token is bound to a key, and what is shown does not prove that
    /// it is held; or the token does not count as one that is bound. Source: RFC
    /// 9449 §7.1.
    pub fn unproven(refused: Option<Refused>) -> Self {
        let algs = ALGORITHMS.join(" ");
        let challenge = match refused {
            None => format!("{SCHEME} error=\"invalid_token\", algs=\"{algs}\""),
            Some(refused) => format!(
                "{SCHEME} error=\"{}\", error_description=\"{refused}\", algs=\"{algs}\"",
                refused.code()
            ),
        };
        Self {
            challenge: HeaderValue::from_str(&challenge).ok(),
            ..Self::detail(StatusCode::UNAUTHORIZED, "Could not validate credentials")
        }
    }

    /// 403: the token may not be used for what it takes. Source: RFC 6750 §3.1.
    pub fn needs_scope(challenge: &Challenge, scope: Scope) -> Self {
        let name = scope.name();
        let detail = format!("The token may not be used for this: it takes the scope {name}.");
        Self {
            challenge: challenge.of_scope(name),
            ..Self::detail(StatusCode::FORBIDDEN, detail)
        }
    }

    /// 429.
    pub fn too_many() -> Self {
        Self::detail(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests. Try again later.",
        )
    }

    /// 429: the user reads as many long responses as there may be.
    pub fn too_many_readers() -> Self {
        Self::detail(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many outputs and lists are being read at the same time. Try again later.",
        )
    }

    /// 503.
    pub fn unavailable(detail: &str) -> Self {
        Self::detail(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// 413: more than `most` bytes.
    pub fn too_large(most: usize) -> Self {
        let detail = format!("The request's body must be at most {most} bytes.");
        Self::detail(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 422: parameters that are not what they should be.
    pub fn parameters(detail: Vec<BadParameter>) -> Self {
        let body = Shape::Parameters(BadParameters { detail });
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body,
            challenge: None,
        }
    }

    /// 422: a header that does not fit the rest of the request. Source: how
    /// FastAPI names headers.
    fn of_header(name: &str, msg: String) -> Self {
        Self::parameters(vec![BadParameter {
            kind: "value_error".into(),
            loc: vec!["header".into(), name.to_ascii_lowercase()],
            msg,
            input: Value::Null,
        }])
    }

    /// 428: the job must come again with a warrant for `launch`.
    pub fn needs_warrant(launch: &[u8], job_sha256: String, audience: &str) -> Self {
        let body = Shape::NeedsWarrant(Box::new(NeedsWarrant {
            detail: "Jobs need a warrant: exchange your token for one, for this launch, \
                     and submit again with the header Warrant."
                .into(),
            launch: STANDARD.encode(launch),
            job_sha256,
            audience: audience.into(),
        }));
        Self {
            status: StatusCode::PRECONDITION_REQUIRED,
            body,
            challenge: None,
        }
    }

    /// 400 to a submission.
    pub fn unsubmitted(refusal: Unsubmitted) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: Shape::Unsubmitted(refusal),
            challenge: None,
        }
    }
}

/// Write down what only the log may know.
pub(in crate::http) fn log(error: &Error) {
    match (&error.kind, &error.source) {
        (Kind::Internal, source) => tracing::error!(%error, ?source, "a request failed"),
        (_, Some(source)) => tracing::warn!(%error, ?source, "a request was refused"),
        (_, None) => {}
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        log(&error);
        let status = match error.kind {
            Kind::KeyReused => return Self::of_header(HEADER, error.message),
            Kind::InProgress => StatusCode::CONFLICT,
            Kind::Invalid | Kind::Conflict => StatusCode::BAD_REQUEST,
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::detail(status, error.message)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> axum::response::Response {
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        let later = [
            StatusCode::CONFLICT,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        if later.contains(&self.status) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// 404 for a path that no route has; 307 to the route where the path has a slash
/// at its end that the route has not.
pub async fn no_route(State(prefix): State<Prefix>, uri: Uri) -> axum::response::Response {
    match redirected_slash(&uri, crate::http::access::paths(), &prefix) {
        None => Fault::detail(StatusCode::NOT_FOUND, "Not Found").into_response(),
        Some(there) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, there)]).into_response(),
    }
}

/// Refusals of the framework come as plain text: give them this dialect's form.
pub async fn plain_to_fault(response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let handed_on = response.extensions().get::<HandedOn>().is_some();
    if json || handed_on || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let words = status.canonical_reason().unwrap_or("Error");
    Fault::detail(status, words).into_response()
}
