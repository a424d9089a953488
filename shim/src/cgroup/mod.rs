//! Control groups: all processes of a job in one place, to be limited,
//! counted and ended together.
//!
//! Three layouts: one tree for everything (v2); a v2 tree without the
//! controllers, which v1 trees have; and v1 trees alone. Each tree has duties,
//! and what it calls its files is all that differs. Jobs are in a
//! directory below our own control group, or beside it if it is a unit of
//! systemd: a unit whose group hands controllers down could not be restarted
//! while jobs run. Every path is made of run ids, below a held directory.

mod find;
mod state;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc::{self, SIGKILL};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, mkdir, unlinkat};
use warrant_wire::RunId;

use crate::sys::signal;

/// How long the end of a group is awaited, at most.
const END_TIME: Duration = Duration::from_millis(500);
const END_PAUSE: Duration = Duration::from_millis(1);
/// How long the processes of a group may take to stop.
const STOP_TIME: Duration = Duration::from_millis(100);
const STOP_PAUSE: Duration = Duration::from_micros(200);
/// What says that they have, in v2 and v1.
const STOPPED: [&str; 2] = ["frozen 1", "FROZEN"];

/// The directories of the jobs, one in each tree that is used.
pub struct Cgroups {
    trees: Vec<Tree>,
}

/// What a tree can do for us, by the names of the v1 controllers: tell which
/// processes there are and end them, which v2 does without one, and keep each
/// of the limits.
const DUTIES: [&str; 3] = [TRACKING, MEMORY, PIDS];
const TRACKING: &str = "freezer";
const MEMORY: &str = "memory";
const PIDS: &str = "pids";

/// A tree of control groups and what it does for us.
struct Tree {
    dir: OwnedFd,
    /// Whether it is the v2 tree, where processes can be born.
    is_unified: bool,
    duties: Vec<&'static str>,
}

/// The limits of one job; 0 means none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Most memory, bytes.
    pub memory_bytes: u64,
    /// Most processes and threads.
    pub pids: u64,
}

/// The control group of one job, or of its session, in each tree that is needed
/// for it.
pub struct JobCgroup<'a> {
    pub(crate) cgroups: &'a Cgroups,
    name: String,
    limits: CgroupLimits,
    /// What stops its processes and, in v2, what kills them: open, since only
    /// root can open it. `None` where there is nothing to stop.
    switches: Option<(fs::File, Option<fs::File>)>,
}

impl Cgroups {
    /// The descriptors of the directories.
    pub fn dirs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.trees.iter().map(|tree| tree.dir.as_fd())
    }

    /// Makes the control group of a run. One of that name which is empty is of
    /// a server that is gone.
    ///
    /// Errors: there is one with processes, which are not ours to end; it
    /// cannot be made; a limit cannot be set.
    pub fn make(&self, run: RunId, limits: CgroupLimits) -> io::Result<JobCgroup<'_>> {
        self.make_named(run.to_string(), limits)
    }

    /// Makes one for the process of a run's session and what PAM's modules
    /// leave, which is not counted as the job.
    ///
    /// Errors: as [`Cgroups::make`].
    pub fn make_for_session(&self, run: RunId) -> io::Result<JobCgroup<'_>> {
        self.make_named(session_of(run), CgroupLimits::default())
    }

    fn make_named(&self, name: String, limits: CgroupLimits) -> io::Result<JobCgroup<'_>> {
        let _ = self.remove_named(&name);
        let mut job = self.group(name, limits);
        self.trees.iter().try_for_each(|tree| job.make_in(tree))?;
        job.switches = Some(job.open_switches()?);
        Ok(job)
    }

    /// Removes the control groups of a run that has ended, if they are there,
    /// and says whether they are gone. One that is empty may take a moment: a
    /// process that has ended is counted for a while.
    #[must_use]
    pub fn remove(&self, run: RunId) -> bool {
        let gone = [run.to_string(), session_of(run)].map(|name| self.remove_named(&name));
        gone == [true; 2]
    }

    fn remove_named(&self, name: &str) -> bool {
        self.trees.iter().all(|tree| {
            let removed = unlinkat(&tree.dir, name, UnlinkatFlags::RemoveDir);
            matches!(removed, Ok(()) | Err(Errno::ENOENT))
        })
    }

    /// Ends whatever is left of a run that has lost its keeper, and removes
    /// its control groups. Waits for half a second at most for each.
    ///
    /// Errors: `EBUSY` if something is still there: try again.
    pub fn end(&self, run: RunId) -> io::Result<()> {
        self.end_job(run)?;
        self.end_named(&session_of(run))
    }

    /// Ends the job's processes alone, and not those of its session.
    ///
    /// Errors: as [`Cgroups::end`].
    pub fn end_job(&self, run: RunId) -> io::Result<()> {
        self.end_named(&run.to_string())
    }

    fn end_named(&self, name: &str) -> io::Result<()> {
        let over = Instant::now() + END_TIME;
        while !self.remove_named(name) {
            if Instant::now() >= over {
                return Err(Errno::EBUSY.into());
            }
            let mut job = self.group(name.to_owned(), CgroupLimits::default());
            job.switches = job.open_switches().ok();
            job.kill();
            std::thread::sleep(END_PAUSE);
        }
        Ok(())
    }

    fn group(&self, name: String, limits: CgroupLimits) -> JobCgroup<'_> {
        JobCgroup {
            cgroups: self,
            name,
            limits,
            switches: None,
        }
    }
}

