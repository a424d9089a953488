//! What the broker counts and measures, for Prometheus. No name of a user, a job or a
//! file is in it, and every label has few values.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::model::State;

/// The upper ends of the classes of durations, in seconds.
const DURATIONS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];
/// The upper ends of the classes of numbers of changes in one commit.
const BATCHES: [f64; 6] = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0];

/// Every metric. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Route, Histogram>,
    submitted: Counter,
    started: Counter,
    launches: Histogram,
    ended: Family<Outcome, Counter>,
    queued: Gauge,
    queued_bytes: Gauge,
    running: Gauge,
    dropped: Counter,
    commits: Histogram,
    batches: Histogram,
    failed_commits: Counter,
    lost_rows: Counter,
    refusals: Counter,
    reconnections: Counter,
    connections: Gauge,
    free: Family<Place, Gauge>,
    ready: Family<Named, Gauge<u64, AtomicU64>>,
}

/// The answers of one route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: &'static str,
    status: u16,
}

/// A route, as it is declared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Ended {
    Completed,
    Failed,
    TimedOut,
    Canceled,
}

/// A directory that must have room.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    place: &'static str,
}

/// Something that the broker needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    part: &'static str,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("warrant"),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            submitted: Counter::default(),
            started: Counter::default(),
            launches: durations(),
            ended: Family::default(),
            queued: Gauge::default(),
            queued_bytes: Gauge::default(),
            running: Gauge::default(),
            dropped: Counter::default(),
            commits: durations(),
            batches: Histogram::new(BATCHES),
            failed_commits: Counter::default(),
            lost_rows: Counter::default(),
            refusals: Counter::default(),
            reconnections: Counter::default(),
            connections: Gauge::default(),
            free: Family::default(),
            ready: Family::default(),
        };
        inner.register_http();
        inner.register_jobs();
        inner.register_store();
        inner.register_parts();
        Self(Arc::new(inner))
    }

    /// The text that Prometheus reads. Source: OpenMetrics 1.0.
    ///
    /// Errors: never, in fact: a text takes all that is written to it.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    /// A request was answered; `route` is as it is declared.
    pub fn answered(&self, method: &'static str, route: &'static str, status: u16, took: Duration) {
        let answered = Answered {
            method,
            route,
            status,
        };
        self.0.requests.get_or_create(&answered).inc();
        let durations = self.0.durations.get_or_create(&Route { route });
        durations.observe(took.as_secs_f64());
    }

    /// A job was accepted.
    pub(crate) fn submitted(&self) {
        self.0.submitted.inc();
    }

    /// A job's first process exists, so long after the job was chosen to start.
    pub(crate) fn started(&self, took: Duration) {
        self.0.started.inc();
        self.0.launches.observe(took.as_secs_f64());
    }

    /// A job ended in `state`, and this many bytes of its output were not kept.
    pub(crate) fn ended(&self, state: State, dropped_bytes: u64) {
        let result = match state {
            State::Completed => Ended::Completed,
            State::TimedOut => Ended::TimedOut,
            State::Cancelled => Ended::Canceled,
            State::Failed | State::Queued | State::Starting | State::Running => Ended::Failed,
        };
        self.0.ended.get_or_create(&Outcome { result }).inc();
        self.0.dropped.inc_by(dropped_bytes);
    }

    /// So many jobs are starting or running.
    pub(crate) fn running(&self, jobs: usize) {
        self.0.running.set(i64::try_from(jobs).unwrap_or(i64::MAX));
    }

    /// So many jobs wait, and their definitions have so many bytes.
    pub(crate) fn queued(&self, jobs: u64, bytes: u64) {
        let whole = |number| i64::try_from(number).unwrap_or(i64::MAX);
        self.0.queued.set(whole(jobs));
        self.0.queued_bytes.set(whole(bytes));
    }

    /// The store took so many changes in one commit; `done` says whether it held.
    pub(crate) fn committed(&self, changes: usize, took: Duration, done: bool) {
        self.0.commits.observe(took.as_secs_f64());
        self.0
            .batches
            .observe(f64::from(u32::try_from(changes).unwrap_or(u32::MAX)));
        if !done {
            self.0.failed_commits.inc();
        }
    }

    /// A row of the audit trail could not be written.
    pub(crate) fn lost_row(&self) {
        self.0.lost_rows.inc();
    }

    /// Refusals were counted in the audit trail instead of having a row each.
    pub(crate) fn counted_refusals(&self, refusals: u64) {
        self.0.refusals.inc_by(refusals);
    }

    /// The connection to the shim was lost, or it did not answer.
    pub(crate) fn reconnected(&self) {
        self.0.reconnections.inc();
    }

    /// So many connections are open.
    pub(crate) fn connections(&self, open: u32) {
        self.0.connections.set(open.into());
    }

    /// A directory's disk has so many bytes left.
    pub(crate) fn free(&self, place: &'static str, bytes: u64) {
        let free = self.0.free.get_or_create(&Place { place });
        free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether a part that the broker needs is there.
    pub(crate) fn ready(&self, part: &'static str, is_ready: bool) {
        let ready = self.0.ready.get_or_create(&Named { part });
        ready.set(u64::from(is_ready));
    }
}

