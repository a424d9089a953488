//! Every process that descends from this one, and how to end them all.
//!
//! The keeper is their reaper of last resort (a child subreaper), so however
//! they detach themselves they stay its descendants. Each is signalled through
//! a handle, after a look at whose child it is. Where a control group has them
//! all, none of this is needed.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use nix::libc::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};
use nix::unistd::{Pid, getpgid, getpid};

use super::send_if;
use crate::sys::process::children_of;
use crate::sys::signal;

/// Most rounds of stopping before the first kill: processes that are made
/// faster than they are found are thinned out by killing what was found.
const FREEZE_ROUNDS: usize = 16;
/// How long all of them may take to stop.
const STOP_TIME: Duration = Duration::from_millis(20);
const STOP_PAUSE: Duration = Duration::from_micros(200);
/// Most processes looked at in one round, so that a round has an end.
const ROUND_PROCESSES: usize = 65_536;

/// Asks every descendant to end; those that were stopped before are woken to
/// hear it. The child `spared`, and what descends from it, is none of them.
///
/// All are stopped first and go on once all have the signal: a shell whose
/// command was ended before it would go on to the next one.
pub(super) fn terminate(spared: Option<Pid>) {
    stop(spared);
    let found = found(spared);
    for signal in [SIGTERM, SIGCONT] {
        for target in found.iter().rev() {
            target.send(&[signal]);
        }
    }
}

/// Stops every descendant, so that none does anything more, and then kills
/// them. What is left, or has come into being meanwhile, is for the next round.
pub(super) fn kill_round(spared: Option<Pid>) {
    stop(spared);
    for target in found(spared).iter().rev() {
        target.send_with_group(SIGKILL);
    }
}

/// Stops every descendant, and waits until they have stopped; not for long,
/// since one that waits for a disk does not.
fn stop(spared: Option<Pid>) {
    let mut stopped = HashSet::new();
    for _ in 0..FREEZE_ROUNDS {
        let before = stopped.len();
        walk(spared, |target| {
            if stopped.insert(target.pid) {
                target.send_with_group(SIGSTOP);
            }
        });
        if stopped.len() == before {
            break;
        }
    }
    let over = Instant::now() + STOP_TIME;
    let mut running = stopped
        .into_iter()
        .filter(|pid| !is_stopped(*pid))
        .peekable();
    while running.peek().is_some() && Instant::now() < over {
        std::thread::sleep(STOP_PAUSE);
        running.next_if(|pid| is_stopped(*pid));
    }
}

/// Every descendant, parents before their children. To end them, begin at the
/// back: while its parent lives, each is still whose it was found to be.
fn found(spared: Option<Pid>) -> Vec<Target> {
    let mut found = Vec::new();
    walk(spared, |target| found.push(*target));
    found
}

/// A descendant, found as a child of `parent`.
#[derive(Clone, Copy)]
struct Target {
    pid: i32,
    parent: i32,
}

impl Target {
    /// A process that has ended meanwhile needs no signal, and one that may
    /// not be signalled (it has changed its user) cannot be helped.
    fn send(&self, signals: &[i32]) {
        // If its parent has died since, it is a child of our own by now.
        let parents = [self.parent, getpid().as_raw()];
        let is_it = || parent_of(self.pid).is_some_and(|parent| parents.contains(&parent));
        let _ = send_if(is_it, Pid::from_raw(self.pid), signals);
    }

    /// Takes the whole process group in one go, if an own child proves that
    /// the group is of this run: nothing in it can slip away by forking.
    fn send_with_group(&self, number: i32) {
        if self.parent == getpid().as_raw()
            && let Ok(group) = getpgid(Some(Pid::from_raw(self.pid)))
            && group != getpid()
        {
            let _ = signal::send_group(group, number);
        }
        self.send(&[number]);
    }
}

/// Visits every descendant, parents before their children, so that a parent
/// that is stopped by `visit` has no children that are not listed.
fn walk(spared: Option<Pid>, mut visit: impl FnMut(&Target)) {
    let mut parents = vec![getpid().as_raw()];
    let mut visited = 0;
    while let Some(parent) = parents.pop()
        && visited < ROUND_PROCESSES
    {
        for pid in children_of(parent) {
            if spared != Some(Pid::from_raw(pid)) {
                visit(&Target { pid, parent });
                parents.push(pid);
                visited += 1;
            }
        }
    }
}

/// The children of this process.
pub(super) fn children() -> Vec<i32> {
    children_of(getpid().as_raw())
}

/// Whether a process does nothing: it is stopped, or has ended.
fn is_stopped(pid: i32) -> bool {
    stat(pid, 0).is_none_or(|state| matches!(state.as_str(), "T" | "t" | "Z" | "X"))
}

fn parent_of(pid: i32) -> Option<i32> {
    stat(pid, 1)?.parse().ok()
}

/// A field of `/proc/<pid>/stat` behind the process's name, which may hold
/// anything: after the last `)`. Source: proc(5).
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    fields
        .split_ascii_whitespace()
        .nth(field)
        .map(str::to_owned)
}
