//! Leaving out ids.

use warrant_migrations::{Db, Result, Spelt, on};

use super::submit::IDS;

/// Never give the next `count` ids to jobs, rounded up to whole blocks; returns
/// the last one left out.
///
/// Errors: the database did not answer.
pub async fn skip_ids(db: &Db, count: i64) -> Result<i64> {
    const SQL: Spelt = Spelt {
        sqlite: "update sequences set value = value + $1 * 64 where name = 'jobs' returning value",
        postgres: "select max(nextval('job_ids')) from generate_series(1, $1)",
    };
    let blocks = count.saturating_add(IDS - 1) / IDS;
    let mut tx = db.begin().await?;
    let sql = SQL.on(&tx);
    let last: i64 = on!(&mut tx, |db| sqlx::query_scalar(sql)
        .bind(blocks)
        .fetch_one(db)
        .await)?;
    tx.commit().await?;
    Ok(last)
}
