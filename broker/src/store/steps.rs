//! Moving jobs from state to state. Each move names the state it expects;
//! where the job is elsewhere, nothing is written. Every move is one event.

use std::collections::HashMap;

use sqlx::QueryBuilder;
use warrant_migrations::{Tx, on};

use super::changes::{Cancel, CancelAnswer, Claim, Done, Step};
use super::submit::chunks;
use crate::model::{Attempt, Ending, JobId, Micros, State};

/// One row of a job's history.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) job: JobId,
    pub(super) seq: i64,
    pub(super) at: Micros,
    pub(super) kind: &'static str,
    pub(super) detail: Option<String>,
}

/// Append events; their numbers come from the jobs' rows.
pub(super) async fn insert_events(tx: &mut Tx, events: &[Event]) -> sqlx::Result<()> {
    for chunk in chunks(events) {
        on!(tx, |db| {
            let mut insert =
                QueryBuilder::new("insert into events (job_id, seq, time_us, kind, detail) ");
            insert.push_values(chunk, |mut row, event| {
                row.push_bind(event.job.get())
                    .push_bind(event.seq)
                    .push_bind(event.at.get())
                    .push_bind(event.kind)
                    .push_bind(event.detail.as_deref());
            });
            insert.build().execute(db).await.map(drop)
        })?;
    }
    Ok(())
}

/// Jobs that a statement moved, with the number of the event that says so.
type Moved = HashMap<JobId, i64>;

/// Take queued jobs for running.
pub(super) async fn claim(
    tx: &mut Tx,
    claims: &[(usize, &Claim)],
    done: &mut [Done],
) -> sqlx::Result<()> {
    for chunk in chunks(claims) {
        let moved: Vec<(JobId, i64)> = on!(tx, |db| {
            let mut update = QueryBuilder::new(
                "update jobs set state = 'starting', attempt = v.column2, host = v.column3, \
                 node = v.column4, placement = v.column5, events = events + 1 from (",
            );
            update.push_values(chunk, |mut row, (_, claim)| {
                row.push_bind(claim.job.get())
                    .push_bind(i64::from(claim.attempt))
                    .push_bind(&claim.host)
                    .push_bind(&claim.node)
                    .push_bind(&claim.placement);
            });
            update.push(
                ") as v where jobs.id = v.column1 and jobs.state = 'queued' \
                 returning jobs.id, jobs.events",
            );
            update.build_query_as().fetch_all(db).await
        })?;
        let moved: Moved = moved.into_iter().collect();
        let taken: Vec<&Claim> = chunk
            .iter()
            .map(|(_, claim)| *claim)
            .filter(|claim| moved.contains_key(&claim.job))
            .collect();
        insert_runs(tx, &taken).await?;
        let events: Vec<Event> = taken
            .iter()
            .map(|claim| Event {
                job: claim.job,
                seq: moved.get(&claim.job).copied().unwrap_or_default(),
                at: claim.at,
                kind: "starting",
                detail: Some(format!("attempt {} on {}", claim.attempt, claim.node)),
            })
            .collect();
        insert_events(tx, &events).await?;
        for (at, claim) in chunk {
            if let Some(slot) = done.get_mut(*at) {
                *slot = Done::Stepped(moved.contains_key(&claim.job));
            }
        }
    }
    Ok(())
}

async fn insert_runs(tx: &mut Tx, claims: &[&Claim]) -> sqlx::Result<()> {
    for chunk in chunks(claims) {
        on!(tx, |db| {
            let mut insert = QueryBuilder::new(
                "insert into runs (job_id, position, attempt, engine, host, boot, claimed_us) ",
            );
            insert.push_values(chunk, |mut row, claim| {
                row.push_bind(claim.job.get())
                    .push_bind(0_i64)
                    .push_bind(i64::from(claim.attempt))
                    .push_bind(claim.engine)
                    .push_bind(&claim.host)
                    .push_bind(&claim.boot)
                    .push_bind(claim.at.get());
            });
            insert.build().execute(db).await.map(drop)
        })?;
    }
    Ok(())
}

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
                at: when,
            } => starts.push((*at, *job, *attempt, *when)),
            Step::Ended {
                job,
                attempt,
                ending,
            } => ends.push((*at, *job, *attempt, ending)),
            Step::Requeued {
                job,
                attempt,
                at: when,
            } => {
                let stepped = requeue(tx, *job, *attempt, *when).await?;
                if let Some(slot) = done.get_mut(*at) {
                    *slot = Done::Stepped(stepped);
                }
            }
        }
    }
    for chunk in chunks(&starts) {
        started(tx, chunk, done).await?;
    }
    for chunk in chunks(&ends) {
        ended(tx, chunk, done).await?;
    }
    Ok(())
}

