//! Moving jobs from state to state. Each move names the state it expects;
//! where the job is elsewhere, nothing is written. Every move is one event.

use std::borrow::Cow;
use std::collections::HashSet;

use warrant_migrations::{Spelt, Tx, on};
use warrant_trail::Row;

use super::audit;
use super::changes::{Cancel, CancelAnswer, Claim, Done, Start, Step};
use super::text::{Spoken, Text, chunks, same};
use crate::model::{Attempt, Ending, JobId, Micros, State};

/// One row of a job's history.
struct Event {
    job: JobId,
    seq: i64,
    at: Micros,
    kind: &'static str,
    detail: Option<String>,
}

async fn insert_event(tx: &mut Tx, event: Event) -> sqlx::Result<()> {
    const SQL: &str = "insert into events (job_id, seq, time_us, kind, detail) \
        values ($1, $2, $3, $4, $5)";
    on!(tx, |db| {
        let insert = sqlx::query(SQL)
            .bind(event.job)
            .bind(event.seq)
            .bind(event.at);
        insert
            .bind(event.kind)
            .bind(event.detail)
            .execute(db)
            .await
            .map(drop)
    })
}

/// What PostgreSQL selects when jobs were moved; SQLite returns it.
const MOVED: &str = "select id from moved";

/// Answer each change that asked: whether its job is among those moved.
fn note(done: &mut [Done], asked: impl Iterator<Item = (usize, JobId)>, moved: Vec<JobId>) {
    let moved: HashSet<JobId> = moved.into_iter().collect();
    for (at, job) in asked {
        if let Some(slot) = done.get_mut(at) {
            *slot = Done::Stepped(moved.contains(&job));
        }
    }
}

/// Take queued jobs for running.
pub(super) async fn claim(
    tx: &mut Tx,
    claims: &[(usize, &Claim)],
    done: &mut [Done],
) -> sqlx::Result<()> {
    for chunk in chunks(claims) {
        let moved = claim_chunk(tx, chunk).await?;
        note(
            done,
            chunk.iter().map(|(at, claim)| (*at, claim.job)),
            moved,
        );
    }
    Ok(())
}

async fn claim_chunk(tx: &mut Tx, claims: &[(usize, &Claim)]) -> sqlx::Result<Vec<JobId>> {
    const JOBS: Spelt = same(
        "update jobs set state = 'starting', attempt = v.column2, host = v.column3, \
         node = v.column4, placement = v.column5, events = events + 1 from (",
    );
    const CLAIMED: Spelt = Spelt {
        sqlite: ") as v where jobs.id = v.column1 and jobs.state = 'queued' returning jobs.id",
        postgres: ") as v where jobs.id = v.column1 and jobs.state = 'queued' \
                   returning jobs.id, jobs.events",
    };
    const RUNS: Spelt = same(
        "insert into runs (job_id, position, attempt, engine, host, boot, claimed_us) \
         select v.column1, 0, v.column2, v.column3, v.column4, v.column5, v.column6 from (",
    );
    const OF_RUNS: Spelt = Spelt {
        sqlite: ") as v join jobs moved on moved.id = v.column1 and moved.attempt = v.column2 \
                 and moved.host = v.column4 and moved.state = 'starting' where true \
                 on conflict do nothing",
        postgres: ") as v join moved on moved.id = v.column1",
    };
    let spoken = Spoken::on(tx);
    on!(tx, |db| {
        let mut text = Text::new(spoken);
        text.add(
            "moved",
            JOBS,
            claims,
            |mut row, (_, claim)| {
                row.push_bind(claim.job.get())
                    .push_bind(i64::from(claim.attempt))
                    .push_bind(&claim.host)
                    .push_bind(&claim.node)
                    .push_bind(claim.placement.as_deref());
            },
            CLAIMED,
        );
        text.add(
            "runs_in",
            RUNS,
            claims,
            |mut row, (_, claim)| {
                row.push_bind(claim.job.get())
                    .push_bind(i64::from(claim.attempt))
                    .push_bind(claim.engine)
                    .push_bind(&claim.host)
                    .push_bind(&claim.boot)
                    .push_bind(claim.at.get());
            },
            OF_RUNS,
        );
        text.add(
            "events_in",
            EVENTS,
            claims,
            |mut row, (_, claim)| {
                row.push_bind(claim.job.get())
                    .push_bind(0_i64)
                    .push_bind(claim.at.get())
                    .push_bind("starting")
                    .push_bind(Some(format!("attempt {} on {}", claim.attempt, claim.node)));
            },
            OF_EVENTS,
        );
        text.finish(MOVED).build_query_scalar().fetch_all(db).await
    })
}

