//! API keys.

use sqlx::FromRow;
use warrant_api::keys::KEY_SESSION;
use warrant_migrations::{Conn, Result, Spelt, Tx, on};

use super::revocations;

/// One key.
#[derive(Clone, PartialEq, Eq, FromRow)]
pub(crate) struct ApiKey {
    /// Its id.
    pub(crate) id: String,
    /// The SHA-256 of the key, in hexadecimal.
    pub(crate) hash: String,
    /// The user's name.
    pub(crate) subject: String,
    /// The account's user id, where users must have one.
    pub(crate) uid: Option<i64>,
    /// What the user calls it.
    pub(crate) label: String,
    /// What it may be used for, as their names.
    pub(crate) scopes: String,
    /// When it was made, in microseconds since the Unix epoch.
    pub(crate) created_us: i64,
    /// When it ends.
    pub(crate) expires_us: i64,
    /// When it was last used, to the minute.
    pub(crate) last_used_us: Option<i64>,
    /// From where.
    pub(crate) last_used_from: Option<String>,
    /// When it was revoked.
    pub(crate) revoked_us: Option<i64>,
    /// The session with which it ends, where it does.
    pub(crate) session_id: Option<String>,
    /// What its user proved who they are with when it was made.
    pub(crate) proof: String,
}

