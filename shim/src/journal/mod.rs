//! The journal of warrants: which were accepted and which were used. What is
//! not in it, durably, has not happened.
//!
//! It is one file that grows at its end. Memory holds an index alone; the
//! launch of a job that waits is read back when it starts. Once more than
//! half of the file is about what does not count any more, the rest is
//! written to a new one.
//!
//! The largest time that was ever written is the high-water mark. A warrant
//! is forgotten only when that is beyond its end, and nothing is admitted
//! while the clock is behind it, so that no warrant can come back.

mod entry;
mod frames;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::renameat;
use warrant_wire::{Cursor, RunId, Stamp, StoreId};

use self::entry::Entry;
pub use self::entry::{Task, Warrant};
use self::frames::Frames;
use crate::identity::Identity;
use crate::self_check::{about, doubt};
use crate::spool::try_lock;
use crate::warrant::LEEWAY_S;

const NAME: &str = "journal";
/// A file that is not whole yet.
const NEW_NAME: &str = "journal.new";
/// Each time that the file has grown by so much, it is looked at what of it
/// still counts.
const GROWTH_BYTES: u64 = 16 << 20;
/// About what an admission or a warrant takes in the file, its launch aside.
const ENTRY_BYTES: u64 = 128;
/// What waits for the disk together has at most about so many bytes, and so
/// many entries.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_ENTRIES: usize = 256;
/// How often, in seconds, warrants that have ended are looked for.
const PURGE_S: u64 = 30;
/// A keeper that was just forked holds the lock until it has closed its files.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// An open journal, locked for this process.
pub struct Journal {
    dir: File,
    frames: Frames,
    /// Whether the file certainly has its name, also after a power cut.
    is_placed: bool,
    /// The size of the file at which it is looked at next.
    look_at_bytes: u64,
    index: Index,
    /// What waits to be written, and somebody for it.
    batch: Vec<u8>,
    pending: Vec<Pending>,
    /// What is to be written with the next batch and has happened already.
    late: Vec<u8>,
}

/// What a batch holds of a task.
struct Pending {
    task: Task,
    /// The warrant of an admission, whose it is, and the bytes of its launch.
    admitted: Option<([u8; 16], u32, u64)>,
}

/// Admissions that wait to be started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub jobs: u64,
    /// Bytes of their launches.
    pub bytes: u64,
}

impl Waiting {
    fn add(&mut self, bytes: u64) {
        self.jobs = self.jobs.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn remove(&mut self, bytes: u64) {
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The sum of all entries.
#[derive(Default)]
struct Index {
    // Boxed: a map has about as much room again as it has entries.
    admissions: HashMap<Task, Box<Admission>>,
    /// When the warrants end that must not come again.
    used: HashMap<[u8; 16], u64>,
    waiting: Waiting,
    waiting_of: HashMap<u32, Waiting>,
    high_water_s: u64,
    purged_s: u64,
    /// The job store whose tasks these are, if that is known.
    store: Option<StoreId>,
    /// The highest number of a job that was ever written.
    highest_job: u64,
}

/// A job that was admitted.
#[derive(Debug, Clone)]
pub struct Admission {
    /// By which warrant.
    pub warrant: Warrant,
    /// For whom.
    pub identity: Identity,
    /// Whether it may be started.
    pub state: State,
    /// Where its launch is.
    place: u64,
    /// None are left once its run is known to have begun.
    launch_bytes: usize,
}

/// Whether an admission may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may.
    Waiting,
    /// It was used.
    Used {
        /// By which attempt.
        attempt: u32,
        /// In which boot of the machine.
        boot_id: [u8; 16],
    },
}

impl Journal {
    /// Opens the journal in a directory that belongs to root alone. Answers
    /// how many bytes at its end were given up: of what a crash cut short.
    ///
    /// Errors: another process has it open; it is damaged, or of another
    /// version; it cannot be read or written.
    pub fn open(path: &Path) -> io::Result<(Self, u64)> {
        let about = about(path);
        let dir = File::open(path).map_err(&about)?;
        lock(&dir, path)?;
        let mut index = Index::default();
        let opened = Frames::open(&dir, NAME, |body, place| index.apply_all(body, place));
        let opened = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rewrite(&dir, &index, |_| Ok(Vec::new())).map(|(frames, _)| (frames, 0))
            }
            opened => opened,
        };
        let (frames, cut_bytes) = opened.map_err(&about)?;
        let journal = Self {
            dir,
            frames,
            is_placed: false,
            look_at_bytes: GROWTH_BYTES,
            index,
            batch: Vec::new(),
            pending: Vec::new(),
            late: Vec::new(),
        };
        Ok((journal, cut_bytes))
    }

