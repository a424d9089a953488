//! Where the n-th newest job is, without walking past the others: jobs are
//! counted per owner and per block of 1024 ids.

use warrant_migrations::{Conn, on};

use crate::model::JobId;

/// The owner under whom all jobs are counted. No user has an empty name.
pub(super) const EVERYBODY: &str = "";

const BLOCK: i64 = 1024;

/// The block that counts `id`.
pub(super) const fn block(id: JobId) -> i64 {
    id.get() / BLOCK
}

/// A place among an owner's jobs, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// How many jobs there are in all.
    pub total: i64,
    /// Ids from here on are newer than the place; the rest is to be skipped.
    pub below: i64,
    /// How many of the jobs below that are still newer.
    pub skip: i64,
}

/// How many jobs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    /// Everybody's.
    pub all: i64,
    /// The owner's.
    pub own: i64,
}

/// The ids that `block` counts: from the first to before the second.
pub(super) const fn ids(block: i64) -> (i64, i64) {
    (
        block.saturating_mul(BLOCK),
        (block + 1).saturating_mul(BLOCK),
    )
}

/// How many jobs everybody and `owner` have.
pub(super) async fn totals(conn: &mut Conn, owner: &str) -> sqlx::Result<Totals> {
    const SQL: &str = "select \
        (select cast(coalesce(sum(jobs), 0) as bigint) from job_counts where owner = $1), \
        (select cast(coalesce(sum(jobs), 0) as bigint) from job_counts where owner = $2)";
    let (all, own) = on!(conn, |db| sqlx::query_as(SQL)
        .bind(EVERYBODY)
        .bind(owner)
        .fetch_one(db)
        .await)?;
    Ok(Totals { all, own })
}

/// The blocks in which `owner` has jobs, newest first, and how many.
pub(super) async fn blocks(conn: &mut Conn, owner: &str) -> sqlx::Result<Vec<(i64, i64)>> {
    const SQL: &str = "select block, jobs from job_counts where owner = $1 order by block desc";
    on!(conn, |db| sqlx::query_as(SQL)
        .bind(owner)
        .fetch_all(db)
        .await)
}

/// Find the place behind the `start` newest jobs of `owner`.
pub(super) async fn place(conn: &mut Conn, owner: &str, start: i64) -> sqlx::Result<Place> {
    if start == 0 {
        return Ok(Place {
            total: totals(conn, owner).await?.own,
            below: i64::MAX,
            skip: 0,
        });
    }
    let blocks = blocks(conn, owner).await?;
    let total = blocks.iter().map(|(_, jobs)| jobs).sum();
    let mut skip = start;
    for (block, jobs) in blocks {
        if skip < jobs {
            return Ok(Place {
                total,
                below: (block + 1).saturating_mul(BLOCK),
                skip,
            });
        }
        skip -= jobs;
    }
    Ok(Place {
        total,
        below: 0,
        skip: 0,
    })
}
