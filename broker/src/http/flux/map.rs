//! Between this dialect's bodies and the job model.

use warrant_api::flux::{
    Annotations, ExceptionInfo, JobDetails, JobInfo, SchedAnnotation, UsageInfo,
};

use crate::model::{Details, Dialect, Job, JobSpec, Micros, State, TaskSpec};

/// Flux's urgency for a job that says nothing.
const URGENCY: u8 = 16;

/// A task as a job of this dialect.
pub(super) fn spec(task: TaskSpec) -> JobSpec {
    let program = task.argv.first().map(String::as_str).unwrap_or_default();
    let name = program
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(program);
    JobSpec {
        name: name.to_owned(),
        dialect: Dialect::Flux,
        urgency: URGENCY,
        task,
    }
}

/// Flux's name of a state.
const fn state(state: State) -> &'static str {
    match state {
        // Flux's RUN has a start: a job that is about to start has none yet.
        State::Queued | State::Starting => "SCHED",
        State::Running => "RUN",
        State::Completed | State::Failed | State::TimedOut | State::Cancelled => "INACTIVE",
    }
}

/// Flux's number of a state. Source: flux-core's job.h.
const fn state_number(state: State) -> u32 {
    match state {
        State::Queued | State::Starting => 8,
        State::Running => 16,
        State::Completed | State::Failed | State::TimedOut | State::Cancelled => 64,
    }
}

/// Flux's name of a result; empty while there is none.
const fn result(state: State) -> &'static str {
    match state {
        State::Queued | State::Starting | State::Running => "",
        State::Completed => "COMPLETED",
        State::Failed => "FAILED",
        State::TimedOut => "TIMEOUT",
        State::Cancelled => "CANCELED",
    }
}

/// Flux's number of a result. Source: flux-core's job.h.
const fn result_number(state: State) -> Option<u32> {
    match state {
        State::Queued | State::Starting | State::Running => None,
        State::Completed => Some(1),
        State::Failed => Some(2),
        State::Cancelled => Some(4),
        State::TimedOut => Some(8),
    }
}

/// The everyday word for a state, as `warrant jobs` shows it.
const fn everyday(state: State) -> &'static str {
    match state {
        State::Queued | State::Starting => "QUEUED",
        State::Running => "RUNNING",
        State::Completed => "COMPLETED",
        State::Failed => "FAILED",
        State::TimedOut => "TIMEOUT",
        State::Cancelled => "CANCELLED",
    }
}

/// The states whose names, Flux's or the everyday ones, hold `text`, letter
/// case aside.
pub(super) fn states_named(text: &str) -> Vec<State> {
    let text = text.to_uppercase();
    let named = |s: &State| {
        let names = [state(*s), result(*s), everyday(*s)];
        names.into_iter().any(|name| name.contains(&text))
    };
    State::ALL.into_iter().filter(named).collect()
}

/// A wait(2) status as Flux's job shell reports it: a process that a signal
/// ended exits with 128 and the signal's number.
fn shell_status(status: i32) -> i32 {
    match status & 0x7f {
        0 => status & 0xff00,
        signal => (128 + signal) << 8,
    }
}

