//! A holder of a key that proves it (DPoP, RFC 9449), written apart from the
//! product, and able to lie.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fake_auth::now_s;
use crate::handshake::part;

/// Whoever holds a key.
#[derive(Debug)]
pub struct Holder {
    key: SigningKey,
    made: AtomicU64,
}

impl Holder {
    /// Of the key made of `seed`.
    pub fn new(seed: u8) -> Self {
        Self {
            key: SigningKey::from_bytes(&[seed; 32]),
            made: AtomicU64::new(0),
        }
    }

    /// The public key. Source: RFC 8037 §2.
    pub fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.verifying_key().to_bytes());
        json!({"crv": "Ed25519", "kty": "OKP", "x": x})
    }

    /// The thumbprint of the key. Source: RFC 7638 §3.
    pub fn jkt(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.jwk().to_string()))
    }

    /// The header of a proof.
    pub fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": self.jwk()})
    }

    /// The claims of a new proof. Source: RFC 9449 §4.2.
    pub fn claims(&self, method: &str, url: &str, token: Option<&str>) -> Value {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut claims = json!({
            "jti": format!("proof-{number}"), "htm": method, "htu": url, "iat": now_s(),
        });
        if let Some(token) = token {
            claims["ath"] = URL_SAFE_NO_PAD.encode(Sha256::digest(token)).into();
        }
        claims
    }

    /// A proof that says this, signed whatever it says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A new proof.
    pub fn proof(&self, method: &str, url: &str, token: Option<&str>) -> String {
        self.sign(&self.header(), &self.claims(method, url, token))
    }
}
