//! Obtaining warrants: the auth service exchanges the caller's access token
//! and the hash of a launch for the right to run that launch once.

use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use sha2::{Digest, Sha256};
use warrant_api::token::{
    ACCESS_TOKEN_URN, EXCHANGE_GRANT, OAuthError, WARRANT_URN, WarrantAnswer,
};
use warrant_wire::Claims;

use crate::authsvc::{self, AuthService};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};

/// Where warrants come from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Warrants {
    authsvc: AuthService,
    audience: String,
    mediated: bool,
}

impl Warrants {
    /// Warrants for the shim whose name is `audience`. Unless `mediated`,
    /// callers bring their own.
    pub const fn new(authsvc: AuthService, audience: String, mediated: bool) -> Self {
        Self {
            authsvc,
            audience,
            mediated,
        }
    }

    /// Whether warrants are obtained on the callers' behalf.
    pub const fn mediated(&self) -> bool {
        self.mediated
    }

    /// The shim that warrants are for.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// A warrant to run `launch`, once, as the caller.
    ///
    /// Errors: [`Kind::Denied`] where the auth service refuses it; [`Kind::TooMany`]
    /// where the user has had too many; [`Kind::Unavailable`] where it is away.
    pub async fn mint(&self, caller: &Caller, launch: &[u8]) -> Result<String> {
        let nobody = || Error::new(Kind::Denied, "Jobs run for authenticated users alone.");
        let bearer = caller.bearer.as_ref().ok_or_else(nobody)?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", EXCHANGE_GRANT)
            .append_pair("subject_token", bearer.reveal())
            .append_pair("subject_token_type", ACCESS_TOKEN_URN)
            .append_pair("requested_token_type", WARRANT_URN)
            .append_pair("audience", &self.audience)
            .append_pair("job_sha256", &job_sha256(launch))
            .finish();
        let request = Request::post("/oauth/token")
            .header(HOST, authsvc::NAME)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form))
            .map_err(away)?;
        let answer = self.authsvc.send_safely(request).await;
        let answer = answer
            .map_err(|error| Error::caused(Kind::Unavailable, authsvc::told(&error), error))?;
        match answer.status() {
            StatusCode::OK => serde_json::from_slice::<WarrantAnswer>(answer.body())
                .map(|answer| answer.access_token)
                .map_err(away),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(refused(answer.body()))
            }
            StatusCode::TOO_MANY_REQUESTS => Err(Error::new(
                Kind::TooMany,
                "You submit more jobs in a second than one user may. Try again later.",
            )),
            status => Err(unable(status, answer.body())),
        }
    }
}

/// What a warrant calls a launch: its SHA-256 in lower-case hexadecimal.
pub fn job_sha256(launch: &[u8]) -> String {
    warrant_wire::warrant::hex(&Sha256::digest(launch))
}

/// See that a warrant is for the caller's own account. Whether it is genuine
/// is the shim's to judge; but a job must not be recorded as one user's and
/// run as another.
///
/// Errors: [`Kind::Denied`].
pub fn check_subject(warrant: &str, caller: &Caller) -> Result<()> {
    let payload = warrant.split('.').nth(1).unwrap_or_default();
    let claims = URL_SAFE_NO_PAD
        .decode(payload)
        .ok()
        .and_then(|payload| Claims::decode(&payload).ok());
    match claims {
        Some(claims) if Some(claims.uid) == caller.uid && claims.sub == caller.name => Ok(()),
        Some(_) => Err(Error::new(
            Kind::Denied,
            "The job was refused: the warrant is for another account.",
        )),
        None => Err(Error::new(
            Kind::Denied,
            "The job was refused: the warrant is malformed.",
        )),
    }
}

fn refused(body: &[u8]) -> Error {
    match serde_json::from_slice::<OAuthError>(body) {
        Ok(refusal) => Error::caused(
            Kind::Denied,
            format!(
                "The auth service does not let you run jobs: {}",
                refusal.error_description
            ),
            format!("{}: {}", refusal.error, refusal.reason),
        ),
        Err(error) => away(error),
    }
}

/// It answered, and could not make a warrant now.
fn unable(status: StatusCode, body: &[u8]) -> Error {
    let said = authsvc::said(body).unwrap_or_else(|| format!("It answered {status}."));
    Error::caused(
        Kind::Unavailable,
        format!("The auth service cannot let you run jobs now: {said}"),
        format!("the auth service answers {status}"),
    )
}

fn away(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(
        Kind::Unavailable,
        "The auth service cannot be reached.",
        source,
    )
}