/// A job as this dialect shows it. `server` is the account that jobs run as
/// where they do not run as their owner.
pub(super) fn info(job: &Job, server: u32, now: Micros) -> JobInfo {
    let over = job.state.is_final();
    let submitted = job.submitted.seconds();
    let started = job.started.map(Micros::seconds);
    let ended = job.ended.map(Micros::seconds);
    let placed = job.node.is_some() && started.is_some();
    let exception = job.exception.as_ref();
    let status = job.wait_status.map(shell_status);
    let returncode = match (job.state, status) {
        (_, Some(status)) if over => Some(status >> 8),
        (State::Cancelled, _) => Some(-128),
        (State::Failed | State::TimedOut, _) => Some(1),
        (State::Completed, _) => Some(0),
        (State::Queued | State::Starting | State::Running, _) => None,
    };
    let expiration = match (started, job.time_limit_s) {
        (None, _) => None,
        (Some(_), 0) => Some(0.0),
        (Some(at), limit) => Some(at + limit as f64),
    };
    JobInfo {
        id: job.id.get(),
        userid: job.owner.uid.unwrap_or(server),
        username: job.owner.name.clone(),
        urgency: job.urgency,
        priority: job.urgency,
        t_submit: submitted,
        t_depend: submitted,
        t_priority: submitted,
        t_sched: submitted,
        t_run: started,
        t_cleanup: ended,
        t_inactive: ended,
        state: state(job.state).into(),
        name: job.name.clone(),
        cwd: job.workdir.clone(),
        ntasks: job.tasks,
        ncores: job.cores,
        duration: job.time_limit_s as f64,
        nnodes: placed.then_some(1).into(),
        ranks: if placed { "0".into() } else { String::new() },
        nodelist: job.node.clone().filter(|_| placed).unwrap_or_default(),
        success: over.then_some(job.state == State::Completed),
        exception_occurred: over.then_some(exception.is_some()),
        exception_type: exception.map(|exception| exception.kind.clone()),
        exception_severity: exception.map(|exception| exception.severity),
        exception_note: exception.map(|exception| exception.note.clone()),
        result: result(job.state).into(),
        expiration: expiration.into(),
        annotations: job.placement.as_deref().filter(|_| placed).map(annotations),
        waitstatus: status.filter(|_| over).into(),
        returncode: returncode.into(),
        runtime: job.runtime(now),
        notes: Vec::new(),
        dropped_bytes: job.dropped_bytes,
        exception: ExceptionInfo {
            occurred: over.then_some(exception.is_some()).into(),
            severity: exception.map(|exception| exception.severity).into(),
            kind: exception
                .map(|exception| exception.kind.clone())
                .unwrap_or_default(),
            note: exception
                .map(|exception| exception.note.clone())
                .unwrap_or_default(),
        },
    }
}

fn annotations(placement: &str) -> Annotations {
    let (cores, gpus) = placement.split_once(";gpu:").unwrap_or((placement, ""));
    let several = cores.contains([',', '-']);
    let cores = if several {
        format!("core[{cores}]")
    } else {
        format!("core{cores}")
    };
    let gpus = match gpus {
        "" => String::new(),
        gpus if gpus.contains([',', '-']) => format!(",gpu[{gpus}]"),
        gpu => format!(",gpu{gpu}"),
    };
    Annotations {
        sched: SchedAnnotation {
            resource_summary: format!("rank0/{cores}{gpus}"),
        },
    }
}

/// One job, with what lists leave out where that is asked for.
pub(super) fn details(info: JobInfo, more: Option<Details>) -> JobDetails {
    let seconds = |micros: i64| micros as f64 / 1e6;
    let (command, usage) = more.map_or((None, None), |more| (Some(more.command), more.usage));
    JobDetails {
        info,
        command,
        usage: usage.map(|usage| UsageInfo {
            user_s: seconds(usage.user_us),
            system_s: seconds(usage.system_us),
            max_rss_bytes: usage.max_rss_bytes,
            output_bytes: usage.output_bytes,
            dropped_bytes: usage.dropped_bytes,
        }),
    }
}

/// The form of the first user guide: wrapped, with states as numbers. It is
/// added to the flat form under `job`.
pub(super) fn with_legacy(info: &JobDetails, job: &Job) -> serde_json::Result<serde_json::Value> {
    let mut flat = serde_json::to_value(info)?;
    let mut wrapped = flat.clone();
    if let Some(fields) = wrapped.as_object_mut() {
        fields.insert("state".into(), state_number(job.state).into());
        match result_number(job.state) {
            Some(number) => drop(fields.insert("result".into(), number.into())),
            None => drop(fields.remove("result")),
        }
        fields.retain(|_, value| value.as_str() != Some(""));
    }
    if let Some(fields) = flat.as_object_mut() {
        fields.insert("job".into(), wrapped);
    }
    Ok(flat)
}
