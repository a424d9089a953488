//! What is good for one use, and was used.

use warrant_migrations::{Result, Tx, on};

/// What is good for one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OneUse<'a> {
    /// A login payload, by its `jti`.
    Payload(&'a str),
    /// An ID token that is exchanged, by its hash.
    IdToken(&'a str),
}

/// Use what ends at `expires_us`; false when it was used before. Of two uses at
/// once, one finds true.
///
/// Errors: the database did not answer.
pub(crate) async fn spend(tx: &mut Tx, it: OneUse<'_>, expires_us: i64) -> Result<bool> {
    let (sql, id) = match it {
        OneUse::Payload(jti) => (
            "insert into handshake_jtis (jti, expires_us) values ($1, $2)
             on conflict (jti) do nothing",
            jti,
        ),
        OneUse::IdToken(hash) => (
            "insert into id_tokens (hash, expires_us) values ($1, $2)
             on conflict (hash) do nothing",
            hash,
        ),
    };
    let rows = on!(tx, |db| sqlx::query(sql)
        .bind(id)
        .bind(expires_us)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
