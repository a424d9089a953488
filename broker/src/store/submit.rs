//! Accepting jobs, many in one statement: everything a batch of new jobs
//! writes goes to the database in one go.

use std::collections::BTreeMap;

use sqlx::query_builder::Separated;
use sqlx::{Database, Encode, QueryBuilder, Type};
use warrant_migrations::{Driven, Spelt, Tx, on};

use super::changes::{Done, NewJob};
use super::counts::{self, EVERYBODY};
use crate::model::JobId;

/// The most rows in one statement.
const LARGEST: usize = 64;
/// Ids taken from the store at a time.
const IDS: i64 = 64;

/// Cut `rows` into chunks of few different sizes, so that few texts are ever
/// prepared: 64, 32, or what is below 17.
pub(super) fn chunks<T>(mut rows: &[T]) -> Vec<&[T]> {
    let mut cut = Vec::new();
    while !rows.is_empty() {
        let size = match rows.len() {
            LARGEST.. => LARGEST,
            32.. => 32,
            16.. => 16,
            few => few,
        };
        let (chunk, rest) = rows.split_at(size);
        cut.push(chunk);
        rows = rest;
    }
    cut
}

/// Ids that were taken from the store and have named no job yet. After a
/// transaction that failed they must be forgotten.
#[derive(Debug, Default)]
pub(super) struct Ids {
    next: i64,
    end: i64,
}

impl Ids {
    /// The next `n` ids. Some may be skipped for ever; none is given twice.
    async fn take(&mut self, tx: &mut Tx, n: usize) -> sqlx::Result<Vec<JobId>> {
        // A value is the last of a block of ids that belong to who took it.
        const SQL: Spelt = Spelt {
            sqlite: "update sequences set value = value + 64 where name = 'jobs' returning value",
            postgres: "select nextval('job_ids')",
        };
        let sql = SQL.on(tx);
        let mut ids = Vec::with_capacity(n);
        while ids.len() < n {
            if self.next >= self.end {
                let last: i64 = on!(tx, |db| sqlx::query_scalar(sql).fetch_one(db).await)?;
                self.end = last + 1;
                self.next = self.end - IDS;
            }
            ids.extend(JobId::new(self.next));
            self.next += 1;
        }
        Ok(ids)
    }
}

/// Insert every job with its task, its first event and what finds it again.
pub(super) async fn insert(
    tx: &mut Tx,
    ids: &mut Ids,
    new: &[(usize, &NewJob)],
    done: &mut [Done],
) -> sqlx::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let ids = ids.take(tx, new.len()).await?;
    let jobs = new.iter().map(|(_, job)| *job);
    let rows: Vec<(JobId, &NewJob)> = ids.iter().copied().zip(jobs).collect();
    for chunk in chunks(&rows) {
        let sqlite = tx.is_sqlite();
        on!(tx, |db| {
            let mut text = Text::new(sqlite);
            describe(&mut text, chunk);
            text.finish().build().execute(db).await.map(drop)
        })?;
    }
    for ((at, _), id) in new.iter().zip(ids) {
        if let Some(slot) = done.get_mut(*at) {
            *slot = Done::Submitted(id);
        }
    }
    Ok(())
}

/// Several inserts in one text: statements one after another on SQLite, parts
/// of one statement (`with a as (insert …), b as (insert …) select 1`) on
/// PostgreSQL, which takes one at a time.
struct Text<DB: Database> {
    builder: QueryBuilder<DB>,
    sqlite: bool,
    parts: usize,
}

impl<DB: Database> Text<DB> {
    fn new(sqlite: bool) -> Self {
        let builder = QueryBuilder::new(if sqlite { "" } else { "with " });
        Self {
            builder,
            sqlite,
            parts: 0,
        }
    }

