//! Which job starts next. Strict order, with backfill: a job may overtake
//! the first one that does not fit only where its time limit shows that it
//! cannot delay it. Source: EASY backfilling (Lifka, 1995).

use std::time::{Duration, Instant};

use super::pool::Pool;
use super::waitlist::Waiting;
use crate::engine::Placement;
use crate::model::{Footprint, JobId};

/// How far down the queue to look for jobs that fit a gap.
const DEPTH: usize = 1000;

/// A job that runs, as far as choosing needs to know it.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    /// What it holds.
    pub(super) footprint: Footprint,
    /// Exactly what it holds.
    pub(super) placement: Placement,
    /// When its time limit ends it at the latest; `None` where it has none.
    pub(super) until: Option<Instant>,
}

/// The next job to start and its place; `None` where nothing may start now.
pub(super) fn next<'a>(
    waiting: impl Iterator<Item = &'a Waiting>,
    running: impl Iterator<Item = &'a Holder> + Clone,
    pool: &Pool,
    now: Instant,
) -> Option<JobId> {
    if pool.is_full() {
        return None;
    }
    let mut waiting = waiting.take(DEPTH);
    let head = waiting.next()?;
    if pool.fits(head.footprint) {
        return Some(head.id);
    }
    let shadow = shadow(head.footprint, running, pool.clone());
    waiting
        .filter(|job| pool.fits(job.footprint))
        .find(|job| match (&shadow, job.time_limit_s) {
            (_, 0) => false,
            (None, _) => true,
            (Some(at), limit) => now
                .checked_add(Duration::from_secs(limit))
                .is_some_and(|end| end <= *at),
        })
        .map(|job| job.id)
}

/// When enough will be free for `head` at the latest; `None` where a job
/// without a limit stands in the way, so that nobody can say.
fn shadow<'a>(
    head: Footprint,
    running: impl Iterator<Item = &'a Holder>,
    mut pool: Pool,
) -> Option<Instant> {
    let mut ends: Vec<_> = running.filter_map(|job| Some((job.until?, job))).collect();
    ends.sort_by_key(|(until, _)| *until);
    for (until, job) in ends {
        pool.put(job.footprint, job.placement.clone());
        if pool.fits(head) {
            return Some(until);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Capacity, Stamp};

    fn footprint(cores: u32) -> Footprint {
        Footprint {
            tasks: cores,
            cores_per_task: 1,
            gpus_per_task: 0,
            memory_bytes: 0,
            exclusive: false,
        }
    }

    fn waiting(id: i64, cores: u32, time_limit_s: u64) -> Waiting {
        Waiting {
            id: JobId::new(id).unwrap(),
            urgency: 16,
            attempts: 0,
            footprint: footprint(cores),
            time_limit_s,
            task: None,
            stamp: Stamp::default(),
        }
    }

    /// Four cores, two of them held by a job that ends in 100 s at the latest.
    fn half_full(now: Instant, limit: Option<u64>) -> (Pool, Vec<Holder>) {
        let mut pool = Pool::new(
            Capacity {
                cores: 4,
                gpus: 0,
                memory_bytes: 0,
            },
            &[0, 1, 2, 3],
        );
        let placement = pool.take(footprint(2)).unwrap();
        let until = limit.map(|limit| now + Duration::from_secs(limit));
        (
            pool,
            vec![Holder {
                footprint: footprint(2),
                placement,
                until,
            }],
        )
    }

    fn pick(jobs: &[Waiting], limit: Option<u64>) -> Option<i64> {
        let now = Instant::now();
        let (pool, running) = half_full(now, limit);
        next(jobs.iter(), running.iter(), &pool, now).map(JobId::get)
    }

    #[test]
    fn the_first_job_starts_when_it_fits() {
        assert_eq!(
            pick(&[waiting(1, 2, 0), waiting(2, 1, 0)], Some(100)),
            Some(1)
        );
    }

    #[test]
    fn a_short_job_fills_the_gap_before_a_wide_one() {
        assert_eq!(
            pick(&[waiting(1, 4, 0), waiting(2, 1, 99)], Some(100)),
            Some(2)
        );
    }

    #[test]
    fn a_job_that_could_delay_the_first_waits() {
        assert_eq!(
            pick(&[waiting(1, 4, 0), waiting(2, 1, 101)], Some(100)),
            None
        );
        assert_eq!(pick(&[waiting(1, 4, 0), waiting(2, 1, 0)], Some(100)), None);
    }

    #[test]
    fn only_jobs_with_a_limit_overtake_where_nobody_knows_the_end() {
        let jobs = [waiting(1, 4, 0), waiting(2, 1, 0), waiting(3, 1, 5)];
        assert_eq!(pick(&jobs, None), Some(3));
    }
}