async fn started(
    tx: &mut Tx,
    starts: &[(usize, JobId, Attempt, Micros)],
    done: &mut [Done],
) -> sqlx::Result<()> {
    let moved: Vec<(JobId, i64)> = on!(tx, |db| {
        let mut update = QueryBuilder::new(
            "update jobs set state = 'running', started_us = v.column3, events = events + 1 from (",
        );
        update.push_values(starts, |mut row, (_, job, attempt, at)| {
            row.push_bind(job.get())
                .push_bind(i64::from(*attempt))
                .push_bind(at.get());
        });
        update.push(
            ") as v where jobs.id = v.column1 and jobs.attempt = v.column2 \
             and jobs.state = 'starting' returning jobs.id, jobs.events",
        );
        update.build_query_as().fetch_all(db).await
    })?;
    let moved: Moved = moved.into_iter().collect();
    let events: Vec<Event> = starts
        .iter()
        .filter_map(|(_, job, _, at)| {
            let seq = *moved.get(job)?;
            Some(Event {
                job: *job,
                seq,
                at: *at,
                kind: "running",
                detail: None,
            })
        })
        .collect();
    insert_events(tx, &events).await?;
    for (at, job, _, _) in starts {
        if let Some(slot) = done.get_mut(*at) {
            *slot = Done::Stepped(moved.contains_key(job));
        }
    }
    Ok(())
}

async fn ended(
    tx: &mut Tx,
    ends: &[(usize, JobId, Attempt, &Ending)],
    done: &mut [Done],
) -> sqlx::Result<()> {
    let moved: Vec<(JobId, i64)> = on!(tx, |db| {
        let mut update = QueryBuilder::new(
            "update jobs set state = v.column3, started_us = coalesce(v.column4, started_us), \
             ended_us = v.column5, wait_status = v.column6, exception_type = v.column7, \
             exception_severity = v.column8, exception_note = v.column9, events = events + 1 from (",
        );
        update.push_values(ends, |mut row, (_, job, attempt, ending)| {
            let exception = ending.exception.as_ref();
            row.push_bind(job.get())
                .push_bind(i64::from(*attempt))
                .push_bind(ending.state.word())
                .push_bind(ending.started.map(Micros::get))
                .push_bind(ending.ended.get())
                .push_bind(ending.wait_status.map(i64::from))
                .push_bind(exception.map(|exception| exception.kind.as_str()))
                .push_bind(exception.map(|exception| i64::from(exception.severity)))
                .push_bind(exception.map(|exception| exception.note.as_str()));
        });
        update.push(
            ") as v where jobs.id = v.column1 and jobs.attempt = v.column2 \
             and jobs.state in ('starting', 'running') returning jobs.id, jobs.events",
        );
        update.build_query_as().fetch_all(db).await
    })?;
    let moved: Moved = moved.into_iter().collect();
    let over: Vec<_> = ends
        .iter()
        .filter(|(_, job, _, _)| moved.contains_key(job))
        .collect();
    if !over.is_empty() {
        for chunk in chunks(&over) {
            end_runs(tx, chunk).await?;
        }
    }
    let events: Vec<Event> = over
        .iter()
        .map(|(_, job, _, ending)| Event {
            job: *job,
            seq: moved.get(job).copied().unwrap_or_default(),
            at: ending.ended,
            kind: ending.state.word(),
            detail: ending
                .exception
                .as_ref()
                .map(|exception| exception.note.clone()),
        })
        .collect();
    insert_events(tx, &events).await?;
    for (at, job, _, _) in ends {
        if let Some(slot) = done.get_mut(*at) {
            *slot = Done::Stepped(moved.contains_key(job));
        }
    }
    Ok(())
}