impl Inner {
    fn register_http(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "http_requests",
            "Requests answered, by method, route and status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head to the head of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "connections",
            "Open connections to the main listener",
            self.connections.clone(),
        );
    }

    fn register_jobs(&mut self) {
        let registry = &mut self.registry;
        registry.register("jobs_submitted", "Jobs accepted", self.submitted.clone());
        registry.register(
            "jobs_started",
            "Jobs of which a process was started",
            self.started.clone(),
        );
        registry.register(
            "jobs_ended",
            "Jobs that ended, by result",
            self.ended.clone(),
        );
        registry.register("jobs_queued", "Jobs that wait", self.queued.clone());
        registry.register_with_unit(
            "jobs_queued",
            "Size of the definitions of the jobs that wait",
            Unit::Bytes,
            self.queued_bytes.clone(),
        );
        registry.register(
            "jobs_running",
            "Jobs that are starting or running",
            self.running.clone(),
        );
        registry.register_with_unit(
            "job_launch_duration",
            "Time from the choice of a job to its first process",
            Unit::Seconds,
            self.launches.clone(),
        );
        registry.register_with_unit(
            "output_dropped",
            "Output that was not kept: beyond a limit, or the disk was full",
            Unit::Bytes,
            self.dropped.clone(),
        );
    }

    fn register_store(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "store_commit_duration",
            "Time that the store's database took for a commit",
            Unit::Seconds,
            self.commits.clone(),
        );
        registry.register(
            "store_commit_changes",
            "Changes in one commit",
            self.batches.clone(),
        );
        registry.register(
            "store_commits_failed",
            "Commits that the store's database refused or did not answer",
            self.failed_commits.clone(),
        );
        registry.register(
            "audit_rows_lost",
            "Rows of the audit trail that could not be written",
            self.lost_rows.clone(),
        );
        registry.register(
            "audit_refusals_counted",
            "Refusals that the audit trail holds as a number instead of a row each",
            self.refusals.clone(),
        );
    }

    fn register_parts(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "shim_reconnections",
            "Connections to the shim that ended, or were not answered",
            self.reconnections.clone(),
        );
        registry.register_with_unit(
            "disk_free",
            "Room on the disk of a directory",
            Unit::Bytes,
            self.free.clone(),
        );
        registry.register(
            "ready",
            "Whether a part that the broker needs is there (1) or not (0)",
            self.ready.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text_and_nothing_else_is() {
        let metrics = Metrics::new();
        metrics.submitted();
        metrics.ended(State::Cancelled, 7);
        metrics.answered("GET", "/v1/jobs/{jobid}", 404, Duration::from_millis(3));
        metrics.ready("store", true);
        let text = metrics.text().unwrap();
        for line in [
            "warrant_jobs_submitted_total 1",
            "warrant_jobs_ended_total{result=\"Canceled\"} 1",
            "warrant_output_dropped_bytes_total 7",
            "warrant_http_requests_total{method=\"GET\",route=\"/v1/jobs/{jobid}\",status=\"404\"} 1",
            "warrant_ready{part=\"store\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
