//! What a key looks like: `wrt_`, its id, `_`, and 256 random bits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use warrant_api::keys::KEY_PREFIX;
use warrant_wire::warrant::hex;

use crate::error::Result;
use crate::opaque;
use crate::secret::Secret;

/// The characters of an id.
const ID_BYTES: usize = 12;
/// The characters of 256 bits in base64url.
const SECRET_BYTES: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new key: its id and its text.
///
/// Errors: there are no random numbers.
pub(super) fn generate() -> Result<(String, Secret)> {
    let mut id = String::with_capacity(ID_BYTES);
    while id.len() < ID_BYTES {
        let bytes = opaque::random::<ID_BYTES>()?;
        // Those beyond the last whole alphabet would favour its beginning.
        let letters = bytes
            .iter()
            .filter(|byte| **byte < 248)
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        let room = ID_BYTES - id.len();
        id.extend(letters.take(room).map(|letter| char::from(*letter)));
    }
    let random = opaque::random::<32>()?;
    let text = format!("{KEY_PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(random));
    Ok((id, Secret::new(text)))
}

/// The id in a key's text; `None` where it is no key.
pub(super) fn id_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(KEY_PREFIX)?;
    let (id, secret) = rest.split_at_checked(ID_BYTES)?;
    let secret = secret.strip_prefix('_')?;
    let random = secret
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (is_id(id) && random && secret.len() == SECRET_BYTES).then_some(id)
}

/// Whether `text` can be a key's id.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_BYTES && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What is kept of a key.
pub(super) fn hash(key: &str) -> String {
    hex(&Sha256::digest(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_by_its_looks_and_no_two_are_alike() {
        let (id, key) = generate().unwrap();
        let (other, _) = generate().unwrap();
        assert_ne!(id, other);
        assert_eq!(key.expose().len(), 4 + 12 + 1 + 43);
        assert_eq!(id_of(key.expose()), Some(id.as_str()));
        assert!(opaque::same(&hash(key.expose()), &hash(key.expose())));
        assert!(!opaque::same(&hash(key.expose()), &hash(&id)));
    }

    #[test]
    fn what_does_not_look_like_a_key_is_none() {
        let secret = "s".repeat(43);
        for text in [
            "",
            "wrt_",
            &format!("wrt_abcdefghijkl{secret}"),
            &format!("wrt_abcdefghijk_{secret}"),
            &format!("wrt_abcdefghijk-_{secret}"),
            &format!("WRT_abcdefghijkl_{secret}"),
            &format!("wrt_abcdefghijkl_{secret}s"),
            &format!("wrt_abcdefghijkl_{}'", "s".repeat(42)),
            &format!("wrt_abcdefghij\u{e9}_{secret}"),
        ] {
            assert_eq!(id_of(text), None, "{text}");
        }
    }
}
