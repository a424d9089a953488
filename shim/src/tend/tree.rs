//! Every process that descends from this one, and how to end them all.
//!
//! The keeper is their reaper of last resort (a child subreaper), so however
//! they detach themselves they stay its descendants. Each is signalled through
//! a handle, after a look at whose child it is. Where a control group has them
//! all, none of this is needed.

use std::collections::HashSet;
use std::fs;

use nix::libc::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};
use nix::unistd::{Pid, getpgid, getpid};

use super::send_if;
use crate::sys::signal;

/// Most rounds of stopping before the first kill: processes that are made
/// faster than they are found are thinned out by killing what was found.
const FREEZE_ROUNDS: usize = 16;
/// Most processes looked at in one round, so that a round has an end.
const ROUND_PROCESSES: usize = 65_536;

/// Asks every descendant to end; those that are stopped are woken to hear it.
/// The child `spared`, and what descends from it, is none of them.
pub(super) fn terminate(spared: Option<Pid>) {
    for target in found(spared).iter().rev() {
        target.send(&[SIGTERM, SIGCONT]);
    }
}

/// Stops every descendant, so that none makes another, and then kills them.
/// What is left, or has come into being meanwhile, is for the next round.
pub(super) fn kill_round(spared: Option<Pid>) {
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
    for target in found(spared).iter().rev() {
        target.send_with_group(SIGKILL);
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

/// Source: `/proc/<pid>/task/<tid>/children`, proc(5).
fn children_of(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let mut children = Vec::new();
    for thread in threads.into_iter().flatten().flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().flat_map(str::parse::<i32>));
    }
    children
}

/// Source: `/proc/<pid>/stat`, proc(5): the second field after the last `)`,
/// since the name before it may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}
