//! What the scheduler reads: jobs that wait, and runs that this broker began.

use sqlx::FromRow;
use warrant_migrations::on;

use super::Store;
use crate::error::Result;
use crate::model::{Footprint, JobId, RunKey, Stamp, TaskSpec};

/// A job that waits for its turn.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Its id.
    pub id: JobId,
    /// 0 to 31.
    pub urgency: u8,
    /// The tries so far.
    pub attempts: u32,
    /// What it takes.
    pub footprint: Footprint,
    /// Seconds it may run; 0 means no limit.
    pub time_limit_s: u64,
    /// What its runs are stamped with.
    pub stamp: Stamp,
}

/// A run that was begun and has no end on record.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// Which.
    pub run: RunKey,
    /// The machine's boot in which it was begun.
    pub boot: String,
    /// What it takes.
    pub footprint: Footprint,
    /// The cores it was given, as a list; empty where it was claimed ahead
    /// and its start is not on record.
    pub placement: String,
    /// Seconds it may run; 0 means no limit.
    pub time_limit_s: u64,
    /// When it was begun, or started where that is known; microseconds.
    pub since_us: i64,
    /// Whether somebody wants it cancelled.
    pub cancel: bool,
    /// What it must be stamped with.
    pub stamp: Stamp,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    urgency: i64,
    attempt: i64,
    spec: String,
    time_limit_s: i64,
    owner_uid: Option<i64>,
    job_sha256: Option<String>,
}

#[derive(FromRow)]
struct RunRow {
    id: i64,
    attempt: i64,
    boot: String,
    spec: String,
    placement: Option<String>,
    time_limit_s: i64,
    since_us: i64,
    cancel_us: Option<i64>,
    owner_uid: Option<i64>,
    job_sha256: Option<String>,
}

fn stamp(owner_uid: Option<i64>, job_sha256: Option<&str>) -> Stamp {
    let uid = owner_uid.and_then(|uid| uid.try_into().ok());
    Stamp::new(uid, job_sha256)
}

/// What a task takes. A definition that cannot be read takes one core: it
/// fails when it is started, with words.
pub(super) fn footprint(spec: &str) -> Footprint {
    let one = Footprint {
        tasks: 1,
        cores_per_task: 1,
        gpus_per_task: 0,
        memory_bytes: 0,
        exclusive: false,
    };
    serde_json::from_str::<TaskSpec>(spec).map_or(one, |task| task.footprint())
}

impl Store {
    /// The first `limit` jobs that wait, in the order they are to start.
    ///
    /// Errors: the store is away.
    pub async fn list_queued(&self, limit: i64) -> Result<Vec<Queued>> {
        const SQL: &str = "select j.id, j.urgency, j.attempt, t.spec, j.time_limit_s, \
            j.owner_uid, j.job_sha256 from jobs j \
            join tasks t on t.job_id = j.id and t.position = 0 \
            where j.state = 'queued' order by j.urgency desc, j.id limit $1";
        let mut conn = self.db.read().await?;
        let rows: Vec<Row> = on!(&mut conn, |db| sqlx::query_as(SQL)
            .bind(limit)
            .fetch_all(db)
            .await)?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                Some(Queued {
                    id: JobId::new(row.id)?,
                    urgency: row.urgency.try_into().ok()?,
                    attempts: row.attempt.try_into().ok()?,
                    footprint: footprint(&row.spec),
                    time_limit_s: row.time_limit_s.try_into().ok()?,
                    stamp: stamp(row.owner_uid, row.job_sha256.as_deref()),
                })
            })
            .collect())
    }

    /// The runs that the broker called `host` began and that have no end.
    ///
    /// Errors: the store is away.
    pub async fn list_unfinished(&self, host: &str) -> Result<Vec<Unfinished>> {
        const SQL: &str = "select j.id, j.attempt, r.boot, t.spec, j.placement, j.time_limit_s, \
            coalesce(j.started_us, r.claimed_us) as since_us, j.cancel_us, \
            j.owner_uid, j.job_sha256 from jobs j \
            join runs r on r.job_id = j.id and r.position = 0 and r.attempt = j.attempt \
            join tasks t on t.job_id = j.id and t.position = 0 \
            where j.state in ('starting', 'running') and j.host = $1 order by j.id";
        let mut conn = self.db.read().await?;
        let rows: Vec<RunRow> = on!(&mut conn, |db| sqlx::query_as(SQL)
            .bind(host)
            .fetch_all(db)
            .await)?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let job = JobId::new(row.id)?;
                Some(Unfinished {
                    run: RunKey {
                        job,
                        position: 0,
                        attempt: row.attempt.try_into().ok()?,
                    },
                    boot: row.boot,
                    footprint: footprint(&row.spec),
                    placement: row.placement.unwrap_or_default(),
                    time_limit_s: row.time_limit_s.try_into().ok()?,
                    since_us: row.since_us,
                    cancel: row.cancel_us.is_some(),
                    stamp: stamp(row.owner_uid, row.job_sha256.as_deref()),
                })
            })
            .collect())
    }

    /// Returns when a commit's outcome could not be learnt, so that what is
    /// remembered of the queue must be read again.
    pub async fn in_doubt(&self) {
        self.writer.in_doubt().await;
    }
}
