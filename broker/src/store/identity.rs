//! Which store this is, and what it has to do with a spool.

#[cfg(test)]
mod tests;

use warrant_migrations::{Db, Result, Spelt, Tx, on};

use super::submit::IDS;

/// The most blocks of ids that are taken in one statement.
const MANY: i64 = 1_000_000;

/// What a store tells of itself to a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The number that goes with every copy of the store, in hexadecimal.
    pub id: String,
    /// Whether the broker that asks has jobs in it: a spool of a version that
    /// knew no identity is then this store's.
    pub has_jobs: bool,
}

/// The identity of the store `db`, asked for by the broker called `host`.
///
/// Errors: the database did not answer.
pub async fn identity(db: &Db, host: &str) -> Result<Identity> {
    const ID: &str = "select id from job_store where one = 1";
    // A job that never ran tells of no broker.
    const JOBS: &str = "select case when exists (select 1 from runs where host = $1) then 1 \
        when exists (select 1 from runs) then 0 \
        when exists (select 1 from jobs) then 1 else 0 end";
    let mut conn = db.read().await?;
    let id = on!(&mut conn, |db| sqlx::query_scalar(ID).fetch_one(db).await)?;
    let has_jobs: i32 = on!(&mut conn, |db| sqlx::query_scalar(JOBS)
        .bind(host)
        .fetch_one(db)
        .await)?;
    Ok(Identity {
        id,
        has_jobs: has_jobs != 0,
    })
}

/// Make the runs without an end of the broker `before` those of `now`, whose
/// place it has taken. Nobody can tell whether they began in this boot of the
/// machine; returns how many there are.
///
/// Errors: the database did not answer.
pub async fn take_over(db: &Db, before: &str, now: &str) -> Result<u64> {
    const RUNS: &str = "update runs set host = $2, boot = '' where host = $1 and ended_us is null";
    const JOBS: &str = "update jobs set host = $2 where host = $1 \
        and state in ('starting', 'running')";
    let mut tx = db.begin().await?;
    on!(&mut tx, |db| sqlx::query(RUNS)
        .bind(before)
        .bind(now)
        .execute(db)
        .await
        .map(drop))?;
    let jobs = on!(&mut tx, |db| sqlx::query(JOBS)
        .bind(before)
        .bind(now)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    tx.commit().await?;
    Ok(jobs)
}

/// Never give the ids up to `highest` to jobs, as far as they are not given yet.
pub(super) async fn go_beyond(tx: &mut Tx, highest: i64) -> sqlx::Result<()> {
    const LAST: Spelt = Spelt {
        sqlite: "select value from sequences where name = 'jobs'",
        postgres: "select coalesce(last_value, 0) from pg_sequences \
                   where schemaname = current_schema() and sequencename = 'job_ids'",
    };
    const TAKE: Spelt = Spelt {
        sqlite: "update sequences set value = value + $1 * 64 where name = 'jobs' returning value",
        postgres: "select max(nextval('job_ids')) from generate_series(1, $1)",
    };
    let (sql, take) = (LAST.on(tx), TAKE.on(tx));
    let mut last: i64 = on!(tx, |db| sqlx::query_scalar(sql).fetch_one(db).await)?;
    while last < highest {
        let missing = highest.saturating_sub(last).saturating_add(IDS - 1) / IDS;
        last = on!(tx, |db| sqlx::query_scalar(take)
            .bind(missing.min(MANY))
            .fetch_one(db)
            .await)?;
    }
    Ok(())
}
