//! The keys with which a provider signs. Only those that it publishes count,
//! for the algorithm that each is for. Source: RFC 7517, RFC 7518 §6, RFC 8037.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// The most keys of a provider.
const MOST: usize = 64;
/// The longest id of a key, in bytes.
pub(super) const MAX_KID: usize = 256;
/// The sizes of RSA keys, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// The algorithms that count. No other is ever looked at: `none` and those
/// with a shared secret least of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Signed {
    /// The algorithm called `name`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// As the library has it.
    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A key of a provider.
#[derive(Clone)]
pub(super) struct Key {
    kid: Option<String>,
    signed: Signed,
    /// The key itself.
    pub(super) public: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("signed", &self.signed)
            .finish_non_exhaustive()
    }
}

/// The keys of a provider.
#[derive(Debug, Clone)]
pub(super) struct Keys(Vec<Key>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Read a set of keys. Those that cannot be used here are left out.
    ///
    /// Errors: it is none, or has more than 64.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let set: Set = serde_json::from_slice(bytes)
            .map_err(|source| Error::unavailable("the provider's keys cannot be read", source))?;
        if set.keys.len() > MOST {
            return Err(Error::invalid("the provider has more than 64 keys"));
        }
        let keys = set.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            Key::of(&jwk)
        });
        Ok(Self(keys.collect()))
    }

    /// The key for what names `kid` and is signed so. What names none can be
    /// looked at only where there is no choice.
    pub(super) fn find(&self, kid: Option<&str>, signed: Signed) -> Option<&Key> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.signed == signed && (kid.is_none() || key.kid.as_deref() == kid));
        fitting.next().filter(|_| fitting.next().is_none())
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        let (signed, public) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", None) => {
                let n = URL_SAFE_NO_PAD.decode(jwk.n.as_deref()?).ok()?;
                let n: Vec<_> = n.into_iter().skip_while(|byte| *byte == 0).collect();
                let e = URL_SAFE_NO_PAD.decode(jwk.e.as_deref()?).ok()?;
                if !RSA_BYTES.contains(&n.len()) || e.len() > 4 {
                    return None;
                }
                (Signed::Rs256, DecodingKey::from_rsa_raw_components(&n, &e))
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (coordinate(jwk.x.as_deref())?, coordinate(jwk.y.as_deref())?);
                let key = DecodingKey::from_ec_components(x, y).ok()?;
                (Signed::Es256, key)
            }
            ("OKP", Some("Ed25519")) => {
                let x = coordinate(jwk.x.as_deref())?;
                (Signed::EdDsa, DecodingKey::from_ed_components(x).ok()?)
            }
            _ => return None,
        };
        let for_this = jwk.alg.as_deref().is_none_or(|alg| alg == signed.name());
        let for_signatures = jwk.used_for.as_deref().is_none_or(|used| used == "sig");
        let operations = jwk.key_ops.as_ref();
        let to_verify = operations.is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let kid_fits = jwk.kid.as_ref().is_none_or(|kid| kid.len() <= MAX_KID);
        (for_this && for_signatures && to_verify && kid_fits).then(|| Self {
            kid: jwk.kid.clone(),
            signed,
            public,
        })
    }
}

/// A coordinate of 256 bits.
fn coordinate(text: Option<&str>) -> Option<&str> {
    text.filter(|text| {
        URL_SAFE_NO_PAD
            .decode(text)
            .is_ok_and(|bytes| bytes.len() == 32)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn okp(kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode([1; 32])})
    }

    fn read(keys: &[Value]) -> Result<Keys> {
        Keys::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn with(kid: &str, name: &str, value: Value) -> Value {
        let mut key = okp(kid);
        key[name] = value;
        key
    }

    #[test]
    fn t101_only_keys_for_signatures_of_their_algorithm_are_taken() {
        let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
        let keys = [
            okp("good"),
            with("enc", "use", json!("enc")),
            with("alg", "alg", json!("HS256")),
            with("ops", "key_ops", json!(["sign"])),
            with("short", "x", json!(URL_SAFE_NO_PAD.encode([1; 31]))),
            json!({"kty": "oct", "kid": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "RSA", "kid": "rsa", "n": short, "e": "AQAB"}),
            json!({"kty": "EC", "crv": "P-521", "kid": "ec", "x": "AA", "y": "AA"}),
            json!("nothing"),
        ];
        let keys = read(&keys).unwrap();
        assert_eq!(keys.0.len(), 1, "{keys:?}");
        assert!(keys.find(Some("good"), Signed::EdDsa).is_some());
        assert!(keys.find(Some("good"), Signed::Rs256).is_none());
    }

    #[test]
    fn t101_a_token_without_a_key_id_is_looked_at_only_where_there_is_no_choice() {
        assert!(
            read(&[okp("a")])
                .unwrap()
                .find(None, Signed::EdDsa)
                .is_some()
        );
        let two = read(&[okp("a"), okp("b")]).unwrap();
        assert!(two.find(None, Signed::EdDsa).is_none());
        assert!(two.find(Some("b"), Signed::EdDsa).is_some());
        let same = read(&[okp("a"), okp("a")]).unwrap();
        assert!(same.find(Some("a"), Signed::EdDsa).is_none());
    }

    #[test]
    fn t101_more_keys_than_a_provider_has_are_refused() {
        let many: Vec<_> = (0..65).map(|number| okp(&number.to_string())).collect();
        assert!(read(&many).is_err());
        assert!(read(&many[..64]).is_ok());
        assert!(Keys::read(b"[]").is_err());
    }
}
