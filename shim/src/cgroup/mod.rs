//! Control groups: all processes of a job in one place, to be limited,
//! counted and ended together.
//!
//! Three layouts: one tree for everything (v2); a v2 tree without the
//! controllers, which v1 trees have; and v1 trees alone. Jobs are in a
//! directory below our own control group, or beside it if it is a unit of
//! systemd: a unit whose group hands controllers down could not be restarted
//! while jobs run. Every path is made of run ids, below a held directory.

mod find;

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc::{self, SIGCONT, SIGKILL, SIGTERM};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};
use warrant_wire::RunId;

use crate::sys::process;

/// How long the end of a group is awaited, at most.
const END_TIME: Duration = Duration::from_millis(500);
const END_PAUSE: Duration = Duration::from_millis(1);

/// The directories of the jobs, one in each tree that is used.
pub struct Cgroups {
    trees: Vec<Tree>,
}

struct Tree {
    dir: OwnedFd,
    kind: Kind,
}

/// What a tree is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// v2: tracking and killing, and those limits that it has.
    Unified { memory: bool, pids: bool },
    /// v1: tracking and killing where there is no v2 tree.
    Freezer,
    /// v1: the memory limit.
    Memory,
    /// v1: the limit on processes.
    Pids,
}

impl Kind {
    fn tracks(self) -> bool {
        match self {
            Self::Unified { .. } | Self::Freezer => true,
            Self::Memory | Self::Pids => false,
        }
    }
}

/// The limits of one job; 0 means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Most memory, bytes.
    pub memory_bytes: u64,
    /// Most processes and threads.
    pub pids: u64,
}

/// The control group of one job, in each tree that is used for it.
pub struct JobCgroup<'a> {
    name: String,
    places: Vec<Place<'a>>,
}

struct Place<'a> {
    tree: &'a Tree,
    dir: OwnedFd,
}

impl Cgroups {
    /// The descriptors of the directories.
    pub fn dirs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.trees.iter().map(|tree| tree.dir.as_fd())
    }

    /// The numbers of those descriptors.
    pub fn raw_fds(&self) -> impl Iterator<Item = RawFd> {
        self.trees.iter().map(|tree| tree.dir.as_raw_fd())
    }

    /// Makes the control group of a run. What an earlier attempt to start the
    /// very same run left there is ended first.
    ///
    /// Errors: it cannot be made, or a limit cannot be set.
    pub fn make(&self, run: RunId, limits: CgroupLimits) -> io::Result<JobCgroup<'_>> {
        let mut job = JobCgroup {
            name: run.to_string(),
            places: Vec::new(),
        };
        for tree in &self.trees {
            let is_used = match tree.kind {
                Kind::Unified { .. } | Kind::Freezer => true,
                Kind::Memory => limits.memory_bytes > 0,
                Kind::Pids => limits.pids > 0,
            };
            if !is_used {
                continue;
            }
            let made = tree
                .make(&job.name, run, self)
                .and_then(|dir| tree.limit(&dir, limits).map(|()| dir));
            match made {
                Ok(dir) => job.places.push(Place { tree, dir }),
                Err(error) => {
                    job.remove();
                    let _ = unlinkat(&tree.dir, job.name.as_str(), UnlinkatFlags::RemoveDir);
                    return Err(error);
                }
            }
        }
        Ok(job)
    }

    /// Ends whatever is left of a run that has lost its keeper, and removes
    /// its control group. Waits for half a second at most.
    ///
    /// Errors: `EBUSY` if something is still there: try again.
    pub fn end(&self, run: RunId) -> io::Result<()> {
        let name = run.to_string();
        let places = self.trees.iter().filter_map(|tree| {
            let dir = open_dir(&tree.dir, &name).ok()?;
            Some(Place { tree, dir })
        });
        let job = JobCgroup {
            places: places.collect(),
            name: name.clone(),
        };
        match job.end() {
            true => Ok(()),
            false => Err(Errno::EBUSY.into()),
        }
    }
}

impl Tree {
    fn make(&self, name: &str, run: RunId, all: &Cgroups) -> io::Result<OwnedFd> {
        const MODE: Mode = Mode::from_bits_truncate(0o755);
        match mkdirat(&self.dir, name, MODE) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                all.end(run)?;
                mkdirat(&self.dir, name, MODE)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        open_dir(&self.dir, name)
    }

    fn limit(&self, dir: &OwnedFd, limits: CgroupLimits) -> io::Result<()> {
        let (memory, pids) = (limits.memory_bytes, limits.pids);
        match self.kind {
            Kind::Unified {
                memory: has_memory,
                pids: has_pids,
            } => {
                if has_memory && memory > 0 {
                    put(dir, "memory.max", memory)?;
                    // A job is not to slip into swap, nor to lose single
                    // processes unnoticed; older kernels have neither file.
                    let _ = put(dir, "memory.swap.max", 0);
                    let _ = put(dir, "memory.oom.group", 1);
                }
                if has_pids && pids > 0 {
                    put(dir, "pids.max", pids)?;
                }
            }
            Kind::Freezer => {}
            Kind::Memory => {
                put(dir, "memory.limit_in_bytes", memory)?;
                let _ = put(dir, "memory.memsw.limit_in_bytes", memory);
            }
            Kind::Pids => put(dir, "pids.max", pids)?,
        }
        Ok(())
    }
}