async fn end_runs(tx: &mut Tx, ends: &[&(usize, JobId, Attempt, &Ending)]) -> sqlx::Result<()> {
    on!(tx, |db| {
        let mut update = QueryBuilder::new(
            "update runs set started_us = v.column3, ended_us = v.column4, wait_status = v.column5, \
             user_us = v.column6, system_us = v.column7, max_rss_bytes = v.column8, \
             output_bytes = v.column9, dropped_bytes = v.column10 from (",
        );
        update.push_values(ends, |mut row, (_, job, attempt, ending)| {
            row.push_bind(job.get())
                .push_bind(i64::from(*attempt))
                .push_bind(ending.started.map(Micros::get))
                .push_bind(ending.ended.get())
                .push_bind(ending.wait_status.map(i64::from))
                .push_bind(ending.usage.user_us)
                .push_bind(ending.usage.system_us)
                .push_bind(ending.usage.max_rss_bytes)
                .push_bind(ending.usage.output_bytes)
                .push_bind(ending.usage.dropped_bytes);
        });
        update.push(
            ") as v where runs.job_id = v.column1 and runs.position = 0 \
             and runs.attempt = v.column2",
        );
        update.build().execute(db).await.map(drop)
    })
}

async fn requeue(tx: &mut Tx, job: JobId, attempt: Attempt, at: Micros) -> sqlx::Result<bool> {
    const SQL: &str = "update jobs set state = 'queued', node = null, placement = null, \
        host = null, events = events + 1 \
        where id = $1 and attempt = $2 and state = 'starting' returning events";
    const RUN: &str =
        "update runs set ended_us = $3 where job_id = $1 and position = 0 and attempt = $2";
    let attempt = i64::from(attempt);
    let seq: Option<i64> = on!(tx, |db| {
        sqlx::query_scalar(SQL)
            .bind(job)
            .bind(attempt)
            .fetch_optional(db)
            .await
    })?;
    let Some(seq) = seq else { return Ok(false) };
    on!(tx, |db| {
        sqlx::query(RUN)
            .bind(job)
            .bind(attempt)
            .bind(at)
            .execute(db)
            .await
            .map(drop)
    })?;
    insert_events(
        tx,
        &[Event {
            job,
            seq,
            at,
            kind: "queued",
            detail: None,
        }],
    )
    .await?;
    Ok(true)
}

/// Cancel jobs that wait; record the wish for those that run.
pub(super) async fn cancel(
    tx: &mut Tx,
    cancels: &[(usize, &Cancel)],
    done: &mut [Done],
) -> sqlx::Result<()> {
    for (at, cancel) in cancels {
        let answer = cancel_one(tx, cancel).await?;
        if let Some(slot) = done.get_mut(*at) {
            *slot = Done::Cancel(answer);
        }
    }
    Ok(())
}

async fn cancel_one(tx: &mut Tx, cancel: &Cancel) -> sqlx::Result<CancelAnswer> {
    const WAITING: &str = "update jobs set state = 'cancelled', cancel_us = $2, ended_us = $2, \
        exception_type = 'cancel', exception_severity = 0, exception_note = '', \
        events = events + 1 where id = $1 and state = 'queued' returning events";
    const RUNNING: &str = "update jobs set cancel_us = $2, events = events + 1 \
        where id = $1 and state in ('starting', 'running') and cancel_us is null \
        returning events";
    const LOOK: &str = "select state, attempt from jobs where id = $1";
    let (job, at) = (cancel.job, cancel.at);
    let detail = || Some(format!("by {}", cancel.by));
    let waited: Option<i64> = on!(tx, |db| {
        sqlx::query_scalar(WAITING)
            .bind(job)
            .bind(at)
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
        insert_events(tx, &[event]).await?;
        return Ok(CancelAnswer::Cancelled);
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
        insert_events(tx, &[event]).await?;
    }
    let found: Option<(String, i64)> = on!(tx, |db| sqlx::query_as(LOOK)
        .bind(job)
        .fetch_optional(db)
        .await)?;
    Ok(match found {
        None => CancelAnswer::Unknown,
        Some((state, attempt)) if state == "starting" || state == "running" => {
            CancelAnswer::Requested(Attempt::try_from(attempt).unwrap_or_default())
        }
        Some(_) => CancelAnswer::Ended,
    })
}