    /// The admission of a task, if there is one that counts.
    #[must_use]
    pub fn find(&self, task: Task) -> Option<&Admission> {
        self.index.admissions.get(&task).map(Box::as_ref)
    }

    /// All admissions that count.
    pub fn admissions(&self) -> impl Iterator<Item = (&Task, &Admission)> {
        let all = self.index.admissions.iter();
        all.map(|(task, admission)| (task, &**admission))
    }

    /// Whether a warrant with this id was accepted before.
    #[must_use]
    pub fn is_used(&self, jti: &[u8; 16]) -> bool {
        self.index.used.contains_key(jti)
    }

    /// The admissions that wait to be started, those not yet durable included.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.with_pending(self.index.waiting, |_| true)
    }

    /// The same of one user.
    #[must_use]
    pub fn waiting_of(&self, uid: u32) -> Waiting {
        let durable = self.index.waiting_of.get(&uid).copied();
        self.with_pending(durable.unwrap_or_default(), |other| other == uid)
    }

    fn with_pending(&self, mut waiting: Waiting, is_whose: impl Fn(u32) -> bool) -> Waiting {
        for (_, uid, bytes) in self.pending.iter().filter_map(|it| it.admitted) {
            if is_whose(uid) {
                waiting.add(bytes);
            }
        }
        waiting
    }

    /// The largest time that was ever written, in seconds since the Unix epoch.
    #[must_use]
    pub fn high_water_s(&self) -> u64 {
        self.index.high_water_s
    }

    /// The job store that the journal belongs to; `None` if it is new, was
    /// released, or is of a version that did not write it down.
    #[must_use]
    pub fn store(&self) -> Option<StoreId> {
        self.index.store
    }

    /// The highest number of a job that was ever admitted or started.
    #[must_use]
    pub fn highest_job(&self) -> u64 {
        self.index.highest_job
    }

    /// Notes which store the journal belongs to. It is written with the next
    /// batch. What waits is forgotten where it is given to nobody: it is of a
    /// store whose broker will not ask for it.
    pub fn give_to(&mut self, store: Option<StoreId>) {
        if store.is_none() {
            let waiting = self
                .admissions()
                .filter(|(_, it)| it.state == State::Waiting);
            for task in waiting.map(|(task, _)| *task).collect::<Vec<_>>() {
                self.drop_waiting(task);
            }
        }
        self.happened((self.index.highest_job, 0), &Entry::Owned(store));
    }

    /// Whether the batch holds something about this task or this warrant.
    #[must_use]
    pub fn is_pending(&self, task: Task, jti: Option<&[u8; 16]>) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|it| {
            let used = it.admitted.as_ref().map(|(used, ..)| used);
            it.task == task || (jti.is_some() && used == jti)
        })
    }

    /// Whether the batch is large enough to be written at once.
    #[must_use]
    pub fn is_batch_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES || self.pending.len() >= BATCH_ENTRIES
    }

    /// Adds an admission to the batch.
    pub fn admit(&mut self, task: Task, warrant: Warrant, identity: Identity, launch: &[u8]) {
        let admitted = Some((warrant.jti, identity.uid, launch.len() as u64));
        self.pending.push(Pending { task, admitted });
        Entry::Admitted(warrant, identity, launch).write(task, &mut self.batch);
    }

    /// Adds the mark that a run starts to the batch.
    pub fn start(&mut self, run: RunId, boot_id: [u8; 16]) {
        let task = (run.job, run.task);
        let admitted = None;
        self.pending.push(Pending { task, admitted });
        Entry::Started(run.attempt, boot_id).write(task, &mut self.batch);
    }

    /// Forgets an admission that waits. It is written with the next batch.
    pub fn drop_waiting(&mut self, task: Task) {
        self.happened(task, &Entry::Dropped);
    }

    /// Lets the admission that a run used be used again, because that run
    /// certainly never began. It is written with the next batch.
    pub fn not_begun(&mut self, run: RunId) {
        if self.index.used_by(run).is_some() {
            self.happened((run.job, run.task), &Entry::NotBegun);
        }
    }

    /// Notes that a run has begun, or never will: the admission that it used
    /// will not be used again.
    pub fn begun(&mut self, run: RunId) {
        if let Some(admission) = self.index.used_by(run) {
            admission.launch_bytes = 0;
        }
    }

    fn happened(&mut self, task: Task, entry: &Entry<'_>) {
        entry.write(task, &mut self.late);
        self.index.apply(task, entry, 0);
    }

    /// Writes what waits, durably, in one go. After an error nothing of the
    /// batch has happened, and the next batch is tried anew.
    ///
    /// Errors: what the disk says.
    pub fn commit(&mut self, now_s: u64) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.pending.clear();
        if batch.is_empty() && self.late.is_empty() {
            return Ok(());
        }
        if !self.is_placed {
            self.dir.sync_all()?;
            self.is_placed = true;
        }
        let body = [&now_s.to_le_bytes()[..], &self.late, &batch].concat();
        let place = self.frames.append(&body)?;
        self.late = Vec::new();
        self.index.apply_all(&body, place);
        self.index.purge();
        if self.frames.bytes >= self.look_at_bytes {
            if self.frames.bytes / 2 > self.index.live_bytes() {
                // After an error the file there is goes on.
                if let Ok(new) = rewrite(&self.dir, &self.index, |it| self.launch(it)) {
                    (self.frames, self.index) = new;
                    self.is_placed = false;
                }
            }
            self.look_at_bytes = self.frames.bytes.saturating_add(GROWTH_BYTES);
        }
        Ok(())
    }

    /// The launch of an admission.
    ///
    /// Errors: what read(2) says.
    pub fn launch(&self, admission: &Admission) -> io::Result<Vec<u8>> {
        self.frames.read(admission.place, admission.launch_bytes)
    }
}

