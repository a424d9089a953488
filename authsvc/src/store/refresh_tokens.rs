//! Refresh tokens, by the hash of each.

use sqlx::FromRow;
use warrant_migrations::{Conn, Result, Tx, on};

/// A refresh token.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct RefreshToken {
    /// Its SHA-256.
    pub(crate) hash: String,
    /// Its session.
    pub(crate) session_id: String,
    /// When it was used, or became void.
    pub(crate) used_us: Option<i64>,
    /// The hash of what its user was given instead; none where it became void
    /// without being used.
    pub(crate) successor: Option<String>,
    /// When it expires.
    pub(crate) expires_us: i64,
    /// When it was issued.
    pub(crate) issued_us: i64,
}

/// Add an unused token.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(
    tx: &mut Tx,
    hash: &str,
    session_id: &str,
    now_us: i64,
    expires_us: i64,
) -> Result<()> {
    const SQL: &str = "insert into refresh_tokens (hash, session_id, issued_us, expires_us)
                       values ($1, $2, $3, $4)";
    on!(tx, |db| sqlx::query(SQL)
        .bind(hash)
        .bind(session_id)
        .bind(now_us)
        .bind(expires_us)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FIND: &str = "select * from refresh_tokens where hash = $1";

/// The token with this hash.
///
/// Errors: the database did not answer.
pub(crate) async fn find(conn: &mut Conn, hash: &str) -> Result<Option<RefreshToken>> {
    Ok(on!(conn, |db| sqlx::query_as(FIND)
        .bind(hash)
        .fetch_optional(db)
        .await)?)
}

/// As [`find`], within a transaction that holds the session.
///
/// Errors: the database did not answer.
pub(crate) async fn find_held(tx: &mut Tx, hash: &str) -> Result<Option<RefreshToken>> {
    Ok(on!(tx, |db| sqlx::query_as(FIND)
        .bind(hash)
        .fetch_optional(db)
        .await)?)
}

/// Make a token void: used at `now_us`, unless it was before, for `successor`.
///
/// Errors: the database did not answer.
pub(crate) async fn spend(
    tx: &mut Tx,
    hash: &str,
    successor: Option<&str>,
    now_us: i64,
) -> Result<()> {
    const SQL: &str = "update refresh_tokens set used_us = coalesce(used_us, $2), successor = $3
                       where hash = $1";
    on!(tx, |db| sqlx::query(SQL)
        .bind(hash)
        .bind(now_us)
        .bind(successor)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Whether the session has, or had, refresh tokens.
///
/// Errors: the database did not answer.
pub(crate) async fn any_of(tx: &mut Tx, session_id: &str) -> Result<bool> {
    const SQL: &str = "select hash from refresh_tokens where session_id = $1 limit 1";
    let found: Option<(String,)> = on!(tx, |db| sqlx::query_as(SQL)
        .bind(session_id)
        .fetch_optional(db)
        .await)?;
    Ok(found.is_some())
}
