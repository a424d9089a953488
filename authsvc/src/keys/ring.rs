//! Which key signs, and which are published, at a given time.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use jsonwebtoken::EncodingKey;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};

/// Seconds that an old key outlives its last token, for clocks that differ.
const LEEWAY_S: u64 = 60;

/// One key and when it begins to sign.
#[derive(Debug, Clone)]
pub(crate) struct SigningKey {
    /// Its thumbprint. Source: RFC 7638, RFC 8037 §2.
    pub(crate) kid: String,
    /// When it begins to sign, in seconds since the Unix epoch.
    pub(crate) signs_from_s: u64,
    /// The public key in base64url.
    x: String,
    /// What signs access tokens. Its Debug shows nothing.
    pub(crate) private: EncodingKey,
    /// What signs warrants. Its Debug shows the public half.
    signer: ed25519_dalek::SigningKey,
}

/// A public key as it is published. Source: RFC 7517 §4, RFC 8037 §2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PublicKey {
    kty: &'static str,
    crv: &'static str,
    x: String,
    kid: String,
    #[serde(rename = "use")]
    purpose: &'static str,
    alg: &'static str,
}

/// The answer of `/.well-known/jwks.json`. Source: RFC 7517 §5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeySet {
    /// Every published key.
    pub(crate) keys: Vec<PublicKey>,
}

/// What a key is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Published, and will sign.
    Next,
    /// Signs.
    Signing,
    /// Published for the tokens it once signed.
    Old,
    /// No token of its can be alive; to be removed.
    Ended,
}

impl SigningKey {
    /// Make a new key that begins to sign at `signs_from_s`, and its file's
    /// content: PKCS#8 in PEM.
    ///
    /// Errors: the system gives no random numbers.
    pub(crate) fn generate(signs_from_s: u64) -> Result<(Self, impl AsRef<[u8]>)> {
        let mut secret_key = [0; 32];
        getrandom::fill(&mut secret_key)
            .map_err(|source| Error::unavailable("no random numbers", source))?;
        let bytes = KeypairBytes {
            secret_key,
            public_key: None,
        };
        let pem = bytes.to_pkcs8_pem(LineEnding::LF).map_err(|_| unusable())?;
        Ok((Self::from_pem(&pem, signs_from_s)?, pem))
    }

    /// The key in `pem`, a file's content.
    ///
    /// Errors: it is not an Ed25519 key in PKCS#8.
    pub(crate) fn from_pem(pem: &str, signs_from_s: u64) -> Result<Self> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map_err(|_| unusable())?;
        let der = key.to_pkcs8_der().map_err(|_| unusable())?;
        let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
        Ok(Self {
            kid: thumbprint(&x),
            signs_from_s,
            x,
            private: EncodingKey::from_ed_der(der.as_bytes()),
            signer: key,
        })
    }

    /// The signature of `message`. Source: RFC 8032 §5.1.6.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signer.sign(message).to_bytes()
    }

    /// The public key, 32 bytes in base64url. Source: RFC 8037 §2.
    pub(crate) fn public_text(&self) -> &str {
        &self.x
    }

    fn public(&self) -> PublicKey {
        PublicKey {
            kty: "OKP",
            crv: "Ed25519",
            x: self.x.clone(),
            kid: self.kid.clone(),
            purpose: "sig",
            alg: "EdDSA",
        }
    }
}

fn unusable() -> Error {
    Error::new(Kind::Invalid, "not an Ed25519 private key in PKCS#8, PEM")
}

fn thumbprint(x: &str) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

/// All keys, as last read; shared, and replaced as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    keys: Arc<RwLock<Vec<SigningKey>>>,
    /// The longest life of what they sign, in seconds.
    longest_s: u64,
}

impl Ring {
    /// A ring of `keys`; nothing that they sign lives longer than `longest_s`.
    pub(crate) fn new(keys: Vec<SigningKey>, longest_s: u64) -> Self {
        let ring = Self {
            keys: Arc::default(),
            longest_s,
        };
        ring.replace(keys);
        ring
    }

