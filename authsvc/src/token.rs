//! Making access tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use warrant_api::scope::Scopes;
use warrant_api::token::{
    ACCESS_TOKEN_TYPE, AUTHSVC_AUDIENCE, AccessClaims, BROKER_AUDIENCE, Role, TokenAnswer,
};

use crate::error::{Error, Kind, Result};
use crate::keys::Ring;

/// The client that tokens for a password are given to.
const CLIENT: &str = "flux";
/// The client that tokens for an API key are given to.
const KEY_CLIENT: &str = "key";

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

/// Whom a token is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The user's name.
    pub(crate) name: String,
    /// The account's user id, in multi-user mode.
    pub(crate) uid: Option<u32>,
    /// What the user may do.
    pub(crate) role: Role,
}

/// A token and its id.
#[derive(Debug)]
pub(crate) struct Minted {
    /// As it is answered.
    pub(crate) answer: TokenAnswer,
    /// The `jti` claim.
    pub(crate) jti: String,
}

/// Makes access tokens with whichever key signs.
#[derive(Debug)]
pub(crate) struct Mint {
    /// The keys.
    pub(crate) ring: Ring,
    /// The `iss` claim.
    pub(crate) issuer: String,
    /// The life of a token, in seconds.
    pub(crate) life_s: u64,
}

impl Mint {
    /// A token about `user`, made at `now_s` (seconds since the Unix epoch).
    /// Source: RFC 9068 §2, RFC 8037 §3.1.
    ///
    /// Errors: there is no key, or no random numbers.
    pub(crate) fn token(&self, user: &Principal, audience: Audience, now_s: u64) -> Result<Minted> {
        let jti = random_id()?;
        self.sign(AccessClaims {
            iss: self.issuer.clone(),
            aud: audience.name().into(),
            sub: user.name.clone(),
            sid: jti.clone(),
            jti,
            iat: now_s,
            exp: now_s + self.life_s,
            role: user.role,
            scope: Scopes::ALL,
            client_id: CLIENT.into(),
            uid: user.uid,
        })
    }

    /// A token for the broker about `user`, whose API key was shown: of the
    /// session `sid`, for `life_s` seconds.
    ///
    /// Errors: as [`Mint::token`].
    pub(crate) fn key_token(
        &self,
        user: &Principal,
        scope: Scopes,
        sid: String,
        life_s: u64,
        now_s: u64,
    ) -> Result<Minted> {
        self.sign(AccessClaims {
            iss: self.issuer.clone(),
            aud: Audience::Broker.name().into(),
            sub: user.name.clone(),
            sid,
            jti: random_id()?,
            iat: now_s,
            exp: now_s.saturating_add(life_s),
            role: user.role,
            scope,
            client_id: KEY_CLIENT.into(),
            uid: user.uid,
        })
    }

    fn sign(&self, claims: AccessClaims) -> Result<Minted> {
        let (now_s, life_s) = (claims.iat, claims.exp.saturating_sub(claims.iat));
        let key = self
            .ring
            .signing(now_s)
            .ok_or_else(|| Error::new(Kind::Unavailable, "there is no signing key"))?;
        let header = Header {
            typ: Some(ACCESS_TOKEN_TYPE.into()),
            kid: Some(key.kid),
            ..Header::new(Algorithm::EdDSA)
        };
        let answer = TokenAnswer {
            access_token: jsonwebtoken::encode(&header, &claims, &key.private)
                .map_err(|source| Error::unavailable("a token could not be signed", source))?,
            token_type: "Bearer".into(),
            expires_in: life_s,
        };
        Ok(Minted {
            answer,
            jti: claims.jti,
        })
    }
}

/// 128 random bits in base64url.
fn random_id() -> Result<String> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|source| Error::unavailable("no random numbers", source))?;
    Ok(URL_SAFE_NO_PAD.encode(id))
}
