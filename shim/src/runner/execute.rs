//! Reading the launch and doing what it says, as the user.

use std::convert::Infallible;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use warrant_wire::{Launch, StartDir};

use super::{
    AT_HOME, CANNOT_EXECUTE, Crew, Failure, IN_TMP, environment, program, redirect, say, template,
    workdir,
};

/// Reads the launch and becomes what it says.
pub(super) fn launch(crew: &Crew<'_>, rank: u16) -> Result<Infallible, Failure> {
    let mut launch = Launch::decode(&crew.order.launch)
        .map_err(|malformed| Failure::new(CANNOT_EXECUTE, &[malformed.to_string().as_bytes()]))?;
    if !crew.order.placement.cores.is_empty() {
        bind_to(&crew.order.placement.cores);
    }
    let place = workdir::enter(&launch, crew)?;
    template::expand(&mut launch, crew, rank);
    redirect::redirect(&launch, place == StartDir::AsAsked)?;
    match place {
        StartDir::AsAsked => {}
        StartDir::Home => say(crew, AT_HOME),
        StartDir::Tmp => say(crew, IN_TMP),
    }
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