/// Events of the jobs that the statement before moved, each so many before
/// the job's last. The last one's number is the job's count of events; where
/// the job was not moved, the numbers are taken.
const EVENTS: Spelt = same(
    "insert into events (job_id, seq, time_us, kind, detail) \
     select moved.id, moved.events - v.column2, v.column3, v.column4, v.column5 from (",
);
const OF_EVENTS: Spelt = Spelt {
    sqlite: ") as v join jobs moved on moved.id = v.column1 where true on conflict do nothing",
    postgres: ") as v join moved on moved.id = v.column1",
};

/// Record what engines report.
pub(super) async fn step(
    tx: &mut Tx,
    steps: &[(usize, &Step)],
    done: &mut [Done],
) -> sqlx::Result<()> {
    let mut starts = Vec::new();
    let mut ends = Vec::new();
    for (at, step) in steps {
        match step {
            Step::Started {
                job,
                attempt,
                start,
            } => starts.push((*at, *job, *attempt, start)),
            Step::Ended {
                job,
                attempt,
                start,
                ending,
            } => ends.push(End {
                at: *at,
                job: *job,
                attempt: *attempt,
                start: start.as_ref(),
                ending,
            }),
            Step::Requeued {
                job,
                attempt,
                tried,
                at: when,
            } => {
                let stepped = requeue(tx, *job, *attempt, *tried, *when).await?;
                if let Some(slot) = done.get_mut(*at) {
                    *slot = Done::Stepped(stepped);
                }
            }
        }
    }
    for chunk in chunks(&starts) {
        let moved = started(tx, chunk).await?;
        note(done, chunk.iter().map(|(at, job, ..)| (*at, *job)), moved);
    }
    for chunk in chunks(&ends) {
        let moved = ended(tx, chunk).await?;
        note(done, chunk.iter().map(|end| (end.at, end.job)), moved);
    }
    Ok(())
}

async fn started(
    tx: &mut Tx,
    starts: &[(usize, JobId, Attempt, &Start)],
) -> sqlx::Result<Vec<JobId>> {
    const JOBS: Spelt = same(
        "update jobs set state = 'running', started_us = v.column3, \
         placement = coalesce(v.column4, placement), events = events + 1 from (",
    );
    const STARTED: Spelt = Spelt {
        sqlite: ") as v where jobs.id = v.column1 and jobs.attempt = v.column2 \
                 and jobs.state = 'starting' returning jobs.id",
        postgres: ") as v where jobs.id = v.column1 and jobs.attempt = v.column2 \
                   and jobs.state = 'starting' returning jobs.id, jobs.events",
    };
    let spoken = Spoken::on(tx);
    on!(tx, |db| {
        let mut text = Text::new(spoken);
        text.add(
            "moved",
            JOBS,
            starts,
            |mut row, (_, job, attempt, start)| {
                row.push_bind(job.get())
                    .push_bind(i64::from(*attempt))
                    .push_bind(start.at.get())
                    .push_bind(start.placement.as_deref());
            },
            STARTED,
        );
        text.add(
            "events_in",
            EVENTS,
            starts,
            |mut row, (_, job, _, start)| {
                row.push_bind(job.get())
                    .push_bind(0_i64)
                    .push_bind(start.at.get())
                    .push_bind(State::Running.word())
                    .push_bind(None::<String>);
            },
            OF_EVENTS,
        );
        text.finish(MOVED).build_query_scalar().fetch_all(db).await
    })
}

/// A run's end, and its start where that was not recorded by itself.
struct End<'a> {
    /// Which change asked.
    at: usize,
    job: JobId,
    attempt: Attempt,
    start: Option<&'a Start>,
    ending: &'a Ending,
}

/// The kind of an event that says what people should know, and changes no state.
pub(super) const REMARK: &str = "remark";

/// A row of a job's history: job, how many follow, time, kind, detail.
type EventRow<'a> = (i64, i64, i64, &'static str, Option<Cow<'a, str>>);

impl<'a> End<'a> {
    /// Bytes of output that were not kept, if any.
    fn dropped_bytes(&self) -> Option<i64> {
        Some(self.ending.usage.dropped_bytes).filter(|bytes| *bytes > 0)
    }

    /// How many events it is.
    fn count(&self) -> i64 {
        1 + i64::from(self.start.is_some())
            + i64::from(self.ending.remark.is_some())
            + i64::from(self.dropped_bytes().is_some())
    }

