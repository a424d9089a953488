//! Multi-user mode: every job is by a warrant of its own, and runs as its
//! user. Between asking for a job and the answer are the warrant, which the
//! auth service makes, and its admission, which the shim writes down before
//! the broker writes down the job.

use std::time::Duration;

use super::memory;
use super::start::{self, Starts};
use super::submit::{self, Submits};
use super::{Bench, PART_MULTI};
use crate::ground::Ground;
use crate::house::Database;
use crate::report::Table;
use crate::village::{Plan, Village};

const P50_AIM: Duration = Duration::from_micros(800);
const RATE_AIM: f64 = 3000.0;
/// The shim's journal, and the broker's store.
const FLUSHES: u32 = 2;

/// Measure all of it on one database, and show each table.
///
/// Errors: an installation cannot be had, or answers what it should not.
pub(crate) async fn measure(
    bench: &Bench,
    database: &Database,
    mut show: impl FnMut(Table),
) -> anyhow::Result<()> {
    let on = database.name();
    let mut resident = memory::table(PART_MULTI, format!("multi-user memory, {on}"));
    let has_pam = Ground::has_pam();
    let plan = Plan {
        cores: Some(1),
        pam: has_pam,
    };
    let mut village = Village::open(&bench.site, database, plan).await?;
    memory::look(&mut resident, &village.process_ids(), "after start", false)?;
    village.hold_machine().await?;
    let what = Submits {
        part: PART_MULTI,
        title: format!("multi-user submit, {on}"),
        flushes: FLUSHES,
        p50_aim: P50_AIM,
        rate_aim: RATE_AIM,
    };
    show(submit::measure(bench, &village.door, what).await?);
    let processes = village.process_ids();
    memory::look(&mut resident, &processes, "after the submits", false)?;
    village.close().await?;

    let sessions = [(true, "with PAM"), (false, "without PAM")];
    for (pam, words) in sessions.into_iter().filter(|(pam, _)| !pam || has_pam) {
        let plan = Plan { cores: None, pam };
        let village = Village::open(&bench.site, database, plan).await?;
        let what = Starts {
            part: PART_MULTI,
            title: format!("multi-user start, {words}, {on}"),
            visible_aim: None,
            rate_aim: None,
        };
        show(start::measure(bench, &village.door, what).await?);
        let when = format!("after the jobs, {words}");
        memory::look(&mut resident, &village.process_ids(), &when, false)?;
        village.close().await?;
    }
    show(resident);
    Ok(())
}
