//! Forgetting what is over.

use warrant_migrations::{Result, Tx, on};

/// What is over by itself some day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Login payloads that were used.
    Payloads,
    /// Proofs of possession that were used.
    Proofs,
    /// ID tokens that were exchanged.
    IdTokens,
    /// Visits to a provider that nobody came back from.
    SignIns,
    /// Sessions, with what hangs on them.
    Sessions,
    /// Authorization codes.
    Codes,
    /// Devices that waited for their user.
    Devices,
    /// What the feed of revocations tells.
    Revocations,
}

impl Kept {
    fn delete(self) -> &'static str {
        match self {
            Self::Payloads => {
                "delete from handshake_jtis where jti in
                 (select jti from handshake_jtis where expires_us < $1 order by expires_us limit $2)"
            }
            Self::Proofs => {
                "delete from dpop_proofs where seq in
                 (select seq from dpop_proofs where expires_us < $1 order by expires_us limit $2)"
            }
            Self::IdTokens => {
                "delete from id_tokens where hash in
                 (select hash from id_tokens where expires_us < $1 order by expires_us limit $2)"
            }
            Self::SignIns => {
                "delete from sign_ins where hash in
                 (select hash from sign_ins where expires_us < $1 order by expires_us limit $2)"
            }
            Self::Sessions => {
                "delete from sessions where id in
                 (select id from sessions where expires_us < $1 order by expires_us limit $2)"
            }
            Self::Codes => {
                "delete from authorization_codes where hash in
                 (select hash from authorization_codes where expires_us < $1
                  order by expires_us limit $2)"
            }
            Self::Devices => {
                "delete from device_codes where hash in
                 (select hash from device_codes where expires_us < $1 order by expires_us limit $2)"
            }
            Self::Revocations => {
                "delete from revocations where seq in
                 (select seq from revocations where until_us < $1 order by until_us limit $2)"
            }
        }
    }
}

/// Forget at most `limit` of those that were over before `time_us`; returns how
/// many.
///
/// Errors: the database did not answer.
pub(crate) async fn forget(tx: &mut Tx, kept: Kept, time_us: i64, limit: i64) -> Result<u64> {
    Ok(on!(tx, |db| sqlx::query(kept.delete())
        .bind(time_us)
        .bind(limit)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?)
}
