//! Proofs of possession that were used and must not be used again, and the
//! secret of the nonces in them.

use warrant_migrations::{Result, Tx, on};

/// The most proofs that are remembered.
pub(crate) const MOST: i64 = 1_000_000;

/// What came of using a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It is used for the first time.
    First,
    /// It was used before.
    Again,
    /// There is no room to remember it.
    Full,
}

/// Use the proof `mark`, which ends at `expires_us`, where fewer than `most`
/// are remembered. Of two uses at once, one is the first.
///
/// Errors: the database did not answer.
pub(crate) async fn spend(tx: &mut Tx, mark: &str, expires_us: i64, most: i64) -> Result<Spent> {
    const SPEND: &str = "insert into dpop_proofs (mark, expires_us)
         select $1, $2 where coalesce((select max(seq) from dpop_proofs)
             - (select min(seq) from dpop_proofs), 0) < $3
         on conflict (mark) do nothing";
    const KNOWN: &str = "select mark from dpop_proofs where mark = $1";
    let rows = on!(tx, |db| sqlx::query(SPEND)
        .bind(mark)
        .bind(expires_us)
        .bind(most)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 1 {
        return Ok(Spent::First);
    }
    let known: Option<(String,)> = on!(tx, |db| sqlx::query_as(KNOWN)
        .bind(mark)
        .fetch_optional(db)
        .await)?;
    Ok(match known {
        Some(_) => Spent::Again,
        None => Spent::Full,
    })
}

/// The secret of the nonces: `fresh`, unless there is one already.
///
/// Errors: the database did not answer.
pub(crate) async fn keep_secret(tx: &mut Tx, fresh: &str) -> Result<String> {
    const KEEP: &str =
        "insert into dpop_secret (id, secret) values (1, $1) on conflict (id) do nothing";
    const FIND: &str = "select secret from dpop_secret where id = 1";
    on!(tx, |db| sqlx::query(KEEP)
        .bind(fresh)
        .execute(db)
        .await
        .map(|_| ()))?;
    let (secret,): (String,) = on!(tx, |db| sqlx::query_as(FIND).fetch_one(db).await)?;
    Ok(secret)
}