    /// Hold `keys` from now on.
    pub(crate) fn replace(&self, mut keys: Vec<SigningKey>) {
        keys.sort_by(|a, b| (a.signs_from_s, &a.kid).cmp(&(b.signs_from_s, &b.kid)));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// What `wanted` answers for the first key, from the oldest on, for which
    /// it answers anything; it is told what the key is doing at `now_s`.
    fn find<T>(
        &self,
        now_s: u64,
        mut wanted: impl FnMut(&SigningKey, State) -> Option<T>,
    ) -> Option<T> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        // If none has begun (the clock went back), the first signs early.
        let signing = keys
            .iter()
            .rposition(|key| key.signs_from_s <= now_s)
            .unwrap_or(0);
        let longest_s = self.longest_s.saturating_add(LEEWAY_S);
        let retired_at = keys
            .iter()
            .skip(1)
            .map(|next| Some(next.signs_from_s))
            .chain([None]);
        let mut states = keys.iter().zip(retired_at).enumerate();
        states.find_map(|(at, (key, retired_s))| {
            let ended = retired_s.is_some_and(|s| s.saturating_add(longest_s) <= now_s);
            let state = match at.cmp(&signing) {
                std::cmp::Ordering::Less if ended => State::Ended,
                std::cmp::Ordering::Less => State::Old,
                std::cmp::Ordering::Equal => State::Signing,
                std::cmp::Ordering::Greater => State::Next,
            };
            wanted(key, state)
        })
    }

    /// Every key and what it is doing at `now_s`, the oldest first.
    pub(crate) fn states(&self, now_s: u64) -> Vec<(SigningKey, State)> {
        let mut states = Vec::new();
        self.find(now_s, |key, state| {
            states.push((key.clone(), state));
            None::<()>
        });
        states
    }

    /// The key that signs at `now_s`; `None` when there are no keys.
    pub(crate) fn signing(&self, now_s: u64) -> Option<SigningKey> {
        self.find(now_s, |key, state| {
            (state == State::Signing).then(|| key.clone())
        })
    }

    /// The public half of the key `kid`, in base64url, if what it signed may
    /// be alive at `now_s`.
    pub(crate) fn verifying(&self, kid: &str, now_s: u64) -> Option<String> {
        self.find(now_s, |key, state| {
            (key.kid == kid && state != State::Ended).then(|| key.x.clone())
        })
    }

    /// The keys published at `now_s`.
    pub(crate) fn published(&self, now_s: u64) -> KeySet {
        let keys = self.states(now_s).into_iter();
        KeySet {
            keys: keys
                .filter(|(_, state)| *state != State::Ended)
                .map(|(key, _)| key.public())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE_S: u64 = 36_000;

    fn ring(starts: &[u64]) -> Ring {
        let keys = starts
            .iter()
            .map(|start| SigningKey::generate(*start).unwrap().0);
        Ring::new(keys.collect(), LIFE_S)
    }

    fn states(ring: &Ring, now_s: u64) -> Vec<State> {
        ring.states(now_s)
            .into_iter()
            .map(|(_, state)| state)
            .collect()
    }

    #[test]
    fn a_kid_is_the_thumbprint_of_rfc_8037_appendix_a() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(thumbprint(x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_survives_its_file() {
        let (key, pem) = SigningKey::generate(7).unwrap();
        let text = std::str::from_utf8(pem.as_ref()).unwrap();
        assert!(
            text.starts_with("-----BEGIN PRIVATE KEY-----\n"),
            "not PKCS#8"
        );
        assert_eq!(SigningKey::from_pem(text, 7).unwrap().kid, key.kid);
    }

    #[test]
    fn a_new_key_is_published_before_it_signs_and_an_old_one_until_its_tokens_end() {
        let ring = ring(&[1_000, 2_000]);
        let published = |now_s| ring.published(now_s).keys.len();
        assert_eq!(states(&ring, 1_999), [State::Signing, State::Next]);
        assert_eq!(published(1_999), 2);
        assert_eq!(states(&ring, 2_000), [State::Old, State::Signing]);
        assert_eq!(states(&ring, 2_000 + LIFE_S), [State::Old, State::Signing]);
        assert_eq!(published(2_000 + LIFE_S), 2);
        assert_eq!(
            states(&ring, 2_060 + LIFE_S),
            [State::Ended, State::Signing]
        );
        assert_eq!(published(2_060 + LIFE_S), 1);
    }

    #[test]
    fn an_old_key_stays_while_its_successor_still_waits() {
        let ring = ring(&[1_000, 900_000]);
        assert_eq!(states(&ring, 899_999), [State::Signing, State::Next]);
    }

    #[test]
    fn a_clock_that_went_back_does_not_stop_signing() {
        let ring = ring(&[1_000, 2_000]);
        assert_eq!(states(&ring, 1), [State::Signing, State::Next]);
    }

    #[test]
    fn without_keys_nothing_signs() {
        assert!(ring(&[]).signing(1).is_none());
    }

    #[test]
    fn debugging_a_key_shows_nothing_private() {
        let (key, pem) = SigningKey::generate(1).unwrap();
        let text = std::str::from_utf8(pem.as_ref()).unwrap();
        let line = text.lines().nth(1).unwrap().to_owned();
        let shown = format!("{key:?}");
        assert!(
            !shown.contains(&line) && shown.contains("redacted"),
            "{shown}"
        );
    }
}
