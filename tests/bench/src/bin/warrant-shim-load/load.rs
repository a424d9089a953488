//! What the shim is asked to do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use warrant_wire::{Cause, Report, RunFile, RunId};

use crate::At;
use crate::clock::{self, us};
use crate::shim::Shim;
use crate::signer::Signer;

/// Jobs that are started at a time where it does not matter.
const AT_A_TIME: u64 = 32;

impl At {
    fn open(&self) -> anyhow::Result<(Shim, Signer)> {
        let signer = Signer::new(&self.key, &self.user, self.uid, &self.command)?;
        Ok((Shim::connect(&self.socket)?, signer))
    }

    fn runs(&self) -> impl Iterator<Item = RunId> + use<> {
        (self.first..self.first.saturating_add(self.count)).map(run)
    }
}

fn run(job: u64) -> RunId {
    RunId {
        job,
        task: 0,
        attempt: 1,
    }
}

/// How long each of these took.
#[derive(Default)]
struct Took {
    admit: Vec<f64>,
    again: Vec<f64>,
    unknown: Vec<f64>,
    prepared: Vec<f64>,
    first: Vec<f64>,
    over: Vec<f64>,
}

/// Jobs one after another, of a program that writes down when it starts:
///
/// - `admit`: from asking for an admission until it is granted;
/// - `again`: the same for the same warrant, which needs no journal;
/// - `unknown`: from asking for the start of a job that was not admitted
///   until it is refused;
/// - `prepared`: from asking for the start until the keeper has made
///   everything ready and says so;
/// - `first`: until the first instruction of the program;
/// - `over`: until the job's end is reported.
pub(crate) fn starts(at: &At) -> anyhow::Result<Value> {
    let (mut shim, signer) = at.open()?;
    let mut took = Took::default();
    for run in at.runs() {
        let admit = signer.admit(run)?;
        for times in [&mut took.admit, &mut took.again] {
            let asked = clock::monotonic()?;
            shim.send(&admit)?;
            let report = shim.report()?;
            ensure!(report == Report::Admitted { run }, "{report:?}");
            times.push(us(asked, clock::monotonic()?));
        }

        let nobodys = RunId { task: 1, ..run };
        let asked = clock::monotonic()?;
        shim.start(nobodys)?;
        let report = shim.report()?;
        let is_refused = matches!(report, Report::NotStarted { run, .. } if run == nobodys);
        ensure!(is_refused, "a job without a warrant: {report:?}");
        took.unknown.push(us(asked, clock::monotonic()?));

        let (asked_wall, asked) = (clock::wall()?, clock::monotonic()?);
        shim.start(run)?;
        let report = shim.report()?;
        let Report::Started { started_us, .. } = report else {
            bail!("{report:?}");
        };
        let prepared = Duration::from_micros(started_us);
        end(&shim.report()?)?;
        let over = clock::monotonic()?;
        let output = at.spool.join(run.spool_path(RunFile::Output));
        took.prepared.push(us(asked_wall, prepared));
        took.first.push(us(asked, read_stamp(&output)?));
        took.over.push(us(asked, over));
    }
    Ok(json!({
        "admit": took.admit,
        "again": took.again,
        "unknown": took.unknown,
        "prepared": took.prepared,
        "first": took.first,
        "over": took.over,
    }))
}

/// Errors: it is not the end of a job that ended well.
fn end(report: &Report) -> anyhow::Result<()> {
    let Report::Ended { outcome, .. } = report else {
        bail!("{report:?}");
    };
    let is_well = outcome.cause == Cause::Exited && outcome.wait_status == 0;
    ensure!(is_well, "{report:?}");
    Ok(())
}

fn read_stamp(output: &Path) -> anyhow::Result<Duration> {
    let written = std::fs::read(output).context("the output of a job")?;
    clock::stamp(&written).with_context(|| {
        let text = String::from_utf8_lossy(&written).into_owned();
        format!("a job wrote no time: {text}")
    })
}

/// Jobs from their admission to their end, `window` at a time; tells how many
/// `seconds` all of them take. The warrants are made beforehand.
pub(crate) fn rate(at: &At, window: u64) -> anyhow::Result<Value> {
    let (mut shim, signer) = at.open()?;
    let admits: Vec<_> = at
        .runs()
        .map(|run| signer.admit(run))
        .collect::<Result<_, _>>()?;
    let began = clock::monotonic()?;
    let mut next = admits.iter();
    for admit in next.by_ref().take(usize::try_from(window)?) {
        shim.send(admit)?;
    }
    let mut ended = 0;
    while ended < at.count {
        let report = shim.report()?;
        if let Report::Admitted { run } = report {
            shim.start(run)?;
        } else if !matches!(report, Report::Started { .. }) {
            end(&report)?;
            ended += 1;
            if let Some(admit) = next.next() {
                shim.send(admit)?;
            }
        }
    }
    Ok(json!({"seconds": us(began, clock::monotonic()?) / 1e6}))
}

/// Jobs that go on until something outside ends all of them.
pub(crate) fn hold(at: &At) -> anyhow::Result<Value> {
    let (mut shim, signer) = at.open()?;
    let mut runs = at.runs();
    for run in runs.by_ref().take(usize::try_from(AT_A_TIME)?) {
        shim.send(&signer.admit(run)?)?;
    }
    let mut started = 0;
    while started < at.count {
        let report = shim.report()?;
        if let Report::Admitted { run } = report {
            shim.start(run)?;
        } else {
            ensure!(matches!(report, Report::Started { .. }), "{report:?}");
            started += 1;
            if let Some(run) = runs.next() {
                shim.send(&signer.admit(run)?)?;
            }
        }
    }
    for _ in 0..at.count {
        end(&shim.report()?)?;
    }
    Ok(json!({"jobs": at.count}))
}
