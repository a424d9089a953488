//! Reading jobs.

use futures_util::{Stream, TryStreamExt};
use sqlx::FromRow;
use warrant_migrations::{Conn, on};

use super::steps::REMARK;
use super::{Store, counts};
use crate::error::{Error, Kind, Result};
use crate::model::{Dialect, Exception, Job, JobId, Micros, Owner, Stamp, State};

/// Whose jobs to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Everybody's.
    All,
    /// One owner's, by name.
    Owner(&'a str),
}

impl<'a> Whose<'a> {
    /// The owner that the counts are kept under.
    pub(super) const fn counted(self) -> &'a str {
        match self {
            Self::All => counts::EVERYBODY,
            Self::Owner(name) => name,
        }
    }

    /// The owner's name, or nothing for everybody.
    pub(super) const fn name(self) -> Option<&'a str> {
        match self {
            Self::All => None,
            Self::Owner(name) => Some(name),
        }
    }
}

/// How much text a list read at a time may hold, in bytes. The jobs of one user
/// can have names and directories of any length.
const TEXT: usize = 128 * 1024;

/// Whether `read`, of at most `most` jobs, need not be all there are: it has as
/// many as it may, or as much text.
pub fn is_part(read: &[Job], most: i64) -> bool {
    let many = i64::try_from(read.len()).is_ok_and(|count| count >= most);
    many || read.iter().map(Job::text_bytes).sum::<usize>() >= TEXT
}

/// The columns of [`JobRow`]. The command is left out: lists do not show it,
/// and it may be long.
macro_rules! columns {
    () => {
        "jobs.id, jobs.owner, jobs.owner_uid, jobs.name, jobs.dialect, jobs.state, jobs.urgency, \
         jobs.workdir, jobs.tasks, jobs.cores, jobs.gpus, jobs.time_limit_s, jobs.submitted_us, \
         jobs.started_us, jobs.ended_us, jobs.cancel_us, jobs.attempt, jobs.node, jobs.placement, \
         jobs.wait_status, jobs.dropped_bytes, jobs.exception_type, jobs.exception_severity, \
         jobs.exception_note, jobs.job_sha256"
    };
}
pub(super) use columns;

/// Part of a list, newest first.
#[derive(Debug)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// How many there are in all.
    pub total: i64,
}

#[derive(Debug, FromRow)]
pub(super) struct JobRow {
    id: i64,
    owner: String,
    owner_uid: Option<i64>,
    name: String,
    dialect: String,
    state: String,
    urgency: i64,
    workdir: Option<String>,
    tasks: i64,
    cores: i64,
    gpus: i64,
    time_limit_s: i64,
    submitted_us: i64,
    started_us: Option<i64>,
    ended_us: Option<i64>,
    cancel_us: Option<i64>,
    attempt: i64,
    node: Option<String>,
    placement: Option<String>,
    wait_status: Option<i64>,
    dropped_bytes: Option<i64>,
    exception_type: Option<String>,
    exception_severity: Option<i64>,
    exception_note: Option<String>,
    job_sha256: Option<String>,
}

impl TryFrom<JobRow> for Job {
    type Error = Error;

    fn try_from(row: JobRow) -> Result<Self> {
        let strange = || Error::new(Kind::Internal, "A stored job is unreadable.");
        let dialect = Dialect::ALL
            .into_iter()
            .find(|dialect| dialect.word() == row.dialect);
        let uid = row.owner_uid.and_then(|uid| uid.try_into().ok());
        Ok(Self {
            id: JobId::new(row.id).ok_or_else(strange)?,
            stamp: Stamp::new(uid, row.job_sha256.as_deref()),
            owner: Owner {
                name: row.owner,
                uid,
            },
            name: row.name,
            dialect: dialect.ok_or_else(strange)?,
            state: state(&row.state).ok_or_else(strange)?,
            urgency: u8::try_from(row.urgency).map_err(|_| strange())?,
            workdir: row.workdir,
            tasks: u32::try_from(row.tasks).map_err(|_| strange())?,
            cores: u32::try_from(row.cores).map_err(|_| strange())?,
            gpus: u32::try_from(row.gpus).map_err(|_| strange())?,
            time_limit_s: u64::try_from(row.time_limit_s).map_err(|_| strange())?,
            submitted: Micros::new(row.submitted_us),
            started: row.started_us.map(Micros::new),
            ended: row.ended_us.map(Micros::new),
            cancel_requested: row.cancel_us.map(Micros::new),
            attempt: u32::try_from(row.attempt).map_err(|_| strange())?,
            node: row.node,
            placement: row.placement,
            wait_status: row.wait_status.and_then(|status| status.try_into().ok()),
            dropped_bytes: row.dropped_bytes.unwrap_or(0),
            exception: row.exception_type.map(|kind| Exception {
                kind,
                severity: row
                    .exception_severity
                    .and_then(|s| s.try_into().ok())
                    .unwrap_or(0),
                note: row.exception_note.unwrap_or_default(),
            }),
        })
    }
}

/// The state that the store spells so.
pub(super) fn state(word: &str) -> Option<State> {
    State::ALL.into_iter().find(|state| state.word() == word)
}

/// Read jobs until there are no more, or as much text as there may be.
pub(super) async fn gather(
    mut rows: impl Stream<Item = sqlx::Result<JobRow>> + Unpin,
) -> Result<Vec<Job>> {
    let (mut jobs, mut text) = (Vec::new(), 0);
    while text < TEXT
        && let Some(row) = rows.try_next().await?
    {
        let job = Job::try_from(row)?;
        text += job.text_bytes();
        jobs.push(job);
    }
    Ok(jobs)
}

