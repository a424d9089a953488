//! Accepting jobs, many in one statement: everything a batch of new jobs
//! writes goes to the database in one go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use warrant_migrations::{Spelt, Tx, on};
use warrant_trail::{Head, Sealed};

use super::audit;
use super::changes::{Done, NewJob};
use super::counts::{self, EVERYBODY};
use super::keys;
use super::text::{NO_TAIL, Spoken, Text, chunks, same};
use crate::model::JobId;

/// Ids taken from the store at a time.
pub(super) const IDS: i64 = 64;

/// A stretch of ids that nobody else has or gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ids {
    next: i64,
    end: i64,
}

impl Ids {
    /// A block of ids that nobody else has or gets, once this is durable.
    async fn block(tx: &mut Tx) -> sqlx::Result<Self> {
        // A value is the last of a block of ids that belong to who took it.
        const SQL: Spelt = Spelt {
            sqlite: "update sequences set value = value + 64 where name = 'jobs' returning value",
            postgres: "select nextval('job_ids')",
        };
        let sql = SQL.on(tx);
        let last: i64 = on!(tx, |db| sqlx::query_scalar(sql).fetch_one(db).await)?;
        let end = last + 1;
        let next = end - IDS;
        Ok(Self { next, end })
    }

    /// The next id, while there is one.
    fn pop(&mut self) -> Option<JobId> {
        let id = JobId::new(self.next).filter(|_| self.next < self.end)?;
        self.next += 1;
        Some(id)
    }

    fn left(&self) -> usize {
        usize::try_from(self.end - self.next).unwrap_or_default()
    }
}

/// The ids that have named no job yet. All jobs get theirs from here, so that
/// ids are in the order in which they were asked for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct IdPool(Arc<Mutex<Ids>>);

impl IdPool {
    /// The next id, while there is one.
    pub(super) fn pop(&self) -> Option<JobId> {
        self.ids().pop()
    }

    /// Whether `n` can be given without asking the store.
    pub(super) fn has(&self, n: usize) -> bool {
        self.ids().left() >= n
    }

    /// Put what is left of a block into the empty pool, once the block is
    /// durably ours.
    pub(super) fn fill(&self, block: Ids) {
        *self.ids() = block;
    }

