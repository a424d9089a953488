//! Who comes in: access tokens, verified with the auth service's public keys.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use warrant_api::credential::{CredentialKind, THROTTLED, UNANSWERED_SCHEME, web_cookie};
use warrant_api::keys::KEY_PREFIX;
use warrant_api::scope::{Scope, Scopes};
use warrant_api::token::{ACCESS_TOKEN_TYPE, AccessClaims, BROKER_AUDIENCE, Role};
use warrant_door::shape::API_KEY;
use warrant_dpop::{Base, Refused as Possessed, SCHEME};

use super::browser::{self, By};
use super::credentials::{Credentials, Outcome};
use super::flux::fault::{Challenge, Fault};
use super::limits::Limits;
use super::possession::{Asked, Bound, Possession, Unproven};
use crate::authsvc::AuthService;
use crate::caller::{Bearer, Caller};
use crate::model::Micros;
use crate::revocations::{Revocations, Standing};

/// The most verified tokens remembered.
const REMEMBERED: usize = 10_000;
/// How often unknown key ids may make the keys be fetched again.
const FETCH: Duration = Duration::from_secs(1);
/// How often the keys are fetched again in any case.
const REFRESH: Duration = Duration::from_secs(30);
/// How far the clock that makes tokens may be ahead, in seconds.
const SKEW_S: u64 = 60;
/// A token longer than this is nobody's.
const LONGEST: usize = 4096;

/// Lets callers in, or turns them away with a challenge.
#[derive(Debug)]
pub struct Gate {
    authsvc: AuthService,
    /// The issuers whose tokens count.
    issuers: RwLock<Vec<String>>,
    /// Whether one is configured, so that the auth service's word is not asked.
    issuer_set: bool,
    challenge: Challenge,
    anonymous: Option<Caller>,
    /// Whether a caller must be an account of the machine.
    accounts: bool,
    /// The name of the cookie of a browser that somebody signed in with.
    cookie: &'static str,
    keys: RwLock<HashMap<String, Arc<DecodingKey>>>,
    fetched: tokio::sync::Mutex<Option<Instant>>,
    verified: Mutex<HashMap<[u8; 32], Verified>>,
    credentials: Credentials,
    revocations: Revocations,
    possession: Possession,
}

/// What the auth service publishes.
#[derive(Deserialize)]
struct Published {
    #[serde(flatten)]
    set: JwkSet,
    issuer: Option<String>,
}

/// The issuers whose tokens count: `issuer`, and, where it is the auth service's
/// URL or nothing is known, that of the first version, until its last token has
/// expired.
fn issuers(issuer: String) -> Vec<String> {
    let first = "warrant".to_owned();
    match issuer.as_str() {
        "" => vec![first],
        _ => vec![issuer, first],
    }
}