impl Store {
    /// One job; `None` where there is none with this id.
    ///
    /// Errors: the store is away.
    pub async fn find(&self, id: JobId) -> Result<Option<Job>> {
        const SQL: &str = concat!("select ", columns!(), " from jobs where id = $1");
        let mut conn = self.db.read().await?;
        let row: Option<JobRow> = on!(&mut conn, |db| sqlx::query_as(SQL)
            .bind(id)
            .fetch_optional(db)
            .await)?;
        row.map(Job::try_from).transpose()
    }

    /// What people should know of a job and no state says, in the order in
    /// which it happened.
    ///
    /// Errors: the store is away.
    pub async fn remarks(&self, id: JobId) -> Result<Vec<String>> {
        const SQL: &str = "select coalesce(detail, '') from events \
            where job_id = $1 and kind = $2 order by seq";
        let mut conn = self.db.read().await?;
        Ok(on!(&mut conn, |db| {
            sqlx::query_scalar(SQL)
                .bind(id)
                .bind(REMARK)
                .fetch_all(db)
                .await
        })?)
    }

    /// The user id of the account that the newest job of `owner` is of;
    /// `None` where there is no job, or none of an account.
    ///
    /// Errors: the store is away.
    pub async fn account(&self, owner: &str) -> Result<Option<u32>> {
        const SQL: &str = "select owner_uid from jobs where owner = $1 order by id desc limit 1";
        let mut conn = self.db.read().await?;
        let uid: Option<Option<i64>> = on!(&mut conn, |db| sqlx::query_scalar(SQL)
            .bind(owner)
            .fetch_optional(db)
            .await)?;
        Ok(uid.flatten().and_then(|uid| uid.try_into().ok()))
    }

    /// Jobs of `owner` that have not started, were accepted up to `last`, and
    /// that nobody wants to be cancelled yet; at most a thousand, the oldest
    /// first.
    ///
    /// Errors: the store is away.
    pub async fn list_unstarted(&self, owner: &str, last: Micros) -> Result<Vec<JobId>> {
        const SQL: &str = "select id from jobs where owner = $1 \
            and state in ('queued', 'starting') and submitted_us <= $2 and cancel_us is null \
            order by id limit 1000";
        let mut conn = self.db.read().await?;
        Ok(on!(&mut conn, |db| {
            sqlx::query_scalar(SQL)
                .bind(owner)
                .bind(last)
                .fetch_all(db)
                .await
        })?)
    }

    /// Up to `limit` jobs older than `below` (all, where `None`), newest first;
    /// fewer where they have much text ([`is_part`]).
    ///
    /// Errors: the store is away.
    pub async fn list(
        &self,
        whose: Whose<'_>,
        below: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<Job>> {
        let mut conn = self.db.read().await?;
        let below = below.map_or(i64::MAX, JobId::get);
        page(&mut conn, whose, below, 0, limit).await
    }

    /// The ids alone, as [`Store::list`].
    ///
    /// Errors: the store is away.
    pub async fn list_ids(
        &self,
        whose: Whose<'_>,
        below: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<JobId>> {
        const ALL: &str = "select id from jobs where id < $1 order by id desc limit $2";
        const ONE: &str =
            "select id from jobs where id < $1 and owner = $3 order by id desc limit $2";
        let mut conn = self.db.read().await?;
        let below = below.map_or(i64::MAX, JobId::get);
        Ok(match whose {
            Whose::All => on!(&mut conn, |db| {
                sqlx::query_scalar(ALL)
                    .bind(below)
                    .bind(limit)
                    .fetch_all(db)
                    .await
            }),
            Whose::Owner(name) => on!(&mut conn, |db| {
                sqlx::query_scalar(ONE)
                    .bind(below)
                    .bind(limit)
                    .bind(name)
                    .fetch_all(db)
                    .await
            }),
        }?)
    }

    /// The `limit` jobs behind the `start` newest, fewer as with [`Store::list`],
    /// and how many there are.
    ///
    /// Errors: the store is away.
    pub async fn page(&self, whose: Whose<'_>, start: i64, limit: i64) -> Result<Page> {
        let mut conn = self.db.read().await?;
        let place = counts::place(&mut conn, whose.counted(), start).await?;
        Ok(Page {
            jobs: page(&mut conn, whose, place.below, place.skip, limit).await?,
            total: place.total,
        })
    }

    /// How many jobs there are.
    ///
    /// Errors: the store is away.
    pub async fn total(&self, whose: Whose<'_>) -> Result<i64> {
        let mut conn = self.db.read().await?;
        Ok(counts::place(&mut conn, whose.counted(), 0).await?.total)
    }
}

async fn page(
    conn: &mut Conn,
    whose: Whose<'_>,
    below: i64,
    skip: i64,
    limit: i64,
) -> Result<Vec<Job>> {
    const ALL: &str = concat!(
        "select ",
        columns!(),
        " from jobs where id < $1 order by id desc limit $2 offset $3"
    );
    const ONE: &str = concat!(
        "select ",
        columns!(),
        " from jobs where id < $1 and owner = $4 order by id desc limit $2 offset $3"
    );
    match whose {
        Whose::All => on!(conn, |db| {
            let all = sqlx::query_as(ALL).bind(below).bind(limit).bind(skip);
            gather(all.fetch(db)).await
        }),
        Whose::Owner(name) => on!(conn, |db| {
            let all = sqlx::query_as(ONE).bind(below).bind(limit).bind(skip);
            gather(all.bind(name).fetch(db)).await
        }),
    }
}