    fn events(&self) -> impl Iterator<Item = EventRow<'a>> + use<'a> {
        let (job, ending) = (self.job.get(), self.ending);
        let at = ending.ended.get();
        let dropped = self.dropped_bytes().map(|bytes| {
            let detail = format!("{bytes} bytes of output were not kept");
            (job, 1, at, "output_dropped", Some(detail.into()))
        });
        let start = self.start.map(|start| start.at.get());
        let remark = ending.remark.map(|remark| {
            let at = ending.started.unwrap_or(ending.ended).get();
            let follow = 1 + i64::from(dropped.is_some());
            (job, follow, at, REMARK, Some(remark.into()))
        });
        let before = self.count() - 1;
        let running = start.map(|at| (job, before, at, State::Running.word(), None));
        let exception = ending.exception.as_ref();
        let note = exception.map(|exception| exception.note.as_str().into());
        let over = (job, 0, at, ending.state.word(), note);
        running
            .into_iter()
            .chain(remark)
            .chain(dropped)
            .chain([over])
    }
}

async fn ended(tx: &mut Tx, ends: &[End<'_>]) -> sqlx::Result<Vec<JobId>> {
    const JOBS: Spelt = same(
        "update jobs set state = v.column3, started_us = coalesce(v.column4, started_us), \
         ended_us = v.column5, wait_status = v.column6, exception_type = v.column7, \
         exception_severity = v.column8, exception_note = v.column9, \
         placement = coalesce(v.column10, placement), dropped_bytes = v.column11, \
         events = events + v.column12 from (",
    );
    const ENDED: Spelt = Spelt {
        sqlite: ") as v where jobs.id = v.column1 and jobs.attempt = v.column2 \
                 and jobs.state in ('starting', 'running') returning jobs.id",
        postgres: ") as v where jobs.id = v.column1 and jobs.attempt = v.column2 \
                   and jobs.state in ('starting', 'running') returning jobs.id, jobs.events",
    };
    const RUNS: Spelt = same(
        "update runs set started_us = v.column3, ended_us = v.column4, wait_status = v.column5, \
         user_us = v.column6, system_us = v.column7, max_rss_bytes = v.column8, \
         output_bytes = v.column9, dropped_bytes = v.column10 from (",
    );
    const OF_RUNS: Spelt = same(
        ") as v where runs.job_id = v.column1 and runs.position = 0 \
         and runs.attempt = v.column2 and runs.ended_us is null",
    );
    let spoken = Spoken::on(tx);
    on!(tx, |db| {
        let mut text = Text::new(spoken);
        text.add(
            "moved",
            JOBS,
            ends,
            |mut row, end| {
                let ending = end.ending;
                let exception = ending.exception.as_ref();
                let placement = end.start.and_then(|start| start.placement.as_deref());
                row.push_bind(end.job.get())
                    .push_bind(i64::from(end.attempt))
                    .push_bind(ending.state.word())
                    .push_bind(ending.started.map(Micros::get))
                    .push_bind(ending.ended.get())
                    .push_bind(ending.wait_status.map(i64::from))
                    .push_bind(exception.map(|exception| exception.kind.as_str()))
                    .push_bind(exception.map(|exception| i64::from(exception.severity)))
                    .push_bind(exception.map(|exception| exception.note.as_str()))
                    .push_bind(placement)
                    .push_bind(end.dropped_bytes())
                    .push_bind(end.count());
            },
            ENDED,
        );
        text.add(
            "runs_in",
            RUNS,
            ends,
            |mut row, end| {
                let ending = end.ending;
                row.push_bind(end.job.get())
                    .push_bind(i64::from(end.attempt))
                    .push_bind(ending.started.map(Micros::get))
                    .push_bind(ending.ended.get())
                    .push_bind(ending.wait_status.map(i64::from))
                    .push_bind(ending.usage.user_us)
                    .push_bind(ending.usage.system_us)
                    .push_bind(ending.usage.max_rss_bytes)
                    .push_bind(ending.usage.output_bytes)
                    .push_bind(ending.usage.dropped_bytes);
            },
            OF_RUNS,
        );
        text.add(
            "events_in",
            EVENTS,
            ends.iter().flat_map(End::events),
            |mut row, (job, before, at, kind, detail)| {
                row.push_bind(job)
                    .push_bind(before)
                    .push_bind(at)
                    .push_bind(kind)
                    .push_bind(detail);
            },
            OF_EVENTS,
        );
        text.finish(MOVED).build_query_scalar().fetch_all(db).await
    })
}

async fn requeue(
    tx: &mut Tx,
    job: JobId,
    attempt: Attempt,
    tried: bool,
    at: Micros,
) -> sqlx::Result<bool> {
    const QUEUED: &str = "update jobs set state = 'queued', node = null, placement = null, \
        host = null, attempt = $3, events = events + 1 \
        where id = $1 and attempt = $2 and state = 'starting' and cancel_us is null \
        returning events";
    const CANCELLED: &str = "update jobs set state = 'cancelled', ended_us = $3, \
        exception_type = 'cancel', exception_severity = 0, exception_note = '', \
        events = events + 1 \
        where id = $1 and attempt = $2 and state = 'starting' returning events";
    const RUN: &str =
        "update runs set ended_us = $3 where job_id = $1 and position = 0 and attempt = $2";
    const NO_RUN: &str = "delete from runs where job_id = $1 and position = 0 and attempt = $2";
    let attempt = i64::from(attempt);
    let counted = attempt - i64::from(!tried);
    let queued: Option<i64> = on!(tx, |db| {
        sqlx::query_scalar(QUEUED)
            .bind(job)
            .bind(attempt)
            .bind(counted)
            .fetch_optional(db)
            .await
    })?;
    let (seq, state) = match queued {
        Some(seq) => (seq, State::Queued),
        // Who wants it cancelled was told that it will be.
        None => {
            let cancelled: Option<i64> = on!(tx, |db| {
                sqlx::query_scalar(CANCELLED)
                    .bind(job)
                    .bind(attempt)
                    .bind(at)
                    .fetch_optional(db)
                    .await
            })?;
            match cancelled {
                Some(seq) => (seq, State::Cancelled),
                None => return Ok(false),
            }
        }
    };
    on!(tx, |db| {
        let run = match tried {
            true => sqlx::query(RUN).bind(job).bind(attempt).bind(at),
            false => sqlx::query(NO_RUN).bind(job).bind(attempt),
        };
        run.execute(db).await.map(drop)
    })?;
    let kind = state.word();
    insert_event(
        tx,
        Event {
            job,
            seq,
            at,
            kind,
            detail: None,
        },
    )
    .await?;
    Ok(true)
}

/// Cancel jobs that wait; record the wish for those that run. Returns what
/// there is for the audit trail: a wish that came before changes nothing.
pub(super) async fn cancel(
    tx: &mut Tx,
    cancels: &[(usize, &Cancel)],
    done: &mut [Done],
) -> sqlx::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (at, cancel) in cancels {
        let (answer, changed) = cancel_one(tx, cancel).await?;
        if changed {
            rows.push(audit::cancelled(cancel));
        }
        if let Some(slot) = done.get_mut(*at) {
            *slot = Done::Cancel(answer);
        }
    }
    Ok(rows)
}

