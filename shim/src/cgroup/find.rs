//! Finding the trees of control groups, and our own place in each of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroups, DUTIES, TRACKING, Tree, get, make_dir, put};
use crate::policy::{Cgroup, Policy};

/// The directory of the jobs in our own group.
const JOBS: &str = "warrant-jobs";

impl Cgroups {
    /// Finds the trees and makes the directories of the jobs in them. `None`
    /// if there is none to use, or the policy wants none.
    ///
    /// Errors: the policy requires control groups, and something is missing.
    pub fn find(policy: &Policy) -> io::Result<Option<Self>> {
        if policy.cgroup == Cgroup::Off {
            return Ok(None);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let mut trees: Vec<Tree> = unified(&mounts, &groups).into_iter().collect();
        for duty in DUTIES {
            if trees.iter().any(|tree| tree.does(duty)) {
                continue;
            }
            let own = own_group(&mounts, &groups, Some(duty));
            let dir = own.and_then(|own| make_dir(&own.join(JOBS)).ok());
            trees.extend(dir.map(|dir| Tree {
                dir,
                is_unified: false,
                duties: vec![duty],
            }));
        }
        let has = |duty: &str| trees.iter().any(|tree| tree.does(duty));
        if policy.cgroup == Cgroup::Require && !DUTIES.into_iter().all(has) {
            return Err(io::Error::other(
                "those for processes, memory and pids are required and not all there",
            ));
        }
        Ok(has(TRACKING).then_some(Self { trees }))
    }
}

/// The v2 tree, with the controllers that its jobs can have.
fn unified(mounts: &str, groups: &str) -> Option<Tree> {
    let own = own_group(mounts, groups, None)?;
    let place = place_of(&own);
    let above = make_dir(place.parent()?).ok()?;
    let dir = make_dir(&place).ok()?;
    for group in [&above, &dir] {
        for controller in ["+memory", "+pids"] {
            // It is there, or it is not for us: what counts is what we have.
            let _ = put(group, "cgroup.subtree_control", controller);
        }
    }
    let controllers = get(&dir, "cgroup.subtree_control").ok()?;
    let has = |duty: &str| duty == TRACKING || controllers.split_whitespace().any(|it| it == duty);
    Some(Tree {
        dir,
        is_unified: true,
        duties: DUTIES.into_iter().filter(|duty| has(duty)).collect(),
    })
}

/// Where the directory of the jobs goes: in our own group, or beside it if it
/// is a unit of systemd.
fn place_of(own: &Path) -> PathBuf {
    let name = own.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let mut endings = [".service", ".scope"].into_iter();
    match endings.find_map(|ending| name.strip_suffix(ending)) {
        Some(unit) => own.with_file_name(format!("{unit}-jobs")),
        None => own.join(JOBS),
    }
}

/// The directory of our own control group in the tree of a v1 controller, or
/// in the v2 tree. Source: proc_pid_mountinfo(5), cgroups(7).
fn own_group(mounts: &str, groups: &str, controller: Option<&str>) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_it = match controller {
            Some(name) => controllers.split(',').any(|word| word == name),
            None => controllers.is_empty(),
        };
        is_it.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (place, source) = line.split_once(" - ")?;
        let mut source = source.split(' ');
        let is_it = match (source.next()?, controller) {
            ("cgroup2", None) => true,
            ("cgroup", Some(name)) => source.next_back()?.split(',').any(|word| word == name),
            _ => false,
        };
        let mut place = place.split(' ').skip(3);
        let (root, mount) = (place.next()?, place.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        // A path that leads out of the mount is not in it.
        let is_below = below.components().all(|part| part.as_os_str() != "..");
        (is_it && is_below).then(|| Path::new(mount).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_found_in_every_layout() {
        let pure = "25 30 0:23 / /sys rw - sysfs sysfs rw
31 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/warrant.slice/warrant-shim.service\n";
        let found = own_group(pure, own, None).unwrap();
        let expected = "/sys/fs/cgroup/warrant.slice/warrant-shim.service";
        assert_eq!(found, Path::new(expected));
        assert_eq!(own_group(pure, own, Some("memory")), None);
        let jobs = Path::new("/sys/fs/cgroup/warrant.slice/warrant-shim-jobs");
        assert_eq!(place_of(&found), jobs);

        let hybrid = "31 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 25 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
33 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let own = "9:name=systemd:/\n4:memory:/a:b\n2:cpu,cpuacct:/\n0::/\n";
        let found = |name| own_group(hybrid, own, name);
        assert_eq!(found(None).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        let memory = found(Some("memory")).unwrap();
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory/a:b"));
        assert_eq!(place_of(&memory), memory.join(JOBS));
        assert_eq!(
            found(Some("cpuacct")).unwrap(),
            Path::new("/sys/fs/cgroup/cpu,cpuacct")
        );
        assert_eq!(found(Some("pids")), None);
    }

    #[test]
    fn a_mount_that_does_not_show_our_own_group_is_not_used() {
        let mounts = "31 25 0:26 /other /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_group(mounts, "0::/own\n", None), None);
        let mounts = "31 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_group(mounts, "0::/../own\n", None), None);
        assert_eq!(own_group("", "0::/own\n", None), None);
        assert_eq!(
            own_group("nonsense\n - cgroup2\n", "nonsense\n", None),
            None
        );
    }
}
