//! Jobs that are this program: what a hostile user would write.

use std::fs;

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};
use warrant_shim::sys::capability;

use crate::house::{House, PROBE};

impl House {
    /// A launch of one of the jobs below.
    pub(crate) fn probe(&self, name: &str) -> warrant_wire::Launch {
        let program = self.path("probe");
        if !program.exists() {
            fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        }
        let mut launch = self.launch([
            program.to_str().unwrap(),
            "--exact",
            "probe::the_job",
            "--nocapture",
        ]);
        launch.env = vec![(PROBE.into(), name.into())];
        launch
    }
}

/// Does nothing unless it is started as a job.
#[test]
fn the_job() {
    let Some(name) = std::env::var_os(PROBE) else {
        return;
    };
    match name.to_str().unwrap() {
        "regain" => regain(),
        "peek" => peek(),
        other => panic!("there is no job {other}"),
    }
}

fn regain() {
    use nix::unistd::{seteuid, setgid, setgroups, setresgid, setresuid, setuid};
    let (root, wheel) = (Uid::from_raw(0), Gid::from_raw(0));
    setresuid(root, root, root).unwrap_err();
    setuid(root).unwrap_err();
    seteuid(root).unwrap_err();
    setresgid(wheel, wheel, wheel).unwrap_err();
    setgid(wheel).unwrap_err();
    setgroups(&[wheel]).unwrap_err();
    nix::unistd::setfsuid(root);
    fs::read("/etc/shadow").unwrap_err();
    capability::set(u64::MAX, u64::MAX).unwrap_err();
    nix::sys::signal::kill(Pid::from_raw(1), Signal::SIGKILL).unwrap_err();
    nix::sys::signal::kill(nix::unistd::getppid(), Signal::SIGSTOP).unwrap_err();
    fs::write("/proc/self/oom_score_adj", "-1000").unwrap_err();
}

/// Tries to read what the keeper has.
fn peek() {
    let keeper = nix::unistd::getppid();
    for name in ["environ", "mem", "maps", "auxv", "io", "syscall", "stack"] {
        let path = format!("/proc/{keeper}/{name}");
        assert!(fs::read(&path).is_err(), "{path} can be read");
    }
    for name in ["fd", "map_files", "ns/mnt", "fdinfo", "task/1/fd"] {
        let path = format!("/proc/{keeper}/{name}");
        let is_denied = fs::read_dir(&path).is_err() && fs::read(&path).is_err();
        assert!(is_denied, "{path} can be read");
    }
    for name in ["root", "cwd", "exe"] {
        let path = format!("/proc/{keeper}/{name}");
        assert!(fs::read_link(&path).is_err(), "{path} can be read");
    }
}
