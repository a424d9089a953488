//! A child that ends with its parent, even when the parent is killed
//! outright, and that may run as another account.
//!
//! The kernel sends a signal at the death of a parent only to a child that
//! asked for it. So `warrant up` starts itself under one of these names in the
//! child: it becomes the account, asks, and then becomes the program. The
//! request outlives `exec`.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, User, close, getppid, initgroups, setresgid, setresuid};

use crate::failure::Failure;

/// The first argument that marks such a start. It is not one of the commands,
/// so that neither the help nor the completions offer it.
const MARK: &str = "--tethered";

/// The same for a start as another account, whose name comes after the
/// parent's number.
const MARK_AS: &str = "--tethered-as";

/// What to become, and whose child that is.
pub(crate) struct Tether {
    parent: Option<i32>,
    account: Option<String>,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Tether {
    /// Read the arguments of this process; `None` when they are a person's.
    pub(crate) fn read(arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.skip(1);
        let mark = arguments.next()?;
        if mark != MARK && mark != MARK_AS {
            return None;
        }
        Some(Self {
            parent: arguments.next()?.to_str()?.parse().ok(),
            account: if mark == MARK_AS {
                Some(arguments.next()?.into_string().ok()?)
            } else {
                None
            },
            program: arguments.next()?,
            arguments: arguments.collect(),
        })
    }
}

/// The arguments that make this program become `program`, as `account` where
/// one is given.
pub(crate) fn arguments(
    parent: u32,
    account: Option<&str>,
    program: &Path,
    arguments: &[&OsStr],
) -> Vec<OsString> {
    let mark = if account.is_some() { MARK_AS } else { MARK };
    let mut all = vec![mark.into(), parent.to_string().into()];
    all.extend(account.map(OsString::from));
    all.push(program.into());
    all.extend(arguments.iter().map(OsString::from));
    all
}

/// Become the account, ask for SIGTERM at the parent's death, then become the
/// program. Returns only if that fails. Source: PR_SET_PDEATHSIG(2const),
/// which is forgotten when the ids of a process change: so it comes after.
pub(crate) fn become_tethered(tether: Tether) -> Failure {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::Refused(format!("cannot {what}: {error}"))
    };
    close_inherited();
    if let Some(name) = &tether.account {
        umask(Mode::from_bits_truncate(0o022));
        if let Err(errno) = become_account(name) {
            return failed(&format!("become the account {name}"), &errno);
        }
    }
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

/// The account's groups, then its group, then its user id, none of which can
/// be undone. What is to stay root only sheds its further groups.
fn become_account(name: &str) -> nix::Result<()> {
    let account = User::from_name(name)?.ok_or(nix::Error::ENOENT)?;
    let name = CString::new(name).map_err(|_| nix::Error::EINVAL)?;
    initgroups(&name, account.gid)?;
    setresgid(account.gid, account.gid, account.gid)?;
    setresuid(account.uid, account.uid, account.uid)?;
    if account.uid.is_root() {
        return Ok(());
    }
    set_no_new_privs()
}

/// Whatever whoever started `warrant up` had open is none of the services'
/// business. Nothing here is open yet but the three standard ones.
fn close_inherited() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<i32> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // One of them was that of the listing itself, and is closed already.
        let _ = close(number);
    }
}
