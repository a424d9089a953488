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

/// Find the place behind the `start` newest jobs of `owner`.
pub(super) async fn place(conn: &mut Conn, owner: &str, start: i64) -> sqlx::Result<Place> {
    const SQL: &str = "select block, jobs from job_counts where owner = $1 order by block desc";
    let blocks: Vec<(i64, i64)> = on!(conn, |db| sqlx::query_as(SQL)
        .bind(owner)
        .fetch_all(db)
        .await)?;
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
