//! What the audit trail is told beside the changes of jobs, which the store
//! records together with what they change.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use warrant_trail::{Allowance, Row};

use super::Jobs;
use crate::caller::Caller;
use crate::error::Result;
use crate::model::{JobId, Micros};
use crate::store::Store;

/// The most reads remembered.
const REMEMBERED: usize = 10_000;
/// Microseconds for which a read stands for those that follow it.
const MINUTE_US: i64 = 60_000_000;
/// How often refusals without a row are counted in one.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What is remembered so that the trail stays short.
#[derive(Debug)]
pub(super) struct Trace {
    store: Store,
    reads: Mutex<Reads>,
    refusals: Allowance,
}

/// Who read which job's output in this minute.
#[derive(Debug, Default)]
struct Reads {
    minute: i64,
    seen: HashSet<(JobId, String)>,
}

impl Reads {
    /// Whether a read of the caller's is recorded for this minute.
    fn has(&self, id: JobId, name: &str, now: Micros) -> bool {
        let minute = now.get().div_euclid(MINUTE_US);
        self.minute == minute && self.seen.contains(&(id, name.to_owned()))
    }

    /// One is recorded now.
    fn add(&mut self, id: JobId, name: &str, now: Micros) {
        let minute = now.get().div_euclid(MINUTE_US);
        if self.minute != minute || self.seen.len() >= REMEMBERED {
            self.minute = minute;
            self.seen.clear();
        }
        self.seen.insert((id, name.to_owned()));
    }
}

impl Trace {
    /// Nothing yet. Refusals beyond the allowance are counted now and then
    /// for as long as it lives.
    pub(super) fn start(store: Store) -> Arc<Self> {
        let trace = Arc::new(Self {
            store,
            reads: Mutex::default(),
            refusals: Allowance::new(Instant::now()),
        });
        let weak = Arc::downgrade(&trace);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(COUNT_EVERY).await;
                let Some(trace) = weak.upgrade() else { return };
                trace.count();
            }
        });
        trace
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) {
        let count = self.refusals.left_out();
        if count == 0 {
            return;
        }
        self.store.metrics().counted_refusals(count);
        let row = Row {
            time_us: Micros::now().get(),
            kind: "unrecorded".into(),
            outcome: "refused".into(),
            reason: Some(count.to_string()),
            source: "any".into(),
            ..Row::default()
        };
        if let Err(error) = self.store.note(row) {
            tracing::error!(%error, count, "refusals are not in the audit trail");
        }
    }

    fn refused(&self, row: Row) {
        let noted = self.refusals.take(Instant::now()) && self.store.note(row).is_ok();
        if !noted {
            self.refusals.leave_out();
        }
    }
}

/// Where a caller's request came from.
pub(super) fn source(caller: &Caller) -> String {
    caller
        .source
        .map_or_else(|| "local".into(), |address| address.to_string())
}

fn row(caller: &Caller, kind: &str, outcome: &str, id: Option<JobId>) -> Row {
    Row {
        time_us: Micros::now().get(),
        kind: kind.into(),
        outcome: outcome.into(),
        subject: Some(caller.name.clone()),
        uid: caller.uid.map(i64::from),
        source: source(caller),
        jti: caller.token_id(),
        job_id: id.map(JobId::get),
        ..Row::default()
    }
}

impl Jobs {
    /// Record that `caller` may not use `route`, for `reason`: one stable word.
    pub fn turned_away(&self, caller: &Caller, route: String, reason: &str) {
        let row = Row {
            reason: Some(reason.into()),
            detail: Some(route),
            ..row(caller, "access", "refused", None)
        };
        self.0.trace.refused(row);
    }

    /// Record that `caller` was refused, for `reason`: one stable word.
    pub(super) fn refused(&self, caller: &Caller, kind: &str, id: Option<JobId>, reason: &str) {
        let row = Row {
            reason: Some(reason.into()),
            ..row(caller, kind, "refused", id)
        };
        self.0.trace.refused(row);
    }

    /// Record that `caller` reads the job's output: once a minute, however
    /// often it is asked for. Returns when it is durable.
    ///
    /// Errors: the store is away, full or too busy: do not let it be read.
    pub(super) async fn reads(&self, caller: &Caller, id: JobId) -> Result<()> {
        let now = Micros::now();
        if self.0.trace.reads().has(id, &caller.name, now) {
            return Ok(());
        }
        let read = row(caller, "read", "granted", Some(id));
        self.0.store.record(read).await?;
        self.0.trace.reads().add(id, &caller.name, now);
        Ok(())
    }

    /// Record that `caller` stops the service. Returns when it is durable.
    ///
    /// Errors: the store is away, full or too busy.
    pub(super) async fn stops(&self, caller: &Caller) -> Result<()> {
        self.0
            .store
            .record(row(caller, "stop", "granted", None))
            .await
    }

    /// Count the refusals that have no row, at the end.
    pub(super) fn count_refusals(&self) {
        self.0.trace.count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_counts_once_a_minute_for_each_job_and_caller() {
        let mut reads = Reads::default();
        let mut is_first = |id, name: &str, now| {
            let first = !reads.has(id, name, now);
            reads.add(id, name, now);
            first
        };
        let at = |s: i64| Micros::new(s * 1_000_000);
        let (one, two) = (JobId::new(1).unwrap(), JobId::new(2).unwrap());
        assert!(is_first(one, "ann", at(60)));
        assert!(!is_first(one, "ann", at(119)));
        assert!(is_first(two, "ann", at(119)));
        assert!(is_first(one, "bob", at(119)));
        assert!(is_first(one, "ann", at(120)));
    }

    #[test]
    fn reads_of_very_many_jobs_take_bounded_room() {
        let mut reads = Reads::default();
        for n in 1..=i64::try_from(3 * REMEMBERED).unwrap() {
            reads.add(JobId::new(n).unwrap(), "ann", Micros::new(0));
            assert!(reads.seen.len() <= REMEMBERED);
        }
    }
}
