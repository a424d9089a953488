//! Who comes in: access tokens, verified with the auth service's public keys.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use warrant_api::token::{ACCESS_TOKEN_TYPE, AccessClaims, BROKER_AUDIENCE, Role};

use super::flux::fault::{Challenge, Fault};
use crate::authsvc::AuthService;
use crate::caller::{Bearer, Caller};
use crate::model::Micros;

/// The most verified tokens remembered.
const REMEMBERED: usize = 10_000;
/// How often unknown key ids may make the keys be fetched again.
const FETCH: Duration = Duration::from_secs(1);
/// How often the keys are fetched again in any case.
const REFRESH: Duration = Duration::from_secs(30);
/// A token longer than this is nobody's.
const LONGEST: usize = 4096;

/// Lets callers in, or turns them away with a challenge.
#[derive(Debug)]
pub struct Gate {
    authsvc: AuthService,
    issuer: String,
    challenge: Challenge,
    anonymous: Option<Caller>,
    /// Whether a caller must be an account of the machine.
    accounts: bool,
    keys: RwLock<HashMap<String, Arc<DecodingKey>>>,
    fetched: tokio::sync::Mutex<Option<Instant>>,
    verified: Mutex<HashMap<[u8; 32], Verified>>,
}

#[derive(Debug, Clone)]
struct Verified {
    caller: Caller,
    exp: u64,
    kid: String,
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// It is not one of ours, or it is over.
    Invalid,
    /// Nobody can tell now: there are no keys.
    NoKeys,
}

impl Gate {
    /// A gate for tokens of `issuer`. With `anonymous`, everybody comes in
    /// under that name. With `accounts`, a token must name a user id.
    pub fn new(
        authsvc: AuthService,
        issuer: String,
        challenge: Challenge,
        anonymous: Option<Caller>,
        accounts: bool,
    ) -> Self {
        Self {
            authsvc,
            issuer,
            challenge,
            anonymous,
            accounts,
            keys: RwLock::default(),
            fetched: tokio::sync::Mutex::default(),
            verified: Mutex::default(),
        }
    }

    /// The auth service behind the gate.
    pub const fn authsvc(&self) -> &AuthService {
        &self.authsvc
    }

    /// Fetch the keys now and then, for ever.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            self.fetch(Duration::ZERO).await;
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Whoever `authorization` proves.
    async fn admit(&self, authorization: Option<&str>) -> Result<Caller, Fault> {
        if let Some(caller) = &self.anonymous {
            return Ok(caller.clone());
        }
        let token = authorization.and_then(|header| {
            let (scheme, token) = header.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(Fault::not_authenticated(&self.challenge));
        };
        match self.verify(token).await {
            Ok(caller) => Ok(caller),
            Err(Refused::Invalid) => Err(Fault::bad_token(&self.challenge)),
            Err(Refused::NoKeys) => Err(Fault::unavailable("The auth service cannot be reached.")),
        }
    }

    async fn verify(&self, token: &str) -> Result<Caller, Refused> {
        if token.len() > LONGEST {
            return Err(Refused::Invalid);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(caller) = self.remembered(&digest) {
            return Ok(caller);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Invalid)?;
        let ours = header.typ.as_deref() == Some(ACCESS_TOKEN_TYPE)
            && header.alg == Algorithm::EdDSA
            && header.crit.is_none();
        let kid = header.kid.filter(|_| ours).ok_or(Refused::Invalid)?;
        let key = self.key(&kid).await?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_audience(&[BROKER_AUDIENCE]);
        rules.set_issuer(&[&self.issuer]);
        rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        rules.leeway = 5;
        let claims = jsonwebtoken::decode::<AccessClaims>(token, &key, &rules)
            .map_err(|_| Refused::Invalid)?
            .claims;
        let nobody = claims.sub.is_empty() || (self.accounts && claims.uid.is_none());
        if nobody || claims.iat > now_s().saturating_add(60) {
            return Err(Refused::Invalid);
        }
        let caller = Caller {
            name: claims.sub,
            uid: claims.uid.filter(|_| self.accounts),
            role: claims.role,
            anonymous: false,
            bearer: Some(Bearer::new(token)),
            source: None,
        };
        self.remember(
            digest,
            Verified {
                caller: caller.clone(),
                exp: claims.exp,
                kid,
            },
        );
        Ok(caller)
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Caller> {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = verified.get(digest)?;
        (entry.exp > now_s()).then(|| entry.caller.clone())
    }

    fn remember(&self, digest: [u8; 32], entry: Verified) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED {
            let now = now_s();
            verified.retain(|_, entry| entry.exp > now);
            if verified.len() >= REMEMBERED {
                verified.clear();
            }
        }
        verified.insert(digest, entry);
    }

    async fn key(&self, kid: &str) -> Result<Arc<DecodingKey>, Refused> {
        if let Some(key) = self.known(kid) {
            return Ok(key);
        }
        self.fetch(FETCH).await;
        match self.known(kid) {
            Some(key) => Ok(key),
            None if self.keys.read().is_ok_and(|keys| keys.is_empty()) => Err(Refused::NoKeys),
            None => Err(Refused::Invalid),
        }
    }

    fn known(&self, kid: &str) -> Option<Arc<DecodingKey>> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(kid)
            .cloned()
    }

    /// Fetch the keys, unless that was done less than `pause` ago. One fetch
    /// at a time; those who wait for it use what it brought.
    async fn fetch(&self, pause: Duration) {
        let mut fetched = self.fetched.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        let set: JwkSet = match self.authsvc.get_json("/.well-known/jwks.json").await {
            Ok(set) => set,
            Err(error) => {
                tracing::warn!(%error, "the auth service's keys cannot be fetched");
                return;
            }
        };
        // A fetch that failed may be tried again at once: there is nobody else
        // to ask, and one asks at a time.
        *fetched = Some(Instant::now());
        let fresh: HashMap<String, Arc<DecodingKey>> = set
            .keys
            .iter()
            .filter_map(|jwk| {
                let key = DecodingKey::from_jwk(jwk).ok()?;
                Some((jwk.common.key_id.clone()?, Arc::new(key)))
            })
            .collect();
        // What a key that is gone once signed counts no more.
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.retain(|_, entry| fresh.contains_key(&entry.kid));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

fn now_s() -> u64 {
    u64::try_from(Micros::now().get() / 1_000_000).unwrap_or_default()
}

impl<S> FromRequestParts<S> for Caller
where
    Arc<Gate>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let gate: Arc<Gate> = FromRef::from_ref(state);
        let authorization = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let caller = gate.admit(authorization).await?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Caller {
            source: peer.map(|peer| peer.0.ip().to_canonical()),
            ..caller
        })
    }
}

/// The caller where authentication is off: the account the broker runs as,
/// with no role.
pub fn anonymous(name: String) -> Caller {
    Caller {
        name,
        uid: None,
        role: Role::User,
        anonymous: true,
        bearer: None,
        source: None,
    }
}
