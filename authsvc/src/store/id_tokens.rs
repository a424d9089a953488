//! ID tokens that were exchanged and must not be exchanged again.

use warrant_migrations::{Result, Tx, on};

/// Use the ID token with this hash, which ends at `expires_us`; false when it
/// was used before. Of two uses at once, one finds true.
///
/// Errors: the database did not answer.
pub(crate) async fn spend(tx: &mut Tx, hash: &str, expires_us: i64) -> Result<bool> {
    const SQL: &str =
        "insert into id_tokens (hash, expires_us) values ($1, $2) on conflict (hash) do nothing";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(hash)
        .bind(expires_us)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Forget at most `limit` ID tokens that ended before `now_us`; returns how
/// many.
///
/// Errors: the database did not answer.
pub(crate) async fn prune(tx: &mut Tx, now_us: i64, limit: i64) -> Result<u64> {
    const SQL: &str = "delete from id_tokens where hash in
         (select hash from id_tokens where expires_us < $1 order by expires_us limit $2)";
    Ok(on!(tx, |db| sqlx::query(SQL)
        .bind(now_us)
        .bind(limit)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?)
}
