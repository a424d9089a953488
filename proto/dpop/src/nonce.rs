//! A server's nonces, which nobody has to remember: each is a mark of the
//! time under a secret. Source: RFC 9449 §8.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// For how long a nonce is given out, in seconds; it counts as long again.
const TURN_S: u64 = 120;
/// The bytes of a nonce.
const LENGTH: usize = 18;

/// Makes nonces, and knows its own.
pub struct Nonces([u8; 32]);

impl std::fmt::Debug for Nonces {
    /// Leaves the secret out, so that no log line can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces(…)")
    }
}

impl Nonces {
    /// Of this secret; processes with the same one know each other's nonces.
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The nonce of `now_s`, in seconds since the Unix epoch.
    pub fn current(&self, now_s: u64) -> String {
        let mac = self
            .mac(now_s / TURN_S)
            .map(|mac| mac.finalize().into_bytes());
        let short = mac.as_deref().and_then(|bytes| bytes.get(..LENGTH));
        URL_SAFE_NO_PAD.encode(short.unwrap_or_default())
    }

    /// Whether `nonce` was given out lately.
    pub fn has(&self, nonce: &str, now_s: u64) -> bool {
        let turn = now_s / TURN_S;
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else {
            return false;
        };
        let of = |turn: u64| {
            let mac = self.mac(turn);
            mac.is_some_and(|mac| mac.verify_truncated_left(&bytes).is_ok())
        };
        bytes.len() == LENGTH && (of(turn) || turn.checked_sub(1).is_some_and(of))
    }

    fn mac(&self, turn: u64) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(b"DPoP nonce ");
        mac.update(&turn.to_be_bytes());
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_counts_for_two_turns_and_under_its_secret() {
        let nonces = Nonces::new([1; 32]);
        let now_s = 1_800_000_000;
        let nonce = nonces.current(now_s);
        assert_eq!(nonce.len(), 24);
        assert!(nonces.has(&nonce, now_s));
        assert!(nonces.has(&nonce, now_s + TURN_S));
        assert!(!nonces.has(&nonce, now_s + 2 * TURN_S));
        assert!(!nonces.has(&nonce, now_s - TURN_S));
        assert!(!Nonces::new([2; 32]).has(&nonce, now_s));
        assert_ne!(nonces.current(now_s + TURN_S), nonce);
        for other in ["", "x", &nonce[..20], &format!("{nonce}AAAA")] {
            assert!(!nonces.has(other, now_s), "{other}");
        }
    }
}
