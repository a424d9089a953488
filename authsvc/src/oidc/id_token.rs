//! ID tokens as they come in: their form and their signature. What a header
//! says of keys (`jwk`, `jku`, `x5c`, `x5u`) is never looked at. Source: RFC
//! 7515 §5.2, RFC 8725.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::Claims;
use super::keys::{Key, MAX_KID, Signed};
use crate::opaque;
use crate::secret::Secret;

/// The longest ID token, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Why an ID token does not count, in one stable word.
pub(super) type Reason = &'static str;

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<Value>,
    b64: Option<Value>,
}

/// An ID token of the right form; nothing in it is proven yet.
pub(super) struct Unproven<'a> {
    message: &'a str,
    signature: &'a str,
    /// How it says it is signed.
    pub(super) signed: Signed,
    /// The key it names.
    pub(super) kid: Option<String>,
    claims: Map<String, Value>,
}

impl<'a> Unproven<'a> {
    /// Take `token` apart.
    ///
    /// Errors: it is no ID token, or signed in a way that does not count.
    pub(super) fn read(token: &'a Secret) -> Result<Self, Reason> {
        const FORM: Reason = "id-token-form";
        let token = token.expose();
        if token.len() > MAX_BYTES {
            return Err(FORM);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(FORM)?;
        // A dot too many ends up in `claims`, and is no base64.
        let (header, claims) = message.split_once('.').ok_or(FORM)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| FORM);
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| FORM)?;
        let is_jwt = header.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        let plain = header.crit.is_none() && header.b64.is_none();
        let kid_fits = header.kid.as_ref().is_none_or(|kid| kid.len() <= MAX_KID);
        if !is_jwt || !plain || !kid_fits {
            return Err(FORM);
        }
        Ok(Self {
            signed: Signed::parse(&header.alg).ok_or("id-token-algorithm")?,
            kid: header.kid,
            claims: serde_json::from_slice(&decoded(claims)?).map_err(|_| FORM)?,
            message,
            signature,
        })
    }

    /// Who it says made it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// What it says, if `key` signed it.
    ///
    /// Errors: it did not.
    pub(super) fn proven(self, key: &Key) -> Result<Claims, Reason> {
        let algorithm = self.signed.algorithm();
        let message = self.message.as_bytes();
        match crypto::verify(self.signature, message, &key.public, algorithm) {
            Ok(true) => Ok(Claims {
                // The signature can be spelt in more than one way, and is left
                // out.
                hash: opaque::hash(self.message),
                signed: self.signed,
                claims: self.claims,
            }),
            Ok(false) | Err(_) => Err("id-token-signature"),
        }
    }
}