async fn cancel_one(tx: &mut Tx, cancel: &Cancel) -> sqlx::Result<(CancelAnswer, bool)> {
    const WAITING: &str = "update jobs set state = 'cancelled', cancel_us = $2, ended_us = $2, \
        exception_type = 'cancel', exception_severity = 0, exception_note = $3, \
        events = events + 1 where id = $1 and state = 'queued' returning events";
    const RUNNING: &str = "update jobs set cancel_us = $2, events = events + 1 \
        where id = $1 and state in ('starting', 'running') and cancel_us is null \
        returning events";
    const LOOK: &str = "select state, attempt from jobs where id = $1";
    let (job, at) = (cancel.job, cancel.at);
    let detail = || Some(format!("by {}", cancel.by.name));
    let waited: Option<i64> = on!(tx, |db| {
        sqlx::query_scalar(WAITING)
            .bind(job)
            .bind(at)
            .bind(cancel.note.as_str())
            .fetch_optional(db)
            .await
    })?;
    if let Some(seq) = waited {
        let event = Event {
            job,
            seq,
            at,
            kind: State::Cancelled.word(),
            detail: detail(),
        };
        insert_event(tx, event).await?;
        return Ok((CancelAnswer::Cancelled, true));
    }
    let asked: Option<i64> = on!(tx, |db| {
        sqlx::query_scalar(RUNNING)
            .bind(job)
            .bind(at)
            .fetch_optional(db)
            .await
    })?;
    if let Some(seq) = asked {
        let event = Event {
            job,
            seq,
            at,
            kind: "cancel_requested",
            detail: detail(),
        };
        insert_event(tx, event).await?;
    }
    let found: Option<(String, i64)> = on!(tx, |db| sqlx::query_as(LOOK)
        .bind(job)
        .fetch_optional(db)
        .await)?;
    let answer = match found {
        None => CancelAnswer::Unknown,
        Some((state, attempt)) if state == "starting" || state == "running" => {
            CancelAnswer::Requested(Attempt::try_from(attempt).unwrap_or_default())
        }
        Some(_) => CancelAnswer::Ended,
    };
    Ok((answer, asked.is_some()))
}
