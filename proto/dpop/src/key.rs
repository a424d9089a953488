//! The other side: a client's key, and the proofs that it makes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Map, Value, json};

use crate::jwk::Public;
use crate::proof::TYP;
use crate::token_hash;

/// A client's key. The client keeps it to itself.
pub struct Key(SigningKey);

impl std::fmt::Debug for Key {
    /// Leaves the key out, so that no log line can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a proof is made of.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's address, without query and fragment.
    pub url: &'a str,
    /// The access token that goes with it, where one does.
    pub token: Option<&'a str>,
    /// The nonce that the server gave, where it gave one.
    pub nonce: Option<&'a str>,
    /// An id that no other proof of this key has.
    pub id: &'a str,
    /// Now, in seconds since the Unix epoch.
    pub now_s: u64,
}

impl Key {
    /// The Ed25519 key of these 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The thumbprint of its public half: the `jkt` of its tokens.
    pub fn thumbprint(&self) -> String {
        Public::Ed25519(Box::new(self.0.verifying_key())).thumbprint()
    }

    /// A proof for one request, to be sent in the header DPoP. Source: RFC 9449
    /// §4.2.
    pub fn proof(&self, draft: &Draft<'_>) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.verifying_key().as_bytes());
        let header = json!({
            "typ": TYP,
            "alg": "EdDSA",
            "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x},
        });
        let mut claims = Map::new();
        let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        say("jti", draft.id.into());
        say("htm", draft.method.into());
        say("htu", draft.url.into());
        say("iat", draft.now_s.into());
        if let Some(token) = draft.token {
            say("ath", token_hash(token).into());
        }
        if let Some(nonce) = draft.nonce {
            say("nonce", nonce.into());
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&Value::Object(claims)));
        let signature = self.0.sign(message.as_bytes()).to_bytes();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
