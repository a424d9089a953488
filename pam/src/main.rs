//! `warrant-pam`: tells the auth service whether a password is that of an
//! account, by the rules of PAM. It runs as root, because the shadow file is
//! root's, and is made to hold as little as it can: a name and a password come
//! in, a verdict goes out.
//!
//! The parent reads nothing and loads nothing. A child for each question reads
//! it, asks PAM, answers, and is gone together with the password.

#![deny(unsafe_op_in_unsafe_fn)]

mod listener;
mod options;
mod question;
mod service_manager;
mod sys;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{chdir, dup2_stdin, geteuid};

use service_manager::ServiceManager;

/// Questions at once.
const MAX_CHILDREN: usize = 16;
/// How often children that have ended are looked for, in milliseconds; and
/// while there are as many as there may be.
const REAP_EVERY_MS: u16 = 500;
const REAP_FULL_EVERY_MS: u16 = 20;

fn main() -> ExitCode {
    match serve() {
        Ok(never) => match never {},
        Err(why) => {
            note(&why);
            ExitCode::FAILURE
        }
    }
}

/// What is never returned.
enum Never {}

fn serve() -> Result<Never, String> {
    let options = options::read()?;
    if !geteuid().is_root() {
        return Err("must be started as root".into());
    }
    let listener = listener::open(&options)?;
    let mut manager = ServiceManager::of_environment()?;
    // Where it was started is nothing to modules.
    chdir("/").map_err(|errno| format!("chdir: {errno}"))?;
    let null = File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    dup2_stdin(null).map_err(|errno| format!("dup2: {errno}"))?;
    // What was inherited says nothing to PAM's modules; nor does a core of
    // this process, or a debugger at it, get at a password.
    sys::clear_environment().map_err(|errno| format!("clearenv: {errno}"))?;
    set_dumpable(false).map_err(|errno| format!("prctl: {errno}"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|errno| format!("setrlimit: {errno}"))?;
    if let Some(manager) = &manager {
        manager.ready()?;
    }
    let mut children = 0;
    loop {
        if let Some(manager) = &mut manager {
            manager.is_alive();
        }
        children -= reap(children);
        if children >= MAX_CHILDREN {
            wait(&mut [], REAP_FULL_EVERY_MS)?;
        } else if let Some(connection) = next(&listener)?
            && is_peer(&connection, options.peer_uid)
        {
            match sys::fork(|| question::answer(connection)) {
                Ok(()) => children += 1,
                Err(errno) => note(&format!("fork: {errno}")),
            }
        }
    }
}

/// Take the children that have ended. Answers how many.
fn reap(children: usize) -> usize {
    let mut ended = 0;
    while ended < children {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                note(&format!("a question was cut short by {signal}"));
                ended += 1;
            }
            Ok(_) => ended += 1,
            Err(_) => {}
        }
    }
    ended
}

/// Waits for one of these, for so long at most. Answers how many are ready.
fn wait(ready: &mut [PollFd<'_>], most_ms: u16) -> Result<i32, String> {
    match poll(ready, PollTimeout::from(most_ms)) {
        Err(Errno::EINTR) => Ok(0),
        waited => waited.map_err(|errno| format!("poll: {errno}")),
    }
}

/// The next connection, if one comes before it is time to reap. Other processes
/// have the same socket, so that its flags may have changed since the last one.
fn next(listener: &UnixListener) -> Result<Option<UnixStream>, String> {
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    if wait(&mut ready, REAP_EVERY_MS)? == 0 {
        return Ok(None);
    }
    listener
        .set_nonblocking(true)
        .map_err(|error| format!("the socket: {error}"))?;
    match listener.accept() {
        Ok((connection, _)) => Ok(Some(connection)),
        // Gone again, or no descriptor is free; the children give some back.
        Err(_) => Ok(None),
    }
}

/// Whether the peer had this user id when it connected; when nobody can tell,
/// it had not. Source: unix(7), `SO_PEERCRED`.
fn is_peer(connection: &UnixStream, uid: u32) -> bool {
    match getsockopt(connection, PeerCredentials) {
        Ok(peer) if peer.uid() == uid => true,
        Ok(peer) => {
            note(&format!("refused a peer of uid {}", peer.uid()));
            false
        }
        Err(errno) => {
            note(&format!("refused a peer that nobody knows: {errno}"));
            false
        }
    }
}

/// One line for the journal. If nobody takes it, nobody wants it.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "warrant-pam: {text}");
}
