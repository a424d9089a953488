//! Authorization codes, by the hash of each.

use sqlx::FromRow;
use warrant_migrations::{Conn, Result, Spelt, Tx, on};

/// An authorization code.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct Code {
    /// Its SHA-256.
    pub(crate) hash: String,
    /// Whom it was made for.
    pub(crate) client_id: String,
    /// Where it was sent.
    pub(crate) redirect_uri: String,
    /// The SHA-256 of its verifier, in base64url. Source: RFC 7636 §4.2.
    pub(crate) challenge: String,
    /// The user who gave it.
    pub(crate) subject: String,
    /// What its tokens may be used for.
    pub(crate) scopes: String,
    /// When it expires.
    pub(crate) expires_us: i64,
    /// When it was used.
    pub(crate) used_us: Option<i64>,
    /// The session that was made of it.
    pub(crate) session_id: Option<String>,
    /// The session that gave it, where what is made of it ends with that.
    pub(crate) giver_id: Option<String>,
}

/// Add a code.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(tx: &mut Tx, code: &Code) -> Result<()> {
    const SQL: &str = "insert into authorization_codes (hash, client_id, redirect_uri, challenge,
             subject, scopes, expires_us, giver_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8)";
    on!(tx, |db| sqlx::query(SQL)
        .bind(&code.hash)
        .bind(&code.client_id)
        .bind(&code.redirect_uri)
        .bind(&code.challenge)
        .bind(&code.subject)
        .bind(&code.scopes)
        .bind(code.expires_us)
        .bind(code.giver_id.as_deref())
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// The user who gave the code with this hash, and the session with which it ends.
///
/// Errors: the database did not answer.
pub(crate) async fn find_giver(
    conn: &mut Conn,
    hash: &str,
) -> Result<Option<(String, Option<String>)>> {
    const SQL: &str = "select subject, giver_id from authorization_codes where hash = $1";
    Ok(on!(conn, |db| sqlx::query_as(SQL)
        .bind(hash)
        .fetch_optional(db)
        .await)?)
}

/// The code with this hash; nobody else uses it before the transaction is over.
///
/// Errors: the database did not answer.
pub(crate) async fn hold(tx: &mut Tx, hash: &str) -> Result<Option<Code>> {
    const SQL: Spelt = Spelt {
        sqlite: "select * from authorization_codes where hash = $1",
        postgres: "select * from authorization_codes where hash = $1 for update",
    };
    let sql = SQL.on(tx);
    Ok(on!(tx, |db| sqlx::query_as(sql)
        .bind(hash)
        .fetch_optional(db)
        .await)?)
}

/// Use the code, for a session or in vain.
///
/// Errors: the database did not answer.
pub(crate) async fn spend(
    tx: &mut Tx,
    hash: &str,
    session_id: Option<&str>,
    now_us: i64,
) -> Result<()> {
    const SQL: &str =
        "update authorization_codes set used_us = $2, session_id = $3 where hash = $1";
    on!(tx, |db| sqlx::query(SQL)
        .bind(hash)
        .bind(now_us)
        .bind(session_id)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Forget the unused codes that the user gave.
///
/// Errors: the database did not answer.
pub(crate) async fn delete_of(tx: &mut Tx, subject: &str) -> Result<()> {
    const SQL: &str = "delete from authorization_codes where subject = $1 and used_us is null";
    on!(tx, |db| sqlx::query(SQL)
        .bind(subject)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Forget all codes that nobody has used, of everybody.
///
/// Errors: the database did not answer.
pub(crate) async fn delete_all(tx: &mut Tx) -> Result<()> {
    const SQL: &str = "delete from authorization_codes where used_us is null";
    on!(tx, |db| sqlx::query(SQL).execute(db).await.map(|_| ()))?;
    Ok(())
}
