//! Making access tokens.

use jsonwebtoken::{Algorithm, Header};
use warrant_api::oauth::Granted;
use warrant_api::scope::Scopes;
use warrant_api::token::{
    ACCESS_TOKEN_TYPE, AUTHSVC_AUDIENCE, AccessClaims, BROKER_AUDIENCE, Confirmation,
};
use warrant_dpop::SCHEME;

use crate::error::{Error, Kind, Result};
use crate::keys::Ring;
use crate::opaque;
use crate::secret::Secret;
use crate::sessions::Session;

/// The client of those who log in without naming one.
pub(crate) const LEGACY_CLIENT: &str = "flux";
/// The client of tokens that are given for an API key.
pub(crate) const KEY_CLIENT: &str = "key";

/// Whom a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The broker's job APIs.
    Broker,
    /// This service: to be exchanged for warrants by whom it was given to.
    Authsvc,
}

impl Audience {
    /// The `aud` claim.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Broker => BROKER_AUDIENCE,
            Self::Authsvc => AUTHSVC_AUDIENCE,
        }
    }
}

/// A token and its id.
pub(crate) struct Minted {
    /// The token.
    pub(crate) token: Secret,
    /// Its life in seconds.
    pub(crate) life_s: u64,
    /// The `jti` claim.
    pub(crate) jti: String,
    /// Whether it is bound to a key.
    pub(crate) bound: bool,
}

impl Minted {
    /// As the token endpoints answer it.
    pub(crate) fn granted(&self, scope: Scopes, refresh: Option<&Secret>) -> Granted {
        Granted {
            access_token: self.token.expose().to_owned(),
            token_type: if self.bound { SCHEME } else { "Bearer" }.into(),
            expires_in: self.life_s,
            refresh_token: refresh.map(|token| token.expose().to_owned()),
            scope,
            issued_token_type: None,
        }
    }
}

/// Makes access tokens with whichever key signs.
#[derive(Debug)]
pub(crate) struct Mint {
    /// The keys.
    pub(crate) ring: Ring,
    /// The `iss` claim.
    pub(crate) issuer: String,
}

impl Mint {
    /// A token of `session` for `scopes`, made at `now_us` (microseconds since
    /// the Unix epoch). It lives for `life_s` seconds, and not longer than the
    /// session. Source: RFC 9068 §2, RFC 8037 §3.1.
    ///
    /// Errors: there is no key, or no random numbers.
    pub(crate) fn token(
        &self,
        session: &Session,
        scopes: Scopes,
        audience: Audience,
        life_s: u64,
        now_us: i64,
    ) -> Result<Minted> {
        let seconds = |time_us: i64| u64::try_from(time_us / 1_000_000).unwrap_or(0);
        let now_s = seconds(now_us);
        let life_s = life_s.min(seconds(session.expires_us).saturating_sub(now_s));
        let key = self
            .ring
            .signing(now_s)
            .ok_or_else(|| Error::new(Kind::Unavailable, "there is no signing key"))?;
        let claims = AccessClaims {
            iss: self.issuer.clone(),
            aud: audience.name().into(),
            sub: session.subject.clone(),
            jti: opaque::id()?,
            iat: now_s,
            exp: now_s + life_s,
            role: session.role,
            scope: scopes,
            sid: session.id.clone(),
            client_id: session.client_id.clone(),
            uid: session.uid,
            cnf: session.jkt.clone().map(|jkt| Confirmation { jkt }),
        };
        let header = Header {
            typ: Some(ACCESS_TOKEN_TYPE.into()),
            kid: Some(key.kid),
            ..Header::new(Algorithm::EdDSA)
        };
        let token = jsonwebtoken::encode(&header, &claims, &key.private)
            .map_err(|source| Error::unavailable("a token could not be signed", source))?;
        Ok(Minted {
            token: Secret::new(token),
            life_s,
            jti: claims.jti,
            bound: session.jkt.is_some(),
        })
    }
}
