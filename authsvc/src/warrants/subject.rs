//! The access tokens that are exchanged: this service's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sha2::{Digest, Sha256};
use warrant_api::token::{ACCESS_TOKEN_TYPE, AccessClaims};

use crate::keys::Ring;
use crate::token::Audience;

/// The most verified tokens remembered.
const REMEMBERED: usize = 10_000;
/// A token longer than this is nobody's, in bytes.
const LONGEST: usize = 4096;
/// How far the clocks of two services with the same keys may differ, in
/// seconds.
const SKEW_S: u64 = 60;

/// Verifies access tokens, and remembers which it has verified.
#[derive(Debug)]
pub(crate) struct Subjects {
    ring: Ring,
    issuers: Vec<String>,
    verified: Mutex<HashMap<[u8; 32], Verified>>,
}

#[derive(Debug, Clone)]
struct Verified {
    claims: Arc<AccessClaims>,
    kid: Arc<str>,
}

impl Subjects {
    /// Of tokens that one of `issuers` signed with the keys of `ring`.
    pub(crate) fn new(ring: Ring, issuers: Vec<String>) -> Self {
        Self {
            ring,
            issuers,
            verified: Mutex::default(),
        }
    }

    /// The claims of `token`, if it is an access token for `audience` and
    /// alive at `now_s`. Source: RFC 9068 §4.
    pub(crate) fn verify(
        &self,
        token: &str,
        audience: Audience,
        now_s: u64,
    ) -> Option<Arc<AccessClaims>> {
        let claims = self.claims(token, now_s)?;
        (claims.aud == audience.name()).then_some(claims)
    }

    /// The claims of `token`, whatever its audience, if it is an access token
    /// and alive at `now_s`. Source: RFC 9068 §4.
    pub(crate) fn claims(&self, token: &str, now_s: u64) -> Option<Arc<AccessClaims>> {
        if token.len() > LONGEST {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let known = self.verified().get(&digest).cloned();
        let claims = match known {
            // What a key that is gone once signed counts no more.
            Some(known) if self.ring.verifying(&known.kid, now_s).is_some() => known.claims,
            Some(_) | None => {
                let fresh = self.read(token, now_s)?;
                let claims = fresh.claims.clone();
                self.remember(digest, fresh, now_s);
                claims
            }
        };
        // Once more: the clock may have been set since.
        is_alive(&claims, now_s).then_some(claims)
    }

    /// What `token` says, whatever its audience, if it is an access token of
    /// this service.
    fn read(&self, token: &str, now_s: u64) -> Option<Verified> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let plain = header.typ.as_deref() == Some(ACCESS_TOKEN_TYPE)
            && header.alg == Algorithm::EdDSA
            && header.crit.is_none();
        let kid = header.kid.filter(|_| plain)?;
        let key = DecodingKey::from_ed_components(&self.ring.verifying(&kid, now_s)?).ok()?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        // Audience and time are compared by the caller.
        rules.validate_aud = false;
        rules.validate_exp = false;
        rules.set_issuer(&self.issuers);
        rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let claims = jsonwebtoken::decode::<AccessClaims>(token, &key, &rules)
            .ok()?
            .claims;
        let complete = !claims.sub.is_empty() && !claims.jti.is_empty();
        (complete && is_alive(&claims, now_s)).then(|| Verified {
            claims: Arc::new(claims),
            kid: kid.into(),
        })
    }

    fn remember(&self, digest: [u8; 32], fresh: Verified, now_s: u64) {
        let mut verified = self.verified();
        if verified.len() >= REMEMBERED {
            verified.retain(|_, known| now_s < known.claims.exp);
            if verified.len() >= REMEMBERED {
                verified.clear();
            }
        }
        verified.insert(digest, fresh);
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it has begun, as far as clocks agree, and has not ended.
fn is_alive(claims: &AccessClaims, now_s: u64) -> bool {
    claims.iat <= now_s.saturating_add(SKEW_S) && now_s < claims.exp
}