/// What a caller shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown<'a> {
    Nothing,
    Token(&'a str),
    /// As a token that is bound to a key.
    Bound(&'a str),
    Key(&'a str),
    Cookie(&'a str),
    Basic(&'a str),
    /// A password that the auth service could not check, as a proxy says.
    Unanswered(&'a str),
}

#[derive(Debug, Clone)]
struct Verified {
    caller: Caller,
    /// The thumbprint of the key to which it is bound.
    jkt: Option<Arc<str>>,
    exp: u64,
    kid: String,
}

/// Whoever is not let in.
pub(super) struct Turned {
    /// What is answered.
    pub(super) fault: Fault,
    /// Whose token was shown, where it would count, and what was wrong with it
    /// in one stable word.
    pub(super) known: Option<(Caller, &'static str)>,
}

impl From<Fault> for Turned {
    fn from(fault: Fault) -> Self {
        Self { fault, known: None }
    }
}

/// Why a token that counts is not shown as it must be.
#[derive(Debug, Clone, Copy)]
enum Unshown {
    /// As one that is bound to a key though it is not, or the other way round;
    /// in one stable word.
    OtherSort(&'static str),
    /// The proof does not count.
    Unproven(Unproven),
}

impl Unshown {
    /// What is answered, and the reason in one stable word.
    fn fault(self) -> (Fault, &'static str) {
        match self {
            Self::OtherSort(reason) => (Fault::unproven(None), reason),
            Self::Unproven(Unproven::Refused(refused)) => {
                (Fault::unproven(Some(refused)), refused.word())
            }
            Self::Unproven(Unproven::Full) => {
                let words = "Too many proofs in too short a time.";
                (Fault::unavailable(words), "dpop-full")
            }
        }
    }
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
    /// A gate for tokens of `issuer`; where that is empty, of whom the auth
    /// service says it is. With `anonymous`, everybody comes in
    /// under that name. With `accounts`, a token must name a user id. Clients
    /// reach it at `base`.
    pub fn new(
        authsvc: AuthService,
        revocations: Revocations,
        issuer: String,
        challenge: Challenge,
        anonymous: Option<Caller>,
        accounts: bool,
        base: Base,
    ) -> Self {
        Self {
            authsvc,
            issuer_set: !issuer.is_empty(),
            issuers: RwLock::new(match issuer.as_str() {
                "" => issuers(issuer),
                _ => vec![issuer],
            }),
            challenge,
            anonymous,
            accounts,
            cookie: web_cookie(base.path()),
            keys: RwLock::default(),
            fetched: tokio::sync::Mutex::default(),
            verified: Mutex::default(),
            credentials: Credentials::default(),
            revocations,
            possession: Possession::new(base),
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

    /// Whoever the head of a request proves to be at the other end, and by
    /// what.
    ///
    /// Errors: nobody; 400 where it shows two credentials; 503 where nobody
    /// can tell now.
    pub(super) async fn admit(
        &self,
        asked: &Asked<'_>,
        source: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<(Caller, By), Turned> {
        if let Some(caller) = &self.anonymous {
            return Ok((caller.clone(), By::Program));
        }
        let away = || Fault::unavailable("The auth service cannot be reached.");
        let shown = shown(asked.headers, self.cookie)?;
        let bad = || match shown {
            Shown::Bound(_) => Fault::unproven(None),
            Shown::Nothing
            | Shown::Token(_)
            | Shown::Key(_)
            | Shown::Cookie(_)
            | Shown::Basic(_)
            | Shown::Unanswered(_) => Fault::bad_token(&self.challenge),
        };
        let mut by = By::Program;
        let (kind, value) = match shown {
            Shown::Nothing => return Err(Fault::not_authenticated(&self.challenge).into()),
            Shown::Unanswered(THROTTLED) => return Err(Fault::too_many().into()),
            Shown::Unanswered(_) => return Err(away().into()),
            Shown::Token(token) | Shown::Bound(token) => (None, token),
            Shown::Key(key) => (Some(CredentialKind::Key), key),
            Shown::Cookie(cookie) => (Some(CredentialKind::Cookie), cookie),
            Shown::Basic(value) => {
                by = By::Basic;
                (Some(CredentialKind::Basic), value)
            }
        };
        let verified = match kind {
            None => self.verify(value).await,
            Some(kind) => match self.exchange(kind, value, source, limits).await? {
                Outcome::Token { token, csrf } => {
                    if kind == CredentialKind::Cookie {
                        // Without one, nothing can be changed.
                        let csrf = csrf.ok_or_else(away)?;
                        by = By::Cookie { csrf };
                    }
                    self.verify(&token).await
                }
                Outcome::Refused => Err(Refused::Invalid),
                Outcome::Throttled => return Err(Fault::too_many().into()),
                Outcome::Away(said) => return Err(Fault::unavailable(&said).into()),
            },
        };
        let (caller, jkt) = match verified {
            Ok(verified) => verified,
            Err(Refused::Invalid) => return Err(bad().into()),
            Err(Refused::NoKeys) => return Err(away().into()),
        };
        match caller.bearer.as_ref().map(|b| self.revocations.judge(b)) {
            Some(Standing::Counts) => {}
            Some(Standing::Revoked) | None => return Err(bad().into()),
            Some(Standing::Unknown) => {
                let words = "It cannot be told now whose tokens count.";
                return Err(Fault::unavailable(words).into());
            }
        }
        if caller.bearer.as_ref().is_some_and(Bearer::is_of_basic) {
            by = By::Basic;
        }
        match self.possessed(asked, shown, &caller, jkt.as_deref()) {
            Ok(()) => Ok((caller, by)),
            Err(unshown) => {
                let (fault, reason) = unshown.fault();
                let known = Some((Caller { source, ..caller }, reason));
                Err(Turned { fault, known })
            }
        }
    }

    /// See that a token that is bound to a key comes with a proof of that key,
    /// and is not shown as any other.
    fn possessed(
        &self,
        asked: &Asked<'_>,
        shown: Shown<'_>,
        caller: &Caller,
        jkt: Option<&str>,
    ) -> Result<(), Unshown> {
        let (token, jkt) = match (shown, jkt) {
            (Shown::Bound(token), Some(jkt)) => (token, jkt),
            (Shown::Bound(_), None) => return Err(Unshown::OtherSort("dpop-unbound")),
            (_, Some(_)) => return Err(Unshown::OtherSort(Possessed::Missing.word())),
            (_, None) => return Ok(()),
        };
        let bound = Bound {
            token,
            jkt,
            user: &caller.name,
        };
        let judged = self.possession.judge(asked, &bound, now_s());
        judged.map_err(Unshown::Unproven)
    }

    async fn exchange(
        &self,
        kind: CredentialKind,
        value: &str,
        source: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Outcome, Fault> {
        if value.len() > LONGEST {
            return Ok(Outcome::Refused);
        }
        let mut allowance = None;
        let may_ask = || {
            allowance = limits.source(source);
            allowance.is_none_or(|allowance| allowance.granted)
        };
        let exchanged = self
            .credentials
            .exchange(&self.authsvc, kind, value, source, may_ask);
        exchanged.await.ok_or_else(Fault::too_many)
    }

    /// See that the caller's token may be used for `scope`.
    ///
    /// Errors: 403, with what it takes. Source: RFC 6750 §3.1.
    pub(super) fn check_scope(&self, caller: &Caller, scope: Scope) -> Result<(), Fault> {
        if caller.scopes.has(scope) {
            Ok(())
        } else {
            Err(Fault::needs_scope(&self.challenge, scope))
        }
    }

    /// Returns once what `caller` was let in by counts no more. Where
    /// authentication is off, never.
    pub(super) async fn over(&self, caller: &Caller) {
        match &caller.bearer {
            Some(bearer) => self.revocations.over(bearer).await,
            None => std::future::pending().await,
        }
    }

    fn claims(
        &self,
        token: &str,
        key: &DecodingKey,
    ) -> Result<AccessClaims, jsonwebtoken::errors::Error> {
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_audience(&[BROKER_AUDIENCE]);
        rules.set_issuer(&self.issuers.read().unwrap_or_else(PoisonError::into_inner));
        rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        rules.leeway = 5;
        jsonwebtoken::decode::<AccessClaims>(token, key, &rules).map(|token| token.claims)
    }

    async fn verify(&self, token: &str) -> Result<(Caller, Option<Arc<str>>), Refused> {
        if token.len() > LONGEST {
            return Err(Refused::Invalid);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.remembered(&digest) {
            return Ok(known);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Invalid)?;
        let ours = header.typ.as_deref() == Some(ACCESS_TOKEN_TYPE)
            && header.alg == Algorithm::EdDSA
            && header.crit.is_none();
        let kid = header.kid.filter(|_| ours).ok_or(Refused::Invalid)?;
        let key = self.key(&kid).await?;
        let claims = match self.claims(token, &key) {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidIssuer) => {
                // The auth service may have been given another URL.
                self.fetch(FETCH).await;
                self.claims(token, &key)
            }
            read => read,
        };
        let claims = claims.map_err(|_| Refused::Invalid)?;
        let unmarked = claims.sid.is_empty() || claims.jti.is_empty();
        let nobody = claims.sub.is_empty() || (self.accounts && claims.uid.is_none()) || unmarked;
        if nobody || !has_begun(claims.iat) {
            return Err(Refused::Invalid);
        }
        let caller = Caller {
            bearer: Some(Bearer::new(token, &claims)),
            name: claims.sub,
            uid: claims.uid.filter(|_| self.accounts),
            role: claims.role,
            scopes: claims.scope,
            anonymous: false,
            source: None,
        };
        let jkt: Option<Arc<str>> = claims.cnf.map(|cnf| cnf.jkt.into());
        self.remember(
            digest,
            Verified {
                caller: caller.clone(),
                jkt: jkt.clone(),
                exp: claims.exp,
                kid,
            },
        );
        Ok((caller, jkt))
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<(Caller, Option<Arc<str>>)> {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = verified.get(digest)?;
        let bearer = entry.caller.bearer.as_ref();
        // Once more: the clock may have been set since.
        let begun = bearer.is_some_and(|bearer| has_begun(bearer.marks().iat));
        let known = || (entry.caller.clone(), entry.jkt.clone());
        (begun && entry.exp > now_s()).then(known)
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
        let Published { set, issuer } = match self.authsvc.get_json("/.well-known/jwks.json").await
        {
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
        if let Some(issuer) = issuer.filter(|_| !self.issuer_set) {
            *self.issuers.write().unwrap_or_else(PoisonError::into_inner) = issuers(issuer);
        }
        // What a key that is gone once signed counts no more.
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.retain(|_, entry| fresh.contains_key(&entry.kid));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

/// Whether what was made at `iat` has begun, as far as two clocks agree.
fn has_begun(iat: u64) -> bool {
    iat <= now_s().saturating_add(SKEW_S)
}

fn now_s() -> u64 {
    u64::try_from(Micros::now().get() / 1_000_000).unwrap_or_default()
}

const TWO: &str = "Authorization and X-API-Key hold different credentials: send one of them.";

/// The credential in a request's head. The cookie of that name, which a browser
/// sends by itself, counts only where there is nothing else.
///
/// Errors: there are two that differ.
fn shown<'a>(headers: &'a HeaderMap, cookie: &str) -> Result<Shown<'a>, Fault> {
    let authorization = |scheme: &str| {
        let header = headers.get(AUTHORIZATION)?;
        let (known, value) = header.to_str().ok()?.split_once(' ')?;
        let value = value.trim();
        (known.eq_ignore_ascii_case(scheme) && !value.is_empty()).then_some(value)
    };
    let (bearer, basic) = (authorization("bearer"), authorization("basic"));
    let key = headers
        .get(API_KEY)
        .map(|value| value.to_str().unwrap_or_default().trim());
    if let Some(token) = authorization(SCHEME) {
        return match key {
            None => Ok(Shown::Bound(token)),
            Some(_) => Err(Fault::detail(StatusCode::BAD_REQUEST, TWO)),
        };
    }
    if let Some(why) = authorization(UNANSWERED_SCHEME) {
        return Ok(Shown::Unanswered(why));
    }
    match (bearer.or(basic), key) {
        (None, None) if headers.contains_key(AUTHORIZATION) => Ok(Shown::Nothing),
        (None, None) => Ok(browser::cookie(headers, cookie).map_or(Shown::Nothing, Shown::Cookie)),
        (Some(value), None) if basic.is_some() => Ok(Shown::Basic(value)),
        (Some(one), Some(other)) if one != other || basic.is_some() => {
            Err(Fault::detail(StatusCode::BAD_REQUEST, TWO))
        }
        (Some(token), None) if !token.starts_with(KEY_PREFIX) => Ok(Shown::Token(token)),
        // What is no key in the place of one is refused as one.
        (_, Some(key)) | (Some(key), _) => Ok(Shown::Key(key)),
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    /// Whoever the access table's check let in.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        let words = "Internal Server Error";
        let missing = || Fault::detail(StatusCode::INTERNAL_SERVER_ERROR, words);
        parts.extensions.remove().ok_or_else(missing)
    }
}

/// The caller where authentication is off: the account the broker runs as,
/// with no role.
pub fn anonymous(name: String) -> Caller {
    Caller {
        name,
        uid: None,
        role: Role::User,
        scopes: Scopes::ALL,
        anonymous: true,
        bearer: None,
        source: None,
    }
}