/// Writes what counts to a new file, which takes the place of the one that
/// was there, and of which `launch` reads the launches.
fn rewrite(
    dir: &File,
    old: &Index,
    launch: impl Fn(&Admission) -> io::Result<Vec<u8>>,
) -> io::Result<(Frames, Index)> {
    let (mut frames, mut index) = (Frames::create(dir, NEW_NAME)?, Index::default());
    let mut write = |body: &mut Vec<u8>, least_bytes| {
        if body.len() >= least_bytes {
            let place = frames.append(body)?;
            index.apply_all(body, place);
            body.truncate(size_of::<u64>());
        }
        io::Result::Ok(())
    };
    let mut body = old.high_water_s.to_le_bytes().to_vec();
    if old.store.is_some() || old.highest_job > 0 {
        Entry::Owned(old.store).write((old.highest_job, 0), &mut body);
    }
    for (jti, exp_s) in &old.used {
        Entry::Spent(*jti, *exp_s).write((0, 0), &mut body);
        write(&mut body, BATCH_BYTES)?;
    }
    for (task, it) in &old.admissions {
        Entry::Admitted(it.warrant, it.identity.clone(), &launch(it)?).write(*task, &mut body);
        if let State::Used { attempt, boot_id } = it.state {
            Entry::Started(attempt, boot_id).write(*task, &mut body);
        }
        write(&mut body, BATCH_BYTES)?;
    }
    write(&mut body, 0)?;
    renameat(dir, NEW_NAME, dir, NAME)?;
    Ok((frames, index))
}

impl Index {
    /// Applies a frame's body, which is at `place`: a time, and entries.
    /// `None` if there is something else in it.
    fn apply_all(&mut self, body: &[u8], place: u64) -> Option<()> {
        let mut from = Cursor::new(body);
        self.high_water_s = self.high_water_s.max(from.u64().ok()?);
        while from.left() > 0 {
            let (task, entry) = Entry::read(&mut from)?;
            self.apply(task, &entry, place + (body.len() - from.left()) as u64);
        }
        Some(())
    }

