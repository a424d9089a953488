//! Sessions of browsers: what each browser shows, and what it is.

use sqlx::FromRow;
use warrant_migrations::{Conn, Result, Spelt, Tx, on};

use super::sessions;
use crate::sessions::Session;

/// What belongs to the session of a browser besides.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct WebSession {
    /// The session.
    pub(crate) session_id: String,
    /// The browser, in a few words.
    pub(crate) agent: String,
    /// When the session ends however often it is used, in microseconds since
    /// the Unix epoch.
    pub(crate) ends_us: i64,
    /// When a provider had the user prove who they are, where one did.
    pub(crate) proven_us: Option<i64>,
}

/// Add what a browser with the session shows: the hash of it.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(tx: &mut Tx, hash: &str, web: &WebSession) -> Result<()> {
    const SQL: &str = "insert into web_sessions (hash, session_id, agent, ends_us, proven_us)
         values ($1, $2, $3, $4, $5)";
    on!(tx, |db| sqlx::query(SQL)
        .bind(hash)
        .bind(&web.session_id)
        .bind(&web.agent)
        .bind(web.ends_us)
        .bind(web.proven_us)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// The session of the browser that shows what has this hash.
///
/// Errors: the database did not answer.
pub(crate) async fn find(conn: &mut Conn, hash: &str) -> Result<Option<WebSession>> {
    const SQL: &str =
        "select session_id, agent, ends_us, proven_us from web_sessions where hash = $1";
    Ok(on!(conn, |db| sqlx::query_as(SQL)
        .bind(hash)
        .fetch_optional(db)
        .await)?)
}

/// The browsers of `subject`.
///
/// Errors: the database did not answer.
pub(crate) async fn list(conn: &mut Conn, subject: &str) -> Result<Vec<WebSession>> {
    const SQL: &str = "select session_id, agent, ends_us, proven_us from web_sessions
         where session_id in (select id from sessions where subject = $1)";
    Ok(on!(conn, |db| sqlx::query_as(SQL)
        .bind(subject)
        .fetch_all(db)
        .await)?)
}

/// The session is used at `session.last_used_us`, with the role that its user
/// has by now, and ends by itself at `session.expires_us`; false where it has
/// ended.
///
/// Errors: the database did not answer.
pub(crate) async fn touch(tx: &mut Tx, session: &Session) -> Result<bool> {
    const SQL: &str = "update sessions
         set last_used_us = $2, expires_us = $3, role = $4, by_group = $5
         where id = $1 and ended_us is null and expires_us > $2";
    let role = sessions::role_name(session.role);
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(&session.id)
        .bind(session.last_used_us)
        .bind(session.expires_us)
        .bind(role)
        .bind(session.by_group)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// End those browsers of `subject` that were used least lately, until `most`
/// are left at `now_us`; returns how many ended.
///
/// Errors: the database did not answer.
pub(crate) async fn end_oldest(
    tx: &mut Tx,
    subject: &str,
    most: i64,
    now_us: i64,
) -> Result<usize> {
    const SQL: Spelt = Spelt {
        sqlite: "update sessions set ended_us = $2, ended_reason = 'too-many' where id in
             (select id from sessions
              where subject = $1 and kind = 'web' and ended_us is null and expires_us > $2
              order by last_used_us desc, id limit -1 offset $3) returning id",
        postgres: "update sessions set ended_us = $2, ended_reason = 'too-many' where id in
             (select id from sessions
              where subject = $1 and kind = 'web' and ended_us is null and expires_us > $2
              order by last_used_us desc, id offset $3) returning id",
    };
    let sql = SQL.on(tx);
    let ended: Vec<(String,)> = on!(tx, |db| sqlx::query_as(sql)
        .bind(subject)
        .bind(now_us)
        .bind(most)
        .fetch_all(db)
        .await)?;
    sessions::ended_with_theirs(tx, ended, now_us).await
}

/// End the session `id` of `subject` at `now_us`, or where `others` is set all
/// but that one; returns how many ended.
///
/// Errors: the database did not answer.
pub(crate) async fn end_own(
    tx: &mut Tx,
    subject: &str,
    id: &str,
    others: bool,
    now_us: i64,
) -> Result<usize> {
    const ONE: &str = "update sessions set ended_us = $3, ended_reason = 'ended'
         where subject = $1 and id = $2 and ended_us is null and expires_us > $3 returning id";
    const OTHERS: &str = "update sessions set ended_us = $3, ended_reason = 'ended'
         where subject = $1 and id <> $2 and ended_us is null and expires_us > $3 returning id";
    let sql = if others { OTHERS } else { ONE };
    let ended: Vec<(String,)> = on!(tx, |db| sqlx::query_as(sql)
        .bind(subject)
        .bind(id)
        .bind(now_us)
        .fetch_all(db)
        .await)?;
    sessions::ended_with_theirs(tx, ended, now_us).await
}
