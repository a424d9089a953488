//! Judging a warrant.
//!
//! What is compared comes before what is parsed: the header must be, byte for
//! byte, the one of a key that is trusted; then the signature must be right;
//! only then are the claims read, in their one form.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use warrant_wire::warrant::{MAX_LIFETIME_S, MAX_WARRANT_BYTES};
use warrant_wire::{Claims, Limits, Refusal};

use crate::identity::is_user;
use crate::keys::Keys;
use crate::policy::Policy;

/// How far the clocks of the auth service and of this machine may be apart,
/// in seconds.
pub const LEEWAY_S: u64 = 5;

/// The SHA-256 of these bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest(&SHA256, bytes);
    // It is never of another length.
    digest.as_ref().try_into().unwrap_or_default()
}

/// The claims of a warrant that a trusted key signed for this shim and for
/// the launch with this hash, whenever that was.
///
/// Errors: the first thing that is wrong with it.
pub fn authentic(
    warrant: &[u8],
    launch_sha256: &[u8; 32],
    keys: &Keys,
    policy: &Policy,
) -> Result<Claims, Refusal> {
    const MALFORMED: Refusal = Refusal::WarrantMalformed;
    if warrant.len() > MAX_WARRANT_BYTES {
        return Err(MALFORMED);
    }
    let text = std::str::from_utf8(warrant).map_err(|_| MALFORMED)?;
    let (signed, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
    let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
    let key = keys.signer(header).ok_or(Refusal::KeyUnknown)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| Refusal::Signature)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| MALFORMED)?;
    let claims = Claims::decode(&payload).map_err(|_| MALFORMED)?;
    if claims.iss != policy.issuer {
        return Err(Refusal::Issuer);
    }
    if claims.aud != policy.audience {
        return Err(Refusal::Audience);
    }
    if claims.job_sha256 != *launch_sha256 {
        return Err(Refusal::Hash);
    }
    let lifetime = claims.exp.checked_sub(claims.iat);
    if lifetime.is_none_or(|lifetime| lifetime > MAX_LIFETIME_S) || claims.nbf > claims.exp {
        return Err(Refusal::Lifetime);
    }
    Ok(claims)
}

/// Whether a warrant counts at this time.
///
/// Errors: not yet, or not any more.
pub fn in_time(claims: &Claims, now_s: u64) -> Result<(), Refusal> {
    if claims.nbf.max(claims.iat) > now_s.saturating_add(LEEWAY_S) {
        Err(Refusal::NotYet)
    } else if now_s >= claims.exp {
        Err(Refusal::Expired)
    } else {
        Ok(())
    }
}

/// Whether the policy allows what a warrant is for.
///
/// Errors: what it does not allow.
pub fn within_policy(claims: &Claims, launch: &[u8], policy: &Policy) -> Result<(), Refusal> {
    if !is_user(claims.uid, policy) {
        return Err(Refusal::UidRange);
    }
    let limits = Limits::read(launch).map_err(|_| Refusal::LaunchMalformed)?;
    policy.bound(limits).map(|_| ())
}
