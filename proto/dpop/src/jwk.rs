//! The public key of a proof.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Verifier;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::Refused;

/// A key as it is written. What a private or a symmetric key consists of may
/// not be there. Source: RFC 7517, RFC 7518 §6, RFC 8037 §2.
#[derive(Debug, Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    crv: String,
    x: String,
    #[serde(default)]
    y: Option<String>,
    #[serde(default, deserialize_with = "present")]
    d: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    p: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    q: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    dp: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    dq: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    qi: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    oth: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    k: Option<IgnoredAny>,
}

/// What is there is there, even where it is null.
pub(crate) fn present<'de, D>(deserializer: D) -> Result<Option<IgnoredAny>, D::Error>
where
    D: Deserializer<'de>,
{
    IgnoredAny::deserialize(deserializer).map(Some)
}

/// A public key.
#[derive(Debug)]
pub(crate) enum Public {
    P256(Box<p256::ecdsa::VerifyingKey>, [u8; 32], [u8; 32]),
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

impl Public {
    /// The key in `jwk`, for the algorithm `alg`.
    ///
    /// Errors: the algorithm is none that is accepted; the key is none for it.
    pub(crate) fn read(jwk: &Jwk, alg: &str) -> Result<Self, Refused> {
        let private = [
            &jwk.d, &jwk.p, &jwk.q, &jwk.dp, &jwk.dq, &jwk.qi, &jwk.oth, &jwk.k,
        ];
        let is_public = private.into_iter().all(Option::is_none);
        match alg {
            "ES256" if is_public => Self::p256(jwk).ok_or(Refused::Jwk),
            "EdDSA" if is_public => Self::ed25519(jwk).ok_or(Refused::Jwk),
            "ES256" | "EdDSA" => Err(Refused::Jwk),
            _ => Err(Refused::Alg),
        }
    }

    fn p256(jwk: &Jwk) -> Option<Self> {
        if (jwk.kty.as_str(), jwk.crv.as_str()) != ("EC", "P-256") {
            return None;
        }
        let (x, y) = (bytes(&jwk.x)?, bytes(jwk.y.as_deref()?)?);
        let point = p256::EncodedPoint::from_affine_coordinates(&x.into(), &y.into(), false);
        let key = p256::ecdsa::VerifyingKey::from_encoded_point(&point).ok()?;
        Some(Self::P256(Box::new(key), x, y))
    }

    fn ed25519(jwk: &Jwk) -> Option<Self> {
        if (jwk.kty.as_str(), jwk.crv.as_str()) != ("OKP", "Ed25519") || jwk.y.is_some() {
            return None;
        }
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes(&jwk.x)?).ok()?;
        // Under a key of small order everybody's signature holds.
        (!key.is_weak()).then(|| Self::Ed25519(Box::new(key)))
    }

    /// Its thumbprint. Source: RFC 7638 §3, RFC 8037 §2.
    pub(crate) fn thumbprint(&self) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let spelled = match self {
            Self::P256(_, x, y) => {
                let (x, y) = (encode(x), encode(y));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Self::Ed25519(key) => {
                let x = encode(key.as_bytes());
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
            }
        };
        encode(&Sha256::digest(spelled))
    }

    /// Whether `signature` is this key's of `message`.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match self {
            Self::P256(key, ..) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_bytes(signature);
                key.verify_strict(message, &signature).is_ok()
            }
        }
    }
}

fn bytes(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