impl JobCgroup<'_> {
    /// The directory that processes of the job are born in, where there is one.
    #[must_use]
    pub fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        let place = self.places.iter().find(|place| match place.tree.kind {
            Kind::Unified { .. } => true,
            Kind::Freezer | Kind::Memory | Kind::Pids => false,
        });
        place.map(|place| place.dir.as_fd())
    }

    /// Moves this process into the rest of it.
    pub fn join(&self) -> io::Result<()> {
        for place in &self.places {
            match place.tree.kind {
                Kind::Unified { .. } => {}
                Kind::Freezer | Kind::Memory | Kind::Pids => put(&place.dir, "cgroup.procs", 0)?,
            }
        }
        Ok(())
    }

    /// Asks every process to end; those that are stopped are woken to hear it.
    pub fn terminate(&self) {
        for pid in self.members() {
            let pid = Pid::from_raw(pid);
            let Ok(handle) = process::open(pid) else {
                continue;
            };
            // With the handle held: it is the process that is listed, or one
            // that has ended.
            if self.members().contains(&pid.as_raw()) {
                let _ = process::send(handle.as_fd(), SIGTERM);
                let _ = process::send(handle.as_fd(), SIGCONT);
            }
        }
    }

    /// Kills every process. Where the kernel does not do that in one go,
    /// there may be new ones: go on until it is empty.
    pub fn kill(&self) {
        let Some(place) = self.tracker() else { return };
        if put(&place.dir, "cgroup.kill", 1).is_ok() {
            return;
        }
        // Frozen, none can slip away, nor its number become another's.
        let (file, stop, go) = match place.tree.kind {
            Kind::Freezer => ("freezer.state", "FROZEN", "THAWED"),
            Kind::Unified { .. } | Kind::Memory | Kind::Pids => ("cgroup.freeze", "1", "0"),
        };
        let _ = put(&place.dir, file, stop);
        for pid in self.members() {
            let _ = crate::sys::signal::send_child(Pid::from_raw(pid), SIGKILL);
        }
        let _ = put(&place.dir, file, go);
    }

    /// Whether no process of it is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Some(place) = self.tracker() else {
            return true;
        };
        let file = match place.tree.kind {
            Kind::Unified { .. } => "cgroup.events",
            Kind::Freezer | Kind::Memory | Kind::Pids => "cgroup.procs",
        };
        match get(&place.dir, file) {
            Ok(text) => text.is_empty() || text.lines().any(|line| line == "populated 0"),
            // It has been removed.
            Err(error) => matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)),
        }
    }

    /// Whether the kernel killed a process of it at its memory limit.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        self.places.iter().any(|place| {
            let file = match place.tree.kind {
                Kind::Unified { memory: true, .. } => "memory.events",
                Kind::Memory => "memory.oom_control",
                Kind::Unified { memory: false, .. } | Kind::Freezer | Kind::Pids => return false,
            };
            counter(&place.dir, file, "oom_kill").is_some_and(|count| count > 0)
        })
    }

    /// Kills whatever is left and removes it, if that can be done in half a
    /// second, and says whether it was.
    pub fn end(&self) -> bool {
        let over = Instant::now() + END_TIME;
        while !self.is_empty() && Instant::now() < over {
            self.kill();
            std::thread::sleep(END_PAUSE);
        }
        self.remove()
    }

    /// Removes it once it is empty, and says whether it is gone.
    pub fn remove(&self) -> bool {
        let over = Instant::now() + END_TIME;
        self.places.iter().all(|place| {
            loop {
                match unlinkat(
                    &place.tree.dir,
                    self.name.as_str(),
                    UnlinkatFlags::RemoveDir,
                ) {
                    Ok(()) | Err(Errno::ENOENT) => return true,
                    // A process that has ended is counted for a moment more.
                    Err(Errno::EBUSY) if Instant::now() < over => std::thread::sleep(END_PAUSE),
                    Err(_) => return false,
                }
            }
        })
    }

    /// The numbers of all descriptors that it uses.
    pub fn raw_fds(&self) -> impl Iterator<Item = RawFd> {
        let both = |place: &Place<'_>| [place.dir.as_raw_fd(), place.tree.dir.as_raw_fd()];
        self.places.iter().flat_map(both)
    }

    fn tracker(&self) -> Option<&Place<'_>> {
        self.places.iter().find(|place| place.tree.kind.tracks())
    }

    fn members(&self) -> Vec<i32> {
        let text = self
            .tracker()
            .and_then(|place| get(&place.dir, "cgroup.procs").ok())
            .unwrap_or_default();
        text.lines().flat_map(str::parse).collect()
    }
}

const DIR_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

fn make_dir(path: &Path) -> io::Result<OwnedFd> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Ok(open(path, DIR_FLAGS, Mode::empty())?)
}

fn open_dir(above: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(above, name, DIR_FLAGS, Mode::empty())?)
}

fn put(dir: &OwnedFd, file: &str, value: impl ToString) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let mut file = fs::File::from(openat(dir, file, flags, Mode::empty())?);
    file.write_all(value.to_string().as_bytes())
}

fn get(dir: &OwnedFd, file: &str) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut file = fs::File::from(openat(dir, file, flags, Mode::empty())?);
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// The number behind a word in a file of such lines.
fn counter(dir: &OwnedFd, file: &str, word: &str) -> Option<u64> {
    let text = get(dir, file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find_map(|(name, number)| (name == word).then(|| number.parse().ok())?)
}