/// The name of the control group of a run's session.
fn session_of(run: RunId) -> String {
    format!("{run}.session")
}

impl Tree {
    fn does(&self, duty: &str) -> bool {
        self.duties.contains(&duty)
    }

    /// Those of these limits that it keeps: of memory and of processes.
    fn kept(&self, limits: CgroupLimits) -> (u64, u64) {
        let kept = |duty, limit| if self.does(duty) { limit } else { 0 };
        (kept(MEMORY, limits.memory_bytes), kept(PIDS, limits.pids))
    }

    /// What v2, or v1, calls something.
    fn name(&self, v2: &'static str, v1: &'static str) -> &'static str {
        if self.is_unified { v2 } else { v1 }
    }
}

impl JobCgroup<'_> {
    fn is_in(&self, tree: &Tree) -> bool {
        tree.does(TRACKING) || tree.kept(self.limits) != (0, 0)
    }

    /// Makes it in a tree, if that is needed there.
    fn make_in(&self, tree: &Tree) -> io::Result<()> {
        if !self.is_in(tree) {
            return Ok(());
        }
        mkdirat(&tree.dir, self.name.as_str(), MODE)?;
        let (memory_bytes, pids) = tree.kept(self.limits);
        if memory_bytes > 0 {
            let file = tree.name("memory.max", "memory.limit_in_bytes");
            self.put(tree, file, memory_bytes)?;
            // A job is not to slip into swap, nor to lose single processes
            // unnoticed; not every version has these files.
            let _ = self.put(tree, "memory.swap.max", 0);
            let _ = self.put(tree, "memory.oom.group", 1);
            let _ = self.put(tree, "memory.memsw.limit_in_bytes", memory_bytes);
        }
        if pids > 0 {
            self.put(tree, "pids.max", pids)?;
        }
        Ok(())
    }

    /// The directory that processes of the job are born in, where there is one.
    ///
    /// Errors: it cannot be opened.
    pub fn birthplace(&self) -> io::Result<Option<OwnedFd>> {
        let tree = self.cgroups.trees.iter().find(|tree| tree.is_unified);
        let open = |tree: &Tree| openat(&tree.dir, self.name.as_str(), DIR_FLAGS, Mode::empty());
        Ok(tree.map(open).transpose()?)
    }

    /// Moves this process into the rest of it.
    pub fn join(&self) -> io::Result<()> {
        let rest = self.cgroups.trees.iter().filter(|tree| !tree.is_unified);
        let mut rest = rest.filter(|tree| self.is_in(tree));
        rest.try_for_each(|tree| self.put(tree, "cgroup.procs", 0))
    }

    /// Moves this process, the last one, to the directory above, where that may
    /// have processes, and removes it. Otherwise the monitor does that.
    pub fn leave(&self) {
        for tree in &self.cgroups.trees {
            let _ = put(&tree.dir, "cgroup.procs", 0);
        }
        let _ = self.cgroups.remove_named(&self.name);
    }

    /// Kills every process. A v1 tree does not do that in one go: there may
    /// be new ones, so go on until it is empty.
    pub fn kill(&self) {
        self.while_stopped(|kill| match kill {
            Some(kill) => drop(kill.write_all_at(b"1", 0)),
            // None can slip away, nor its number become another's.
            None => {
                for pid in self.members() {
                    let _ = signal::send_child(Pid::from_raw(pid), SIGKILL);
                }
            }
        });
    }

    /// Does something while every process is stopped: none does anything more
    /// because another has ended. One that waits for a disk may not stop, and
    /// is not waited for long. `act` is given what kills them in v2.
    fn while_stopped(&self, act: impl FnOnce(Option<&fs::File>)) {
        let (Some(tree), Some((stop, kill))) = (self.tracker(), &self.switches) else {
            return;
        };
        let _ = stop.write_all_at(tree.name("1", "FROZEN").as_bytes(), 0);
        let file = tree.name("cgroup.events", "freezer.state");
        let has_stopped = |text: String| text.lines().any(|line| STOPPED.contains(&line));
        let over = Instant::now() + STOP_TIME;
        while self.get(tree, file).is_ok_and(|text| !has_stopped(text)) && Instant::now() < over {
            std::thread::sleep(STOP_PAUSE);
        }
        act(kill.as_ref());
        let _ = stop.write_all_at(tree.name("0", "THAWED").as_bytes(), 0);
    }

    fn open_switches(&self) -> io::Result<(fs::File, Option<fs::File>)> {
        let tree = self.tracker().ok_or(Errno::ENOENT)?;
        let open = |file| open_to_write(&tree.dir, &format!("{}/{file}", self.name));
        let kill = tree.is_unified.then(|| open("cgroup.kill")).transpose()?;
        Ok((open(tree.name("cgroup.freeze", "freezer.state"))?, kill))
    }

    fn tracker(&self) -> Option<&Tree> {
        self.cgroups.trees.iter().find(|tree| tree.does(TRACKING))
    }

    fn members(&self) -> Vec<i32> {
        let text = self.tracker().map(|tree| self.get(tree, "cgroup.procs"));
        let text = text.and_then(Result::ok).unwrap_or_default();
        text.lines().flat_map(str::parse).collect()
    }

    fn put(&self, tree: &Tree, file: &str, value: impl ToString) -> io::Result<()> {
        put(&tree.dir, &format!("{}/{file}", self.name), value)
    }

    fn get(&self, tree: &Tree, file: &str) -> io::Result<String> {
        get(&tree.dir, &format!("{}/{file}", self.name))
    }
}

/// Keepers look into it when they are not root any more.
const MODE: Mode = Mode::from_bits_truncate(0o755);
const DIR_FLAGS: OFlag =
    OFlag::from_bits_truncate(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC);

fn make_dir(path: &Path) -> io::Result<OwnedFd> {
    // It may be there.
    let _ = mkdir(path, MODE);
    Ok(open(path, DIR_FLAGS, Mode::empty())?)
}

fn put(dir: impl AsFd, file: &str, value: impl ToString) -> io::Result<()> {
    open_to_write(dir, file)?.write_all_at(value.to_string().as_bytes(), 0)
}

fn open_to_write(dir: impl AsFd, file: &str) -> io::Result<fs::File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    Ok(openat(dir, file, flags, Mode::empty())?.into())
}

fn get(dir: impl AsFd, file: &str) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = fs::File::from(openat(dir, file, flags, Mode::empty())?);
    io::read_to_string(file)
}
