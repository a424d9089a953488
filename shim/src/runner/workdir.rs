//! The directory that a job starts in.

use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::fchdir;
use warrant_wire::{Launch, StartDir};

use super::{CANNOT_ENTER, Crew, Failure};

/// Where a job starts if nothing better can be used.
const LAST_RESORT: &[u8] = b"/tmp";

/// Enters the directory that a launch names. Where it names none: the first
/// that can be used of its default, the user's home and `/tmp`. Answers which.
///
/// Errors: the directory that is named cannot be used, or none can.
pub(super) fn enter(launch: &Launch, crew: &Crew<'_>) -> Result<StartDir, Failure> {
    let fail = |path: &[u8], errno: Errno| {
        let what = b"cannot change to the directory \"";
        let why = errno.desc().as_bytes();
        Failure::new(CANNOT_ENTER, &[what, path, b"\": ", why])
    };
    if let Some(path) = &launch.workdir {
        // To be in it, one need not be able to list it.
        let entered = change_to(path, OFlag::O_PATH);
        entered.map_err(|errno| fail(path, errno))?;
        return Ok(StartDir::AsAsked);
    }
    let default = launch.default_workdir.as_deref();
    let at_home = match default {
        Some(_) => StartDir::Home,
        None => StartDir::AsAsked,
    };
    let candidates = [(default, StartDir::AsAsked), (home(launch, crew), at_home)];
    for (path, place) in candidates {
        if path.is_some_and(|path| change_to(path, OFlag::O_RDONLY).is_ok()) {
            return Ok(place);
        }
    }
    let entered = change_to(LAST_RESORT, OFlag::O_PATH);
    entered.map_err(|errno| fail(LAST_RESORT, errno))?;
    Ok(StartDir::Tmp)
}

/// The user's home, as the account database says or, where jobs run as the
/// broker's own user, as its environment does.
fn home<'a>(launch: &'a Launch, crew: &Crew<'a>) -> Option<&'a [u8]> {
    if let Some(user) = crew.user {
        return Some(user.account.home.as_os_str().as_bytes());
    }
    let home = launch.env.iter().find(|(name, _)| name == b"HOME");
    home.map(|(_, home)| home.as_slice())
}

/// Changes to a directory, with an absolute path that leads through none of
/// the links in `/proc` which stand for what a process has open: they would
/// name directories that have nothing to do with the job.
/// Source: openat2(2), `RESOLVE_NO_MAGICLINKS`.
fn change_to(path: &[u8], access: OFlag) -> Result<(), Errno> {
    if !path.starts_with(b"/") {
        return Err(Errno::ENOENT);
    }
    let how = OpenHow::new()
        .flags(access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    fchdir(openat2(AT_FDCWD, path, how)?)
}