impl std::fmt::Debug for ApiKey {
    /// Leaves the hash out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// The key called `id`, if there is one.
///
/// Errors: the database did not answer.
pub(crate) async fn find(conn: &mut Conn, id: &str) -> Result<Option<ApiKey>> {
    const SQL: &str = "select * from api_keys where id = $1";
    Ok(on!(conn, |db| sqlx::query_as(SQL)
        .bind(id)
        .fetch_optional(db)
        .await)?)
}

/// The keys of `subject`, or of all, that count at `now_us`; the newest first.
///
/// Errors: the database did not answer.
pub(crate) async fn list(
    conn: &mut Conn,
    subject: Option<&str>,
    now_us: i64,
) -> Result<Vec<ApiKey>> {
    const OF_ONE: &str = "select * from api_keys
        where subject = $1 and revoked_us is null and expires_us > $2
            and (session_id is null or exists (select 1 from sessions s
                where s.id = api_keys.session_id and s.ended_us is null and s.expires_us > $2))
        order by created_us desc, id";
    const OF_ALL: &str = "select * from api_keys
        where revoked_us is null and expires_us > $1
            and (session_id is null or exists (select 1 from sessions s
                where s.id = api_keys.session_id and s.ended_us is null and s.expires_us > $1))
        order by subject, created_us desc, id";
    Ok(match subject {
        Some(subject) => on!(conn, |db| sqlx::query_as(OF_ONE)
            .bind(subject)
            .bind(now_us)
            .fetch_all(db)
            .await),
        None => on!(conn, |db| sqlx::query_as(OF_ALL)
            .bind(now_us)
            .fetch_all(db)
            .await),
    }?)
}

/// Add a key, unless its user has `most` that count already; returns whether
/// it was added.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(tx: &mut Tx, key: &ApiKey, most: i64) -> Result<bool> {
    const SQL: &str = "insert into api_keys
        (id, hash, subject, uid, label, scopes, created_us, expires_us, session_id, proof)
        select $1, $2, $3, $4, $5, $6, $7, $8, $10, $11
        where (select count(*) from api_keys
               where subject = $3 and revoked_us is null and expires_us > $7
                   and (session_id is null or exists (select 1 from sessions s
                       where s.id = api_keys.session_id and s.ended_us is null
                           and s.expires_us > $7))) < $9";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(&key.id)
        .bind(&key.hash)
        .bind(&key.subject)
        .bind(key.uid)
        .bind(&key.label)
        .bind(&key.scopes)
        .bind(key.created_us)
        .bind(key.expires_us)
        .bind(most)
        .bind(key.session_id.as_deref())
        .bind(&key.proof)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Remember that a key was used.
///
/// Errors: the database did not answer.
pub(crate) async fn note_use(tx: &mut Tx, id: &str, now_us: i64, source: &str) -> Result<()> {
    const SQL: &str = "update api_keys set last_used_us = $2, last_used_from = $3 where id = $1";
    on!(tx, |db| sqlx::query(SQL)
        .bind(id)
        .bind(now_us)
        .bind(source)
        .execute(db)
        .await
        .map(drop))?;
    Ok(())
}

/// Revoke the key `id`, if it is `subject`'s where one is given; returns
/// whether it counted until now.
///
/// Errors: the database did not answer.
pub(crate) async fn revoke(
    tx: &mut Tx,
    id: &str,
    subject: Option<&str>,
    now_us: i64,
) -> Result<bool> {
    const SQL: &str = "update api_keys set revoked_us = $3
        where id = $1 and coalesce($2, subject) = subject
        and revoked_us is null and expires_us > $3 returning id";
    let revoked: Vec<String> = on!(tx, |db| sqlx::query_scalar(SQL)
        .bind(id)
        .bind(subject)
        .bind(now_us)
        .fetch_all(db)
        .await)?;
    end_tokens(tx, &revoked, now_us).await?;
    Ok(!revoked.is_empty())
}

/// Revoke every key of `subject`; returns how many counted.
///
/// Errors: the database did not answer.
pub(crate) async fn revoke_all(tx: &mut Tx, subject: &str, now_us: i64) -> Result<u64> {
    const SQL: &str = "update api_keys set revoked_us = $2
        where subject = $1 and revoked_us is null and expires_us > $2 returning id";
    let revoked: Vec<String> = on!(tx, |db| sqlx::query_scalar(SQL)
        .bind(subject)
        .bind(now_us)
        .fetch_all(db)
        .await)?;
    end_tokens(tx, &revoked, now_us).await?;
    Ok(revoked.len() as u64)
}

/// Revoke every key of everybody; returns how many counted.
///
/// Errors: the database did not answer.
pub(crate) async fn revoke_everybodys(tx: &mut Tx, now_us: i64) -> Result<u64> {
    const SQL: &str = "update api_keys set revoked_us = $1
        where revoked_us is null and expires_us > $1 returning id";
    let revoked: Vec<String> = on!(tx, |db| sqlx::query_scalar(SQL)
        .bind(now_us)
        .fetch_all(db)
        .await)?;
    end_tokens(tx, &revoked, now_us).await?;
    Ok(revoked.len() as u64)
}

/// Revoke the keys that end with the sessions whose ids are in `sessions`, a JSON
/// list; returns the sessions of the tokens that they were exchanged for.
///
/// Errors: the database did not answer.
pub(super) async fn revoke_of_sessions(
    tx: &mut Tx,
    sessions: &str,
    now_us: i64,
) -> Result<Vec<String>> {
    const SQL: Spelt = Spelt {
        sqlite: "update api_keys set revoked_us = $2
             where session_id in (select value from json_each($1)) and revoked_us is null
             returning id",
        postgres: "update api_keys set revoked_us = $2
             where session_id in (select json_array_elements_text($1::json))
                 and revoked_us is null
             returning id",
    };
    let sql = SQL.on(tx);
    let revoked: Vec<String> = on!(tx, |db| sqlx::query_scalar(sql)
        .bind(sessions)
        .bind(now_us)
        .fetch_all(db)
        .await)?;
    let session = |id: String| format!("{KEY_SESSION}{id}");
    Ok(revoked.into_iter().map(session).collect())
}

/// What these keys were exchanged for counts no more either.
async fn end_tokens(tx: &mut Tx, keys: &[String], now_us: i64) -> Result<()> {
    let sessions: Vec<_> = keys.iter().map(|id| format!("{KEY_SESSION}{id}")).collect();
    let sessions: Vec<_> = sessions.iter().map(String::as_str).collect();
    revocations::insert_sessions(tx, &sessions, now_us).await
}
