//! The audit trail: rows are added and read, never changed.

use serde::Serialize;
use sqlx::FromRow;
use warrant_migrations::{Conn, Result, Spelt, Tx, on};

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub(crate) struct Row {
    /// When, in microseconds since the Unix epoch.
    pub(crate) time_us: i64,
    /// What was asked for: `login`, `warrant`, `token`, `refresh`, `client`,
    /// `authorize`, `code`, `device`, `revoke`, `introspect`, `key-create`,
    /// `key-list`, `key-revoke`, `key-exchange`; or `unrecorded`, where there
    /// were more refusals than rows for them.
    pub(crate) kind: String,
    /// `granted` or `refused`.
    pub(crate) outcome: String,
    /// Why it was refused, in one word.
    pub(crate) reason: Option<String>,
    /// The user's name, where it can be one.
    pub(crate) subject: Option<String>,
    /// The account's user id, where it is known.
    pub(crate) uid: Option<i64>,
    /// Where the request came from.
    pub(crate) source: String,
    /// Whom the token or warrant is for.
    pub(crate) audience: Option<String>,
    /// Its id.
    pub(crate) jti: Option<String>,
    /// The job that a warrant is for.
    pub(crate) job_sha256: Option<String>,
}

/// Add rows, given as a JSON array of [`Row`], in one statement.
///
/// Errors: the database did not answer; none of them was added.
pub(crate) async fn insert(tx: &mut Tx, rows: &str) -> Result<()> {
    const SQL: Spelt = Spelt {
        sqlite: "insert into audit (time_us, kind, outcome, reason, subject, uid, source, audience,
                     jti, job_sha256)
                 select value ->> 'time_us', value ->> 'kind', value ->> 'outcome',
                     value ->> 'reason', value ->> 'subject', value ->> 'uid', value ->> 'source',
                     value ->> 'audience', value ->> 'jti', value ->> 'job_sha256'
                 from json_each($1) order by key",
        postgres: "insert into audit (time_us, kind, outcome, reason, subject, uid, source,
                       audience, jti, job_sha256)
                   select time_us, kind, outcome, reason, subject, uid, source, audience, jti,
                       job_sha256
                   from rows from (json_to_recordset($1::json) as (time_us bigint, kind text,
                       outcome text, reason text, subject text, uid bigint, source text,
                       audience text, jti text, job_sha256 text)) with ordinality
                   order by ordinality",
    };
    let sql = SQL.on(tx);
    on!(tx, |db| sqlx::query(sql)
        .bind(rows)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// The last `limit` rows from `since_us` on, of one user or of all; the
/// oldest first.
///
/// Errors: the database did not answer.
pub(crate) async fn list(
    conn: &mut Conn,
    since_us: i64,
    subject: Option<&str>,
    limit: i64,
) -> Result<Vec<Row>> {
    const ALL: &str =
        "select * from audit where time_us >= $1 order by time_us desc, id desc limit $2";
    const OF_ONE: &str = "select * from audit where time_us >= $1 and subject = $3
                          order by time_us desc, id desc limit $2";
    let mut rows: Vec<Row> = match subject {
        None => on!(conn, |db| sqlx::query_as(ALL)
            .bind(since_us)
            .bind(limit)
            .fetch_all(db)
            .await)?,
        Some(subject) => on!(conn, |db| sqlx::query_as(OF_ONE)
            .bind(since_us)
            .bind(limit)
            .bind(subject)
            .fetch_all(db)
            .await)?,
    };
    rows.reverse();
    Ok(rows)
}
