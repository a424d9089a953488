//! Browsers that were sent to a provider and are not back yet.

use sqlx::FromRow;
use warrant_migrations::{Conn, Result, Tx, on};

/// A browser that was sent to a provider.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct SignIn {
    /// The SHA-256 of its state.
    pub(crate) hash: String,
    /// The SHA-256 of its cookie.
    pub(crate) browser: String,
    /// The provider's name.
    pub(crate) provider: String,
    /// The path to go on to.
    pub(crate) next: String,
    /// Where it came from.
    pub(crate) source: String,
    /// When it is waited for no longer.
    pub(crate) expires_us: i64,
}

/// Add one, unless `most` are waited for, or `most_of_source` from where it
/// comes from; returns whether it was added.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(
    tx: &mut Tx,
    sign_in: &SignIn,
    most: i64,
    most_of_source: i64,
) -> Result<bool> {
    const SQL: &str = "insert into sign_ins (hash, browser, provider, next, source, expires_us)
         select $1, $2, $3, $4, $5, $6
         where (select count(*) from sign_ins) < $7
             and (select count(*) from sign_ins where source = $5) < $8
         on conflict do nothing";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(&sign_in.hash)
        .bind(&sign_in.browser)
        .bind(&sign_in.provider)
        .bind(&sign_in.next)
        .bind(&sign_in.source)
        .bind(sign_in.expires_us)
        .bind(most)
        .bind(most_of_source)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Whether one with this state is waited for.
///
/// Errors: the database did not answer.
pub(crate) async fn is_there(conn: &mut Conn, hash: &str) -> Result<bool> {
    const SQL: &str = "select exists (select 1 from sign_ins where hash = $1)";
    Ok(on!(conn, |db| sqlx::query_scalar(SQL)
        .bind(hash)
        .fetch_one(db)
        .await)?)
}

/// Take out the one with this state: of two who come with it, one finds it.
///
/// Errors: the database did not answer.
pub(crate) async fn take(tx: &mut Tx, hash: &str) -> Result<Option<SignIn>> {
    const SQL: &str = "delete from sign_ins where hash = $1 returning *";
    Ok(on!(tx, |db| sqlx::query_as(SQL)
        .bind(hash)
        .fetch_optional(db)
        .await)?)
}