    /// Add `insert`, its rows, and `conflict` behind them.
    fn insert<T>(
        &mut self,
        insert: Spelt,
        rows: impl IntoIterator<Item = T>,
        bind: impl FnMut(Separated<'_, DB, &'static str>, T),
        conflict: &'static str,
    ) {
        if self.sqlite {
            self.builder
                .push(if self.parts > 0 { "; " } else { "" })
                .push(insert.sqlite);
        } else {
            const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
            let name = NAMES.get(self.parts).copied().unwrap_or("z");
            let comma = if self.parts > 0 { ", " } else { "" };
            self.builder
                .push(comma)
                .push(name)
                .push(" as (")
                .push(insert.postgres);
        }
        self.builder.push_values(rows, bind);
        self.builder.push(conflict);
        if !self.sqlite {
            self.builder.push(")");
        }
        self.parts += 1;
    }

    fn finish(mut self) -> QueryBuilder<DB> {
        if !self.sqlite {
            self.builder.push(" select 1");
        }
        self.builder
    }
}

const fn same(text: &'static str) -> Spelt {
    Spelt {
        sqlite: text,
        postgres: text,
    }
}

fn describe<'a, DB: Database>(text: &mut Text<DB>, rows: &'a [(JobId, &'a NewJob)])
where
    i64: Encode<'a, DB> + Type<DB>,
    Option<i64>: Encode<'a, DB> + Type<DB>,
    bool: Encode<'a, DB> + Type<DB>,
    &'a str: Encode<'a, DB> + Type<DB>,
    Option<&'a str>: Encode<'a, DB> + Type<DB>,
    String: Encode<'a, DB> + Type<DB>,
{
    const JOBS: Spelt = same(
        "insert into jobs (id, owner, owner_uid, name, dialect, state, urgency, command, \
         workdir, tasks, cores, gpus, exclusive, time_limit_s, submitted_us, ended_us, \
         exception_type, exception_severity, exception_note, events) ",
    );
    const TASKS: Spelt = same("insert into tasks (job_id, position, spec) ");
    const TEXTS: Spelt = Spelt {
        sqlite: "insert into job_text (rowid, text) ",
        postgres: "insert into job_text (job_id, text) ",
    };
    const EVENTS: Spelt = same("insert into events (job_id, seq, time_us, kind, detail) ");
    const COUNTS: Spelt = same("insert into job_counts (owner, block, jobs) ");
    const COUNTED: &str =
        " on conflict (owner, block) do update set jobs = job_counts.jobs + excluded.jobs";

    text.insert(JOBS, rows, insert_job, "");
    text.insert(
        TASKS,
        rows,
        |mut row, (id, job)| {
            row.push_bind(id.get())
                .push_bind(0_i64)
                .push_bind(job.spec.as_str());
        },
        "",
    );
    text.insert(
        TEXTS,
        rows,
        |mut row, (id, job)| {
            row.push_bind(id.get())
                .push_bind(super::search::text(*id, job));
        },
        "",
    );
    text.insert(
        EVENTS,
        rows.iter().flat_map(events),
        |mut row, (id, seq, at, kind, detail)| {
            row.push_bind(id)
                .push_bind(seq)
                .push_bind(at)
                .push_bind(kind)
                .push_bind(detail);
        },
        "",
    );
    text.insert(
        COUNTS,
        counted(rows),
        |mut row, ((owner, block), jobs)| {
            row.push_bind(owner).push_bind(block).push_bind(jobs);
        },
        COUNTED,
    );
}

fn insert_job<'a, DB: Database>(
    mut row: Separated<'_, DB, &'static str>,
    (id, job): &'a (JobId, &'a NewJob),
) where
    i64: Encode<'a, DB> + Type<DB>,
    Option<i64>: Encode<'a, DB> + Type<DB>,
    bool: Encode<'a, DB> + Type<DB>,
    &'a str: Encode<'a, DB> + Type<DB>,
    Option<&'a str>: Encode<'a, DB> + Type<DB>,
{
    let refused = job.refused.as_ref();
    row.push_bind(id.get())
        .push_bind(job.owner.name.as_str())
        .push_bind(job.owner.uid.map(i64::from))
        .push_bind(job.name.as_str())
        .push_bind(job.dialect.word())
        .push_bind(job.state().word())
        .push_bind(i64::from(job.urgency))
        .push_bind(job.command.as_str())
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
        .push_bind(if refused.is_some() { 2_i64 } else { 1 });
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
