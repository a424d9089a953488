//! Random text that proves something by being known: refresh tokens, codes,
//! the secrets of clients. Only the hash of each is kept; with 256 random
//! bits, a plain one is enough.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::secret::Secret;

/// The beginning of a refresh token.
pub(crate) const REFRESH: &str = "wrr_";
/// The beginning of an authorization code.
pub(crate) const CODE: &str = "wrc_";
/// The beginning of what a device asks with.
pub(crate) const DEVICE: &str = "wrd_";
/// The beginning of a client's secret.
pub(crate) const CLIENT: &str = "wrs_";
/// The beginning of what a browser shows.
pub(crate) const WEB: &str = "wrw_";

/// Characters of 256 bits in base64url.
const LENGTH: usize = 43;

/// `N` random bytes.
///
/// Errors: the system gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|source| Error::unavailable("no random numbers", source))?;
    Ok(bytes)
}

/// A new id: 128 random bits in base64url.
///
/// Errors: as [`random`].
pub(crate) fn id() -> Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random::<16>()?))
}

/// New text that begins with `prefix`, and its hash.
///
/// Errors: as [`random`].
pub(crate) fn make(prefix: &str) -> Result<(Secret, String)> {
    let text = Secret::new(format!(
        "{prefix}{}",
        URL_SAFE_NO_PAD.encode(random::<32>()?)
    ));
    let hash = hash(text.expose());
    Ok((text, hash))
}

/// The hash of `text`, where it can be one that begins with `prefix`.
pub(crate) fn read(prefix: &str, text: &Secret) -> Option<String> {
    let text = text.expose();
    let random = text.strip_prefix(prefix)?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (random.len() == LENGTH && random.bytes().all(good)).then(|| hash(text))
}

/// The SHA-256 of `text` in base64url.
pub(crate) fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

/// Whether two hashes are the same; takes as long whichever byte differs.
pub(crate) fn same(one: &str, other: &str) -> bool {
    let differing = one.bytes().zip(other.bytes());
    let differing = differing.fold(0, |differing, (a, b)| differing | (a ^ b));
    one.len() == other.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_read_and_nothing_else() {
        let (text, hashed) = make(REFRESH).unwrap();
        assert_eq!(read(REFRESH, &text), Some(hashed.clone()));
        assert_eq!(read(CODE, &text), None);
        let text = text.expose();
        for other in [&text[1..], &format!("{text}A"), "", REFRESH, &text[..46]] {
            assert_eq!(read(REFRESH, &Secret::new(other)), None, "{other}");
        }
        let padded = format!("{}=", &text[..46]);
        assert_eq!(read(REFRESH, &Secret::new(padded)), None);
        assert!(!hashed.contains(&text[4..]));
        assert_ne!(make(REFRESH).unwrap().1, hashed);
    }

    #[test]
    fn hashes_are_the_same_or_not() {
        assert!(same("abc", "abc") && same("", ""));
        for (one, other) in [("abc", "abd"), ("abc", "ab"), ("", "a"), ("xbc", "abc")] {
            assert!(!same(one, other));
        }
    }
}
