//! The audit trail's rows from before it was a chain.

use sqlx::FromRow;
use warrant_migrations::{Db, Result, on};
use warrant_trail::{Row, Trail};

/// Rows taken into the chain in one transaction.
const BATCH: i64 = 1000;

/// A row that waits for its place in the chain.
#[derive(Debug, FromRow)]
struct Old {
    id: i64,
    time_us: i64,
    kind: String,
    outcome: String,
    reason: Option<String>,
    subject: Option<String>,
    uid: Option<i64>,
    source: String,
    audience: Option<String>,
    jti: Option<String>,
    job_sha256: Option<String>,
}

impl From<Old> for Row {
    fn from(old: Old) -> Self {
        // There was no column for what is done with a key.
        let action = old.kind.strip_prefix("key-").map(str::to_owned);
        let kind = action.as_ref().map_or(old.kind.as_str(), |_| "key");
        Self {
            time_us: old.time_us,
            kind: kind.to_owned(),
            action,
            outcome: old.outcome,
            reason: old.reason,
            subject: old.subject,
            uid: old.uid,
            source: old.source,
            audience: old.audience,
            jti: old.jti,
            job_sha256: old.job_sha256,
            ..Self::default()
        }
    }
}

/// Take the rows from before the chain into it, in their order; returns how
/// many. Broken off, it goes on where it stopped.
///
/// Errors: the database did not answer.
pub(crate) async fn chain_old(db: &Db) -> Result<u64, warrant_trail::Error> {
    const ANY: &str = "select exists (select 1 from audit_unchained)";
    const OLD: &str = "select * from audit_unchained order by id limit $1";
    const TAKEN: &str = "delete from audit_unchained where id <= $1";
    let mut chained = 0;
    loop {
        let mut conn = db.read().await?;
        let any: bool = on!(&mut conn, |db| sqlx::query_scalar(ANY).fetch_one(db).await)?;
        drop(conn);
        if !any {
            return Ok(chained);
        }
        let mut tx = db.begin().await?;
        // Held, so that of two that do this at once each row is taken by one.
        let head = Trail::AUTHSVC.lock(&mut tx).await?;
        let old: Vec<Old> = on!(&mut tx, |db| sqlx::query_as(OLD)
            .bind(BATCH)
            .fetch_all(db)
            .await)?;
        let last = old.last().map(|row| row.id);
        chained += old.len() as u64;
        let rows = old.into_iter().map(Row::from).collect();
        Trail::AUTHSVC.append_behind(&mut tx, head, rows).await?;
        on!(&mut tx, |db| sqlx::query(TAKEN)
            .bind(last)
            .execute(db)
            .await
            .map(drop))?;
        tx.commit().await?;
    }
}
