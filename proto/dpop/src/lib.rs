//! Proofs of possession (DPoP, RFC 9449): small signed notes, one for each
//! request, by which a client shows that it holds the key to which its access
//! token is bound. Both services read them here, and the command line makes
//! them here. Nothing in this crate looks at a clock or at a network.

mod at;
mod jwk;
mod key;
mod nonce;
mod proof;
mod refused;
mod seen;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

pub use at::{At, Base};
pub use key::{Draft, Key};
pub use nonce::Nonces;
pub use proof::{Proof, Wanted, check};
pub use refused::Refused;
pub use seen::{Seen, Sight};

/// The header that holds a proof. Source: RFC 9449 §4.1.
pub const HEADER: &str = "dpop";

/// The header that holds a server's nonce. Source: RFC 9449 §8.
pub const NONCE_HEADER: &str = "dpop-nonce";

/// The scheme of `Authorization`, and the `token_type`, of a token that is
/// bound to a key. Source: RFC 9449 §5 and §7.1.
pub const SCHEME: &str = "DPoP";

/// The algorithms that proofs may be signed with.
pub const ALGORITHMS: [&str; 2] = ["ES256", "EdDSA"];

/// The longest proof, in bytes.
pub const LONGEST: usize = 4096;

/// The longest `jti` of a proof, in bytes.
pub const LONGEST_ID: usize = 64;

/// How far the time of a proof may be from now, to either side, in seconds.
pub const WINDOW_S: u64 = 60;

/// The `ath` of an access token. Source: RFC 9449 §4.2.
pub fn token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}
