//! What a proxy asks about requests with HTTP Basic before it passes them on to
//! the broker: a short token replaces the password.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use warrant_api::credential::{REPLACEMENT_HEADER, THROTTLED, UNANSWERED_SCHEME, UNAVAILABLE};

use super::{Fault, Service};
use crate::error::{Error, Result};
use crate::login::Refusal;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;

/// How long a name and a password that were right are answered with the same
/// token, which lives longer.
const KEPT: Duration = Duration::from_secs(120);
/// The most that are remembered.
const REMEMBERED: usize = 10_000;
/// The longest value of HTTP Basic that is looked at, in bytes.
const LONGEST: usize = 4096;
/// A token that the broker refuses, for a password that was wrong.
const REFUSED: &str = "Bearer refused";

/// Tokens by the hash of the name and the password that they were given for.
pub(crate) struct Given {
    /// Makes the hashes of no use elsewhere.
    salt: [u8; 32],
    slots: Mutex<HashMap<[u8; 32], Slot>>,
}

/// The token of one name and password. Whoever holds the lock asks for it, and
/// those who wait use what that brought.
type Slot = Arc<tokio::sync::Mutex<Option<(Secret, Instant)>>>;

impl fmt::Debug for Given {
    /// Leaves the tokens out, so that no log line can hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl Given {
    /// Nothing yet.
    ///
    /// Errors: the system has no random numbers.
    pub(crate) fn new() -> Result<Self> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)
            .map_err(|source| Error::unavailable("there are no random numbers", source))?;
        Ok(Self {
            salt,
            slots: Mutex::default(),
        })
    }

    fn slot(&self, value: &Secret) -> Slot {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        hash.update(value.expose());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= REMEMBERED {
            slots.retain(|_, slot| match slot.try_lock() {
                Ok(known) => known.as_ref().is_some_and(is_fresh),
                Err(_) => true,
            });
            if slots.len() >= REMEMBERED {
                slots.clear();
            }
        }
        slots.entry(hash.finalize().into()).or_default().clone()
    }
}

fn is_fresh((_, until): &(Secret, Instant)) -> bool {
    Instant::now() < *until
}

/// What replaces the `Authorization` of a request with HTTP Basic. Source: the
/// module `auth_request` of nginx, which understands 200, 401 and 403 alone; all
/// that is not a token is for the broker to answer.
pub(super) async fn replace_basic(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    source: Source,
    headers: HeaderMap,
) -> std::result::Result<Response, Fault> {
    let is_broker = service.broker_uids.iter().any(|uid| peer.is_user(*uid));
    if !is_broker && !service.forwarders.trusts(peer) {
        return Err(Fault::new(StatusCode::NOT_FOUND, "Not Found"));
    }
    let replacement = match basic(&headers).filter(|_| service.password_login) {
        None => REFUSED.to_owned(),
        Some(value) => match token(&service, &value, source).await {
            Ok(token) => format!("Bearer {}", token.expose()),
            Err(Refusal::Throttled(_)) => format!("{UNANSWERED_SCHEME} {THROTTLED}"),
            Err(Refusal::Busy | Refusal::Failed(_)) => format!("{UNANSWERED_SCHEME} {UNAVAILABLE}"),
            Err(
                Refusal::Wrong(_)
                | Refusal::Barred(_)
                | Refusal::Payload(_)
                | Refusal::Scope
                | Refusal::Possession(_),
            ) => REFUSED.to_owned(),
        },
    };
    let mut replacement = HeaderValue::try_from(replacement).map_err(|_| {
        let words = "Internal Server Error";
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, words)
    })?;
    replacement.set_sensitive(true);
    let headers = [
        (HeaderName::from_static(REPLACEMENT_HEADER), replacement),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::OK, headers).into_response())
}

/// The value of the one `Authorization` header, where its scheme is Basic.
fn basic(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, value) = value.to_str().ok()?.split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("basic") && value.len() <= LONGEST;
    known.then(|| Secret::new(value.trim()))
}

async fn token(
    service: &Service,
    value: &Secret,
    source: Source,
) -> std::result::Result<Secret, Refusal> {
    let slot = service.given.slot(value);
    let mut known = slot.lock().await;
    if let Some(known) = known.as_ref().filter(|known| is_fresh(known)) {
        return Ok(known.0.clone());
    }
    let now = Instant::now();
    let granted = service.web.exchange_basic(value, source).await?;
    let token = Secret::new(granted.access_token);
    *known = now.checked_add(KEPT).map(|until| (token.clone(), until));
    Ok(token)
}