    /// `end` is where the entry ends, and with it the launch of an admission.
    fn apply(&mut self, task: Task, entry: &Entry<'_>, end: u64) {
        self.highest_job = self.highest_job.max(task.0);
        let waited = self.waits(task);
        let admission = self.admissions.get_mut(&task);
        match (entry, admission) {
            (Entry::Admitted(warrant, identity, launch), _) => {
                self.used.insert(warrant.jti, warrant.exp_s);
                let admission = Admission {
                    warrant: *warrant,
                    identity: identity.clone(),
                    state: State::Waiting,
                    place: end.saturating_sub(launch.len() as u64),
                    launch_bytes: launch.len(),
                };
                self.admissions.insert(task, Box::new(admission));
            }
            (Entry::Started(attempt, boot_id), Some(admission)) => {
                let (attempt, boot_id) = (*attempt, *boot_id);
                admission.state = State::Used { attempt, boot_id };
            }
            (Entry::NotBegun, Some(admission)) => admission.state = State::Waiting,
            (Entry::Dropped, _) => drop(self.admissions.remove(&task)),
            (Entry::Spent(jti, exp_s), _) => drop(self.used.insert(*jti, *exp_s)),
            (Entry::Owned(store), _) => self.store = *store,
            (Entry::Started(..) | Entry::NotBegun, None) => {}
        }
        let waits = self.waits(task);
        if waits != waited {
            self.count(waited, Waiting::remove);
            self.count(waits, Waiting::add);
        }
    }

    /// Whose admission of a task waits, and the bytes of its launch.
    fn waits(&self, task: Task) -> Option<(u32, u64)> {
        let admission = self.admissions.get(&task)?;
        let is_waiting = admission.state == State::Waiting;
        is_waiting.then_some((admission.identity.uid, admission.launch_bytes as u64))
    }

    fn count(&mut self, whose: Option<(u32, u64)>, change: fn(&mut Waiting, u64)) {
        let Some((uid, bytes)) = whose else { return };
        change(&mut self.waiting, bytes);
        let own = self.waiting_of.entry(uid).or_default();
        change(own, bytes);
        if own.jobs == 0 {
            self.waiting_of.remove(&uid);
        }
    }

    /// The admission that a run has used, while nobody has said yet whether
    /// it began.
    fn used_by(&mut self, run: RunId) -> Option<&mut Admission> {
        let admission = self.admissions.get_mut(&(run.job, run.task))?;
        let is_by =
            matches!(admission.state, State::Used { attempt, .. } if attempt == run.attempt);
        (is_by && admission.is_live()).then_some(admission)
    }

    /// Forgets warrants that have ended, from time to time.
    fn purge(&mut self) {
        if self.high_water_s < self.purged_s.saturating_add(PURGE_S) {
            return;
        }
        self.purged_s = self.high_water_s;
        let mark = self.high_water_s.saturating_sub(2 * LEEWAY_S);
        self.used.retain(|_, exp_s| *exp_s >= mark);
        self.admissions
            .retain(|_, admission| admission.is_live() || admission.warrant.exp_s >= mark);
    }

    /// About how many bytes would be written if all that counts were.
    fn live_bytes(&self) -> u64 {
        let launches = self.admissions.values().map(|it| it.launch_bytes as u64);
        let entries = (self.admissions.len() + self.used.len()) as u64;
        launches.sum::<u64>() + entries * ENTRY_BYTES
    }
}

impl Admission {
    /// Whose its runs are.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            uid: self.identity.uid,
            job_sha256: self.warrant.sha256,
        }
    }

    /// Whether it waits, or was used and may yet be given back.
    fn is_live(&self) -> bool {
        self.state == State::Waiting || self.launch_bytes > 0
    }
}

/// Takes the lock that keeps a second monitor out.
fn lock(dir: &File, path: &Path) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        if try_lock(dir).map_err(about(path))? {
            return Ok(());
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(doubt(path, "another monitor uses this directory"))
}
