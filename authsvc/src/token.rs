//! Making access tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use warrant_api::token::{ACCESS_TOKEN_TYPE, AccessClaims, BROKER_AUDIENCE, Role, TokenAnswer};

use crate::error::{Error, Kind, Result};
use crate::keys::Ring;

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
    /// A token for the user `name`, made at `now_s` (seconds since the Unix
    /// epoch). Source: RFC 9068 §2, RFC 8037 §3.1.
    ///
    /// Errors: there is no key, or no random numbers.
    pub(crate) fn token(&self, name: &str, role: Role, now_s: u64) -> Result<TokenAnswer> {
        let key = self
            .ring
            .signing(now_s)
            .ok_or_else(|| Error::new(Kind::Unavailable, "there is no signing key"))?;
        let mut jti = [0; 16];
        getrandom::fill(&mut jti)
            .map_err(|source| Error::unavailable("no random numbers", source))?;
        let claims = AccessClaims {
            iss: self.issuer.clone(),
            aud: BROKER_AUDIENCE.into(),
            sub: name.into(),
            jti: URL_SAFE_NO_PAD.encode(jti),
            iat: now_s,
            exp: now_s + self.life_s,
            role,
        };
        let header = Header {
            typ: Some(ACCESS_TOKEN_TYPE.into()),
            kid: Some(key.kid),
            ..Header::new(Algorithm::EdDSA)
        };
        Ok(TokenAnswer {
            access_token: jsonwebtoken::encode(&header, &claims, &key.private)
                .map_err(|source| Error::unavailable("a token could not be signed", source))?,
            token_type: "Bearer".into(),
            expires_in: self.life_s,
        })
    }
}
