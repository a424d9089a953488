//! The revocation feed: what counts no more although it has not expired.

use sqlx::FromRow;
use warrant_api::revocation::{Revocation, RevocationKind};
use warrant_migrations::{Conn, Driven, Result, Spelt, Tx, on};

use super::undecodable;
use crate::config::MAX_TOKEN_MINUTES;

/// How long after its end anything may still be taken to be alive, by a clock
/// that is behind, in seconds.
const SKEW_S: i64 = 60;
/// The longest that an access token can outlive its revocation.
const LONGEST_US: i64 = (MAX_TOKEN_MINUTES as i64 * 60 + SKEW_S) * 1_000_000;

#[derive(FromRow)]
struct Row {
    seq: i64,
    kind: String,
    value: String,
    before_s: Option<i64>,
    until_us: i64,
}

impl Row {
    fn read(self) -> Result<Revocation> {
        Ok(Revocation {
            kind: match self.kind.as_str() {
                "session" => RevocationKind::Session,
                "token" => RevocationKind::Token,
                "account" => RevocationKind::Account,
                _ => return Err(undecodable("kind")),
            },
            value: self.value,
            before_s: self.before_s.and_then(|second| u64::try_from(second).ok()),
            until_s: u64::try_from(self.until_us / 1_000_000).unwrap_or(0) + 1,
        })
    }
}

/// Numbers are given in the order in which transactions end: whoever has read
/// up to one of them will never find a smaller one later. PostgreSQL gives
/// them without that, so that those who add entries do it one after the other.
async fn in_order(tx: &mut Tx) -> Result<()> {
    // Any number will do that nothing else in the database locks.
    const SQL: &str = "select pg_advisory_xact_lock(7305809917001021)";
    if !tx.is_sqlite() {
        on!(tx, |db| sqlx::query(SQL).execute(db).await.map(|_| ()))?;
    }
    Ok(())
}

/// Add an entry for each session.
///
/// Errors: the database did not answer.
pub(crate) async fn insert_sessions(tx: &mut Tx, ids: &[&str], now_us: i64) -> Result<()> {
    const SQL: Spelt = Spelt {
        sqlite: "insert into revocations (kind, value, time_us, until_us)
                 select 'session', value, $2, $3 from json_each($1)",
        postgres: "insert into revocations (kind, value, time_us, until_us)
                   select 'session', value, $2, $3 from json_array_elements_text($1::json)",
    };
    if ids.is_empty() {
        return Ok(());
    }
    let ids = serde_json::json!(ids).to_string();
    in_order(tx).await?;
    let sql = SQL.on(tx);
    on!(tx, |db| sqlx::query(sql)
        .bind(ids)
        .bind(now_us)
        .bind(now_us.saturating_add(LONGEST_US))
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    kind: &str,
    value: &str,
    before_s: Option<i64>,
    now_us: i64,
) -> Result<()> {
    const SQL: &str = "insert into revocations (kind, value, before_s, time_us, until_us)
                       values ($1, $2, $3, $4, $5)";
    in_order(tx).await?;
    on!(tx, |db| sqlx::query(SQL)
        .bind(kind)
        .bind(value)
        .bind(before_s)
        .bind(now_us)
        .bind(now_us.saturating_add(LONGEST_US))
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Add an entry for one access token.
///
/// Errors: the database did not answer.
pub(crate) async fn insert_token(tx: &mut Tx, jti: &str, now_us: i64) -> Result<()> {
    insert(tx, "token", jti, None, now_us).await
}

/// Whether there is an entry for this access token.
///
/// Errors: the database did not answer.
pub(crate) async fn has_token(conn: &mut Conn, jti: &str) -> Result<bool> {
    const SQL: &str = "select count(*) from revocations where kind = 'token' and value = $1";
    let count: i64 = on!(conn, |db| sqlx::query_scalar(SQL)
        .bind(jti)
        .fetch_one(db)
        .await)?;
    Ok(count > 0)
}

/// Add an entry for the tokens of an account that were issued before `before_s`.
///
/// Errors: the database did not answer.
pub(crate) async fn insert_account(
    tx: &mut Tx,
    name: &str,
    before_s: i64,
    now_us: i64,
) -> Result<()> {
    insert(tx, "account", name, Some(before_s), now_us).await
}

/// At most `limit` entries after `after`, and the number of the last of them;
/// `after` itself where there is none.
///
/// Errors: the database did not answer.
pub(crate) async fn list(
    conn: &mut Conn,
    after: i64,
    limit: i64,
) -> Result<(i64, Vec<Revocation>)> {
    const SQL: &str = "select seq, kind, value, before_s, until_us from revocations
                       where seq > $1 order by seq limit $2";
    let rows: Vec<Row> = on!(conn, |db| sqlx::query_as(SQL)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await)?;
    let next = rows.last().map_or(after, |row| row.seq);
    let entries = rows.into_iter().map(Row::read).collect::<Result<_>>()?;
    Ok((next, entries))
}
