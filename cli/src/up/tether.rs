//! A child that ends with its parent, even when the parent is killed
//! outright.
//!
//! The kernel sends a signal at the death of a parent only to a child that
//! asked for it. So `warrant up` starts itself under this name in the child:
//! it asks, and then becomes the program. The request outlives `exec`.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};

use crate::failure::Failure;

/// The first argument that marks such a start. It is not one of the commands,
/// so that neither the help nor the completions offer it.
const MARK: &str = "--tethered";

/// What to become, and whose child that is.
pub(crate) struct Tether {
    parent: Option<i32>,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Tether {
    /// Read the arguments of this process; `None` when they are a person's.
    pub(crate) fn read(arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.skip(1);
        if arguments.next()? != MARK {
            return None;
        }
        Some(Self {
            parent: arguments.next()?.to_str()?.parse().ok(),
            program: arguments.next()?,
            arguments: arguments.collect(),
        })
    }
}

/// The arguments that make this program become `program`.
pub(crate) fn arguments(parent: u32, program: PathBuf, arguments: &[&OsStr]) -> Vec<OsString> {
    let mut all = vec![MARK.into(), parent.to_string().into(), program.into()];
    all.extend(arguments.iter().map(OsString::from));
    all
}

/// Ask for SIGTERM at the parent's death, then become the program. Returns
/// only if that fails. Source: PR_SET_PDEATHSIG(2const).
pub(crate) fn become_tethered(tether: Tether) -> Failure {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::Refused(format!("cannot {what}: {error}"))
    };
    if let Err(errno) = set_pdeathsig(Signal::SIGTERM) {
        return failed("follow the parent process", &errno);
    }
    if Some(getppid()) != tether.parent.map(Pid::from_raw) {
        return Failure::Refused("the parent process has already ended".to_owned());
    }
    // The parent blocks signals to wait for them; that, too, outlives exec.
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        return failed("unblock signals", &errno);
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "it becomes the process that `warrant up` starts"
    )]
    let error = std::process::Command::new(&tether.program)
        .args(tether.arguments)
        .exec();
    failed(&format!("start {}", tether.program.display()), &error)
}