    fn forget_up_to(&self, highest: i64) {
        let mut ids = self.ids();
        if ids.next <= highest {
            *ids = Ids::default();
        }
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a transaction takes ids from: the pool, and then blocks of its own.
/// What is left of the last one goes to the pool when the transaction is
/// durable, and is forgotten if it fails.
#[derive(Debug)]
pub(super) struct IdSource {
    pool: IdPool,
    block: Option<Ids>,
}

impl IdSource {
    pub(super) fn new(pool: &IdPool) -> Self {
        Self {
            pool: pool.clone(),
            block: None,
        }
    }

    /// The next `n` ids. Some may be skipped for ever; none is given twice.
    async fn take(&mut self, tx: &mut Tx, n: usize) -> sqlx::Result<Vec<JobId>> {
        let mut ids = Vec::with_capacity(n);
        while ids.len() < n {
            let next = match &mut self.block {
                None => self.pool.pop(),
                Some(block) => block.pop(),
            };
            match next {
                Some(id) => ids.push(id),
                None => self.block = Some(Ids::block(tx).await?),
            }
        }
        Ok(ids)
    }

    /// Have a block for the pool, unless there are ids.
    pub(super) async fn provide(&mut self, tx: &mut Tx) -> sqlx::Result<()> {
        if self.block.is_none() && !self.pool.has(1) {
            self.block = Some(Ids::block(tx).await?);
        }
        Ok(())
    }

    /// Forget the ids that are left, if some are not above `highest`.
    pub(super) fn forget_up_to(&mut self, highest: i64) {
        self.pool.forget_up_to(highest);
        self.block = self.block.filter(|block| block.next > highest);
    }

    /// The transaction is durable.
    pub(super) fn settle(self) {
        if let Some(block) = self.block {
            self.pool.fill(block);
        }
    }
}

/// Insert every job with its task, its first event, its row of the audit trail
/// and what finds it again. The rows come behind `head`, which moves.
pub(super) async fn insert(
    tx: &mut Tx,
    ids: &mut IdSource,
    head: &mut Head,
    new: &[(usize, &NewJob)],
    done: &mut [Done],
) -> sqlx::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let nameless = new.iter().filter(|(_, job)| job.id.is_none()).count();
    let mut fresh = ids.take(tx, nameless).await?.into_iter();
    let mut rows = Vec::with_capacity(new.len());
    for (at, job) in new {
        if let Some(id) = job.id.or_else(|| fresh.next()) {
            rows.push((id, *job));
            if let Some(slot) = done.get_mut(*at) {
                *slot = Done::Submitted(id);
            }
        }
    }
    for chunk in chunks(&rows) {
        let sealed = audit::submitted(*head, chunk);
        insert_chunk(tx, chunk, &sealed).await?;
        *head = sealed.head;
    }
    Ok(())
}

async fn insert_chunk(tx: &mut Tx, rows: &[(JobId, &NewJob)], sealed: &Sealed) -> sqlx::Result<()> {
    const JOBS: Spelt = same(
        "insert into jobs (id, owner, owner_uid, name, dialect, state, urgency, command, \
         workdir, tasks, cores, gpus, exclusive, time_limit_s, submitted_us, ended_us, \
         exception_type, exception_severity, exception_note, events, job_sha256) ",
    );
    const TASKS: Spelt = same("insert into tasks (job_id, position, spec) ");
    const TEXTS: Spelt = Spelt {
        sqlite: "insert into job_text_late (job_id) ",
        postgres: "insert into job_text (job_id, text) ",
    };
    const EVENTS: Spelt = same("insert into events (job_id, seq, time_us, kind, detail) ");
    const COUNTS: Spelt = same("insert into job_counts (owner, block, jobs) ");
    const COUNTED: Spelt =
        same(" on conflict (owner, block) do update set jobs = job_counts.jobs + excluded.jobs");
    let spoken = Spoken::on(tx);
    on!(tx, |db| {
        let mut text = Text::new(spoken);
        text.add(
            "a",
            JOBS,
            rows,
            |mut row, (id, job)| {
                let refused = job.refused.as_ref();
                row.push_bind(id.get())
                    .push_bind(&job.owner.name)
                    .push_bind(job.owner.uid.map(i64::from))
                    .push_bind(&job.name)
                    .push_bind(job.dialect.word())
                    .push_bind(job.state().word())
                    .push_bind(i64::from(job.urgency))
                    .push_bind(&job.command)
                    .push_bind(job.workdir.as_deref())
                    .push_bind(i64::from(job.footprint.tasks))
                    .push_bind(i64::from(job.footprint.cores()))
                    .push_bind(i64::from(job.footprint.gpus()))
                    .push_bind(job.footprint.exclusive)
                    .push_bind(i64::try_from(job.time_limit_s).unwrap_or(i64::MAX))
                    .push_bind(job.submitted.get())
                    .push_bind(refused.map(|_| job.submitted.get()))
                    .push_bind(refused.map(|exception| exception.kind.as_str()))
                    .push_bind(refused.map(|exception| i64::from(exception.severity)))
                    .push_bind(refused.map(|exception| exception.note.as_str()))
                    .push_bind(if refused.is_some() { 2_i64 } else { 1 })
                    .push_bind(&job.job_sha256);
            },
            NO_TAIL,
        );
        text.add(
            "b",
            TASKS,
            rows,
            |mut row, (id, job)| {
                row.push_bind(id.get())
                    .push_bind(0_i64)
                    .push_bind(&job.spec);
            },
            NO_TAIL,
        );
        text.add(
            "c",
            TEXTS,
            rows,
            |mut row, (id, job)| {
                row.push_bind(id.get());
                if !spoken.is_sqlite() {
                    row.push_bind(super::search::text_of(*id, job));
                }
            },
            NO_TAIL,
        );
        text.add(
            "d",
            EVENTS,
            rows.iter().flat_map(events),
            |mut row, event| {
                let (id, seq, at, kind, detail) = event;
                row.push_bind(id)
                    .push_bind(seq)
                    .push_bind(at)
                    .push_bind(kind)
                    .push_bind(detail);
            },
            NO_TAIL,
        );
        text.add(
            "e",
            COUNTS,
            counted(rows),
            |mut row, ((owner, block), jobs)| {
                row.push_bind(owner).push_bind(block).push_bind(jobs);
            },
            COUNTED,
        );
        text.add(
            "head",
            audit::HEAD,
            [sealed.head],
            |mut row, head| {
                row.push_bind(head.count).push_bind(head.hash.to_string());
            },
            audit::OF_HEAD,
        );
        text.add(
            "f",
            audit::SUBMITTED,
            &sealed.rows,
            |mut values, stored| {
                let row = &stored.row;
                values
                    .push_bind(stored.seq)
                    .push_bind(row.time_us)
                    .push_bind(row.subject.as_deref())
                    .push_bind(row.uid)
                    .push_bind(&row.source)
                    .push_bind(row.jti.as_deref())
                    .push_bind(row.job_id)
                    .push_bind(row.job_sha256.as_deref())
                    .push_bind(&stored.hash);
            },
            audit::OF_SUBMITTED,
        );
        if rows.iter().any(|(_, job)| job.key.is_some()) {
            // Every job has a row, so that there are few different texts.
            text.add(
                "keys",
                keys::KEYS,
                rows,
                |mut row, (id, job)| {
                    let key = job.key.as_ref();
                    row.push_bind(&job.owner.name)
                        .push_bind(keys::uid(&job.owner))
                        .push_bind(key.map(|key| key.of.key.as_str()))
                        .push_bind(key.map(|key| key.of.request_sha256.as_str()))
                        .push_bind(id.get())
                        .push_bind(key.map_or(0, |key| key.made.get()));
                },
                keys::OF_KEYS,
            );
        }
        let mut text = text.finish("select count from head");
        text.build().execute(db).await.map(drop)
    })
}

/// A row of a new job's history: job, number, time, kind, detail.
type EventRow<'a> = (i64, i64, i64, &'a str, Option<&'a str>);

fn events<'a>((id, job): &'a (JobId, &'a NewJob)) -> impl Iterator<Item = EventRow<'a>> {
    let at = job.submitted.get();
    let refused = job.refused.as_ref();
    let failed = refused.map(|why| (id.get(), 2, at, "failed", Some(why.note.as_str())));
    std::iter::once((id.get(), 1, at, "submitted", None)).chain(failed)
}

fn counted<'a>(rows: &'a [(JobId, &'a NewJob)]) -> BTreeMap<(&'a str, i64), i64> {
    let mut counted = BTreeMap::new();
    for (id, job) in rows {
        for owner in [EVERYBODY, &job.owner.name] {
            *counted.entry((owner, counts::block(*id))).or_default() += 1;
        }
    }
    counted
}
