//! Keepers that die, where jobs are in control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use warrant_wire::Report;
use warrant_wire::record::Record;

use super::house::{House, in_private, launch, run_of};
use crate::house::{kill, until};

/// Control groups of this test alone.
struct Groups(Vec<PathBuf>);

impl Groups {
    fn make() -> Self {
        // Namespaces and processes have numbers that come again.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let number = now.unwrap().as_nanos();
        let groups = Self(
            ["unified", "", "memory", "pids", "freezer"]
                .iter()
                .map(|tree| Path::new("/sys/fs/cgroup").join(tree))
                .filter(|tree| tree.join("cgroup.procs").exists())
                .map(|tree| tree.join(format!("warranttest.shim.{number}")))
                .collect(),
        );
        for group in &groups.0 {
            fs::create_dir(group).unwrap();
        }
        groups
    }

    /// The groups of jobs.
    fn jobs(&self) -> Vec<PathBuf> {
        let dirs = self
            .0
            .iter()
            .filter_map(|group| fs::read_dir(group.join("warrant-jobs")).ok());
        let entries = dirs.flatten().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let remove = |path: &Path| !path.exists() || fs::remove_dir(path).is_ok();
        let removed = || {
            let mut groups = self.0.iter();
            groups.all(|group| remove(&group.join("warrant-jobs")) && remove(group))
        };
        // The last process of a monitor that was killed may be about to go.
        if !std::thread::panicking() {
            until("the groups are removed", removed);
        }
    }
}

#[test]
fn t92_a_job_that_has_lost_its_keeper_is_ended_with_all_its_processes() {
    in_private(|| {
        let groups = Groups::make();
        let mut house = House::unopened("");
        let text = fs::read_to_string(house.path("shim.toml")).unwrap();
        let text = text.replace("cgroup = \"off\"", "cgroup = \"auto\"");
        fs::write(house.path("shim.toml"), text).unwrap();
        let mut script = "exec 2>>\"$2\"; ".to_owned();
        for group in &groups.0 {
            script.push_str(&format!("echo $$ > {}/cgroup.procs; ", group.display()));
        }
        script.push_str("exec \"$0\" serve --policy \"$1\"");
        let mut monitor = Command::new("sh");
        monitor
            .args(["-c", &script])
            .arg(house.path("warrant-shim"));
        monitor
            .arg(house.path("shim.toml"))
            .arg(house.path("audit.log"));
        house.adopt(monitor.env_clear().spawn().unwrap());
        let mut broker = house.connect();
        // Each has a process that has left its session and its parents.
        let job = launch(&["sh", "-c", "(setsid sleep 4321 &); exec sleep 4321"]);
        let runs = [run_of(1, 1), run_of(2, 1)];
        for run in runs {
            broker.admit(run, &job);
            broker.send_start(run);
            broker.started(run);
        }
        until("all sleep", || sleepers() == 4);
        assert!(!groups.jobs().is_empty());
        let keeper = |run| match house.record(run) {
            Some(Record::Started(ticket)) => ticket.keeper_pid,
            other => panic!("{other:?}"),
        };
        // One is lost while it is watched, one while nobody is there.
        kill("KILL", keeper(runs[0]));
        assert_eq!(broker.report(), Report::Lost { run: runs[0] });
        until("its processes are gone", || sleepers() == 2);
        let other = keeper(runs[1]);
        house.kill_monitor();
        kill("KILL", other);
        let mut monitor = Command::new("sh");
        monitor
            .args(["-c", &script])
            .arg(house.path("warrant-shim"));
        monitor
            .arg(house.path("shim.toml"))
            .arg(house.path("audit.log"));
        house.adopt(monitor.env_clear().spawn().unwrap());
        let mut broker = house.connect();
        broker.send_watch(runs[1]);
        assert_eq!(broker.report(), Report::Lost { run: runs[1] });
        until("all processes are gone", || sleepers() == 0);
        until("their groups are gone", || groups.jobs().is_empty());
        assert_eq!(house.count_audit("event=lost run=1.0.1"), 1);
        house.kill_monitor();
    });
}

/// How many processes of the jobs there are.
fn sleepers() -> usize {
    let is_sleeper = |pid: u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x004321\0")
    };
    crate::house::processes()
        .filter(|pid| is_sleeper(*pid))
        .count()
}
