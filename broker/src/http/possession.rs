//! Tokens that are bound to a key: whoever shows one proves to hold the key,
//! with a proof for this very request. Source: RFC 9449 §7.

use axum::http::{HeaderMap, Method};
use warrant_dpop::{Base, HEADER, Refused, Seen, Sight, Wanted};

/// Judges proofs.
#[derive(Debug)]
pub(super) struct Possession {
    /// Where clients reach the broker: what they make proofs for.
    base: Base,
    seen: Seen,
}

/// The request that a proof must be made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Its method.
    pub(super) method: &'a Method,
    /// Its path.
    pub(super) path: &'a str,
    /// Its headers.
    pub(super) headers: &'a HeaderMap,
}

/// What was bound to a key, and by whom it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<'a> {
    /// The token.
    pub(super) token: &'a str,
    /// The thumbprint of the key.
    pub(super) jkt: &'a str,
    /// Whose token it is.
    pub(super) user: &'a str,
}

/// Why a proof does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unproven {
    /// It does not hold, or was used before.
    Refused(Refused),
    /// There is no room to remember more of them.
    Full,
}

impl Possession {
    /// Of requests to what is reached at `base`.
    pub(super) fn new(base: Base) -> Self {
        Self {
            base,
            seen: Seen::default(),
        }
    }

    /// See that `asked` comes with a proof of the key to which `bound` is
    /// bound, made for this request and never used before.
    ///
    /// Errors: [`Unproven`].
    pub(super) fn judge(
        &self,
        asked: &Asked<'_>,
        bound: &Bound<'_>,
        now_s: u64,
    ) -> Result<(), Unproven> {
        let refused = Unproven::Refused;
        let at = self.base.at(asked.path).ok_or(refused(Refused::Address))?;
        let wanted = Wanted {
            method: asked.method.as_str(),
            at: &at,
            token: Some(bound.token),
            now_s,
        };
        let values = asked.headers.get_all(HEADER).iter();
        let proof = warrant_dpop::check(values.map(|value| value.as_bytes()), &wanted);
        let proof = proof.map_err(refused)?.ok_or(refused(Refused::Missing))?;
        if proof.jkt() != bound.jkt {
            return Err(refused(Refused::OtherKey));
        }
        match self.seen.see(bound.user, &proof, now_s) {
            Sight::First => Ok(()),
            Sight::Again => Err(refused(Refused::Again)),
            Sight::Full => Err(Unproven::Full),
        }
    }
}
