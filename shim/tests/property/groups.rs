//! Control groups of the test's own, so that what is left in them is seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::house::{DEADLINE, until};

const PAUSE: Duration = Duration::from_millis(2);

/// Where the trees of control groups are, and what each is called in
/// /proc/self/cgroup. Source: cgroups(7).
const TREES: [(&str, &str); 5] = [
    ("/sys/fs/cgroup/unified", ""),
    ("/sys/fs/cgroup", ""),
    ("/sys/fs/cgroup/memory", "memory"),
    ("/sys/fs/cgroup/pids", "pids"),
    ("/sys/fs/cgroup/freezer", "freezer"),
];

/// This process's group before, and now, in each tree.
pub(crate) struct Groups(Vec<(PathBuf, PathBuf)>);

impl Groups {
    /// Moves this process, and so all that it starts, into new groups.
    pub(crate) fn enter() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let mut groups = Self(Vec::new());
        for (mount, controller) in TREES {
            let path = own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                (fields.next()? == controller).then(|| fields.next())?
            });
            let Some(path) = path else { continue };
            let before = Path::new(mount).join(path.trim_start_matches('/'));
            if before.join("cgroup.procs").exists() {
                let now = before.join(format!("warrant-property.{}", unique()));
                fs::create_dir(&now).unwrap();
                fs::write(now.join("cgroup.procs"), "0").unwrap();
                groups.0.push((before, now));
            }
        }
        groups
    }

    /// Fails unless the groups of all jobs are gone, or go soon.
    pub(crate) fn assert_no_jobs(&self) {
        let over = Instant::now() + DEADLINE;
        loop {
            let left = self.jobs();
            if left.is_empty() {
                return;
            }
            let procs = |dir: &PathBuf| fs::read_to_string(dir.join("cgroup.procs"));
            let inside: Vec<_> = left.iter().map(procs).collect();
            assert!(Instant::now() < over, "are left: {left:?} with {inside:?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// The groups of jobs that are there.
    pub(crate) fn jobs(&self) -> Vec<PathBuf> {
        let dirs = self.0.iter().map(|(_, now)| now.join("warrant-jobs"));
        dirs.filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_dir())
            .map(|entry| entry.path())
            .collect()
    }

    /// Goes back, once every process of the shim has ended. Fails if anything
    /// is left.
    pub(crate) fn leave(mut self) {
        for (before, now) in std::mem::take(&mut self.0) {
            fs::write(before.join("cgroup.procs"), "0").unwrap();
            until("the control groups are empty", || {
                let _ = fs::remove_dir(now.join("warrant-jobs"));
                fs::remove_dir(&now).is_ok()
            });
        }
    }
}

impl Drop for Groups {
    /// After a failure, as far as it goes.
    fn drop(&mut self) {
        for job in self.jobs() {
            let _ = fs::remove_dir(job);
        }
        for (before, now) in &self.0 {
            let _ = fs::write(before.join("cgroup.procs"), "0");
            let _ = fs::remove_dir(now.join("warrant-jobs"));
            let _ = fs::remove_dir(now);
        }
    }
}

/// In a name space of process ids of our own they are not unique.
fn unique() -> u64 {
    warrant_shim::clock::now_us()
}
