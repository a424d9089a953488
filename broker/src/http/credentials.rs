//! Credentials that are no access tokens: the auth service exchanges them for
//! one, and the gate keeps that until shortly before it ends. Of one
//! credential, one exchange at a time; those who wait use what it brought.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use warrant_api::credential::{Credential, CredentialKind, Exchanged};

use crate::authsvc::{self, AuthService, SOURCE};

/// The most credentials remembered.
const REMEMBERED: usize = 10_000;
/// For how long a credential that was refused is not asked about again.
const REFUSED: Duration = Duration::from_secs(5);
/// For how long, where the auth service is away.
const AWAY: Duration = Duration::from_secs(1);
/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(20);
/// The longest that a token is kept, whatever the auth service says.
const LONGEST: Duration = Duration::from_secs(600);

/// What came of an exchange.
#[derive(Clone)]
pub(super) enum Outcome {
    /// This access token; and, for a cookie, what must come with whatever
    /// changes something.
    Token {
        /// The token.
        token: Arc<str>,
        /// Of a cookie.
        csrf: Option<Arc<str>>,
    },
    /// The credential does not count.
    Refused,
    /// Too many passwords were wrong: nothing is looked at for a while.
    Throttled,
    /// The auth service is away.
    Away(Arc<str>),
}

/// Credentials, and what they were exchanged for.
#[derive(Default)]
pub(super) struct Credentials(Mutex<HashMap<[u8; 32], Slot>>);

type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

struct Known {
    outcome: Outcome,
    until: Instant,
}

impl std::fmt::Debug for Credentials {
    /// Leaves the tokens out, so that no log line can hold one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// The access token for a credential. `may_ask` is called where the auth
    /// service would have to be asked; where it answers no, nothing is asked
    /// and this answers `None`.
    pub(super) async fn exchange(
        &self,
        authsvc: &AuthService,
        kind: CredentialKind,
        value: &str,
        source: Option<IpAddr>,
        may_ask: impl FnOnce() -> bool,
    ) -> Option<Outcome> {
        let slot = self.slot(kind, value);
        let mut known = slot.lock().await;
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return Some(known.outcome.clone());
        }
        if !may_ask() {
            return None;
        }
        let began = Instant::now();
        let (outcome, keep) = ask(authsvc, kind, value, source).await;
        *known = Some(Known {
            outcome: outcome.clone(),
            until: began.checked_add(keep).unwrap_or(began),
        });
        Some(outcome)
    }

    fn slot(&self, kind: CredentialKind, value: &str) -> Slot {
        let mut hash = Sha256::new();
        hash.update([match kind {
            CredentialKind::Key => 0,
            CredentialKind::Cookie => 1,
            CredentialKind::Basic => 2,
        }]);
        hash.update(value);
        let digest: [u8; 32] = hash.finalize().into();
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= REMEMBERED && !slots.contains_key(&digest) {
            slots.retain(|_, slot| is_of_use(slot));
            if slots.len() >= REMEMBERED {
                slots.clear();
            }
        }
        slots.entry(digest).or_default().clone()
    }
}

/// Whether a slot is waited for, or holds something that still counts.
fn is_of_use(slot: &Slot) -> bool {
    match slot.try_lock() {
        Ok(known) => known
            .as_ref()
            .is_some_and(|known| Instant::now() < known.until),
        Err(_) => true,
    }
}

/// Ask the auth service; also says for how long its answer counts.
async fn ask(
    authsvc: &AuthService,
    kind: CredentialKind,
    value: &str,
    source: Option<IpAddr>,
) -> (Outcome, Duration) {
    let away = |said: String| (Outcome::Away(said.into()), AWAY);
    let credential = Credential {
        kind,
        value: value.to_owned(),
    };
    let mut request = Request::post("/internal/credential")
        .header(HOST, authsvc::NAME)
        .header(CONTENT_TYPE, "application/json");
    if let Some(source) = source {
        request = request.header(SOURCE, source.to_string());
    }
    let body = serde_json::to_vec(&credential).unwrap_or_default();
    let Ok(request) = request.body(Full::from(body)) else {
        return away("The credential cannot be sent.".into());
    };
    match authsvc.send_safely(request).await {
        Ok(answer) if answer.status() == StatusCode::OK => {
            match serde_json::from_slice::<Exchanged>(answer.body()) {
                Ok(exchanged) => {
                    let life = Duration::from_secs(exchanged.expires_in).min(LONGEST);
                    let keep = life.saturating_sub(MARGIN).max(AWAY.min(life));
                    let token = Outcome::Token {
                        token: exchanged.access_token.into(),
                        csrf: exchanged.csrf.map(Into::into),
                    };
                    (token, keep)
                }
                Err(_) => {
                    tracing::error!("the auth service's answer to a credential is unreadable");
                    away("The auth service's answer cannot be read.".into())
                }
            }
        }
        Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => (Outcome::Refused, REFUSED),
        Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
            (Outcome::Throttled, AWAY)
        }
        Ok(answer) => {
            let status = answer.status();
            tracing::warn!(%status, "a credential was not exchanged");
            let said = authsvc::said(answer.body());
            away(said.unwrap_or_else(|| format!("The auth service answers {status}.")))
        }
        Err(error) => {
            tracing::warn!(%error, "a credential was not exchanged");
            away(authsvc::told(&error).into())
        }
    }
}
