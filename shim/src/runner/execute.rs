//! Reading the launch and doing what it says, as the user.

use std::convert::Infallible;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use warrant_wire::Launch;

use super::{CANNOT_EXECUTE, Crew, Failure, environment, program, redirect, template, workdir};

/// Reads the launch and becomes what it says.
pub(super) fn launch(crew: &Crew<'_>, rank: u16) -> Result<Infallible, Failure> {
    let mut launch = Launch::decode(&crew.order.launch)
        .map_err(|malformed| Failure::new(CANNOT_EXECUTE, &[malformed.to_string().as_bytes()]))?;
    if !crew.order.placement.cores.is_empty() {
        bind_to(&crew.order.placement.cores);
    }
    let has_base = workdir::enter(&launch, crew)?;
    template::expand(&mut launch, crew, rank);
    redirect::redirect(&launch, has_base)?;
    let environment = environment::build(&launch.env, crew, rank);
    // The monitor's mask lets nothing through; the program's everything.
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| program::cannot_execute(b"signals", errno))?;
    program::execute(&launch.argv, &environment, crew.user.is_some())
}

/// Binds to these cores. A machine that has none of them any more is no
/// reason not to run.
fn bind_to(cores: &[u16]) {
    let mut set = CpuSet::new();
    for core in cores {
        let _ = set.set(usize::from(*core));
    }
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}
