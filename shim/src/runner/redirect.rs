//! Files for a job's output in place of the spool, opened as the user.
//!
//! A new file is made, and it is new for certain. One that is there must be
//! the user's own, a regular file, and have this one name: in a directory where
//! others may write, anything else can have been put there to be written to, or
//! to be read. It is looked at before it is opened, through a descriptor that
//! stays with what was looked at: nothing can take its place in between, and
//! what is refused (a device, a pipe) has not noticed. `/dev/null` discards
//! output.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{dup2_stderr, dup2_stdout, geteuid};
use warrant_wire::Launch;

use super::{CANNOT_ENTER, Failure};

/// How often a file may be gone again, or be there again, before it is given
/// up as somebody's game.
const TRIES: usize = 100;
const WRITING: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_APPEND)
    .union(OFlag::O_CLOEXEC);

/// Why a file is not written to.
enum Unfit {
    Says(Errno),
    Is(&'static str),
}

impl From<Errno> for Unfit {
    fn from(errno: Errno) -> Self {
        Self::Says(errno)
    }
}

/// Puts the files that a launch names in place of its standard output and
/// error. `has_base` says whether there is a directory that relative paths
/// mean.
///
/// Errors: a file cannot be used; the field is named.
pub(super) fn redirect(launch: &Launch, has_base: bool) -> Result<(), Failure> {
    if let Some(path) = &launch.stdout {
        let field = b"output.stdout.path";
        let to_file = output(path, has_base).and_then(|file| Ok(dup2_stdout(file)?));
        to_file.map_err(|unfit| failure(field, path, &unfit))?;
    }
    if let Some(path) = &launch.stderr {
        let field = b"output.stderr.path";
        let to_file = output(path, has_base).and_then(|file| Ok(dup2_stderr(file)?));
        to_file.map_err(|unfit| failure(field, path, &unfit))?;
    }
    Ok(())
}

fn failure(field: &[u8], path: &[u8], unfit: &Unfit) -> Failure {
    let why = match unfit {
        Unfit::Says(errno) => errno.desc(),
        Unfit::Is(what) => what,
    };
    let parts = [
        b"cannot write to \"",
        path,
        b"\" (",
        field,
        b"): ",
        why.as_bytes(),
    ];
    Failure::new(CANNOT_ENTER, &parts)
}

fn output(path: &[u8], has_base: bool) -> Result<OwnedFd, Unfit> {
    if path == b"/dev/null" {
        return io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|_| Errno::EMFILE.into());
    }
    if !has_base && !path.starts_with(b"/") {
        return Err(Unfit::Is(
            "it is relative to a directory that cannot be used",
        ));
    }
    for _ in 0..TRIES {
        match make(path) {
            Err(Errno::EEXIST) => {}
            made => return Ok(made?),
        }
        match look(path) {
            Err(Errno::ENOENT) => {}
            found => return existing(&found?),
        }
    }
    Err(Errno::EEXIST.into())
}

/// Makes a file that was not there.
fn make(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = WRITING | OFlag::O_CREAT | OFlag::O_EXCL;
    let how = how().flags(flags).mode(Mode::from_bits_truncate(0o666));
    openat2(AT_FDCWD, path, how)
}

/// Takes hold of what is there, without opening it, be it a link.
fn look(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat2(AT_FDCWD, path, how().flags(flags))
}

/// No path may lead through what a process has open.
/// Source: openat2(2), `RESOLVE_NO_MAGICLINKS`.
fn how() -> OpenHow {
    OpenHow::new().resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// Opens what `look` found if it may be written to.
fn existing(found: &OwnedFd) -> Result<OwnedFd, Unfit> {
    let file = fstat(found)?;
    if SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Unfit::Is("it is not a plain file"));
    }
    if file.st_uid != geteuid().as_raw() {
        return Err(Unfit::Is("it belongs to another user"));
    }
    if file.st_nlink != 1 {
        return Err(Unfit::Is("it has other names as well"));
    }
    let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(open(itself.as_str(), WRITING, Mode::empty())?)
}
