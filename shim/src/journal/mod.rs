//! The journal of warrants: which were accepted and which were used. What is
//! not in it, durably, has not happened.
//!
//! It is a row of append-only segments. Memory holds an index alone; the
//! launch of a job that waits is read back from its segment when it starts.
//! A segment is deleted once it holds nothing that counts: no job that waits,
//! and no warrant that has not ended. What is left in a segment that is mostly
//! dead is carried over to the newest one.
//!
//! The largest time that was ever written is the high-water mark. A warrant
//! is forgotten only when that is beyond its end, and nothing is admitted
//! while the clock is behind it, so that no warrant can come back.

mod entry;
mod index;
mod segment;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use warrant_wire::RunId;

use self::entry::Entry;
pub use self::entry::{Task, Warrant};
use self::index::Index;
pub use self::index::{Admission, State};
use self::segment::{FRAME_BYTES, HEADER_BYTES, Segment};
use crate::identity::Identity;
use crate::self_check::Doubt;

/// A segment that has grown to this is closed.
const SEGMENT_BYTES: u64 = 16 << 20;
/// What waits for the disk together has at most about so many bytes, and so
/// many entries.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_ENTRIES: usize = 256;
/// A keeper that was just forked holds the lock until it has closed its files.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// An open journal, locked for this process.
pub struct Journal {
    dir: File,
    /// The newest segment's file.
    file: File,
    /// Whether the newest segment may hold something behind its end.
    torn: bool,
    index: Index,
    /// What waits to be written, and somebody for it.
    batch: Vec<u8>,
    pending: Vec<(Task, Option<[u8; 16]>)>,
    /// What is to be written with the next batch and has happened already.
    late: Vec<u8>,
}

impl Journal {
    /// Opens the journal in a directory that belongs to root alone. Answers
    /// how many bytes at its end were given up: of what a crash cut short.
    ///
    /// Errors: another process has it open; it is damaged, or of a newer
    /// version; it cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, u64), Doubt> {
        let about = |error| Doubt::about(path, error);
        let dir = File::open(path).map_err(about)?;
        lock(&dir, path)?;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(path).map_err(about)? {
            let name = entry.map_err(about)?.file_name();
            numbers.extend(name.to_str().and_then(segment::number));
        }
        numbers.sort_unstable();
        if numbers
            .windows(2)
            .any(|pair| !matches!(pair, [a, b] if a + 1 == *b))
        {
            return Err(Doubt::new(path, "a segment of the journal is missing"));
        }
        let newest = numbers.last().copied();
        let file = match newest {
            Some(number) => segment::open(&dir, number),
            None => segment::create(&dir, 1, 0).map(|(file, _)| file),
        };
        if newest.is_none() {
            numbers.push(1);
        }
        let mut journal = Self {
            dir,
            file: file.map_err(about)?,
            torn: false,
            index: Index::default(),
            batch: Vec::new(),
            pending: Vec::new(),
            late: Vec::new(),
        };
        let mut cut_bytes = 0;
        for number in &numbers {
            let newest = numbers.last() == Some(number);
            cut_bytes = journal.replay(*number, newest).map_err(|error| {
                about(io::Error::new(
                    error.kind(),
                    format!("segment {number}: {error}"),
                ))
            })?;
        }
        Ok((journal, cut_bytes))
    }

    /// The admission of a task, if there is one that counts.
    #[must_use]
    pub fn find(&self, task: Task) -> Option<&Admission> {
        self.index.admissions.get(&task)
    }

    /// All admissions that count.
    pub fn admissions(&self) -> impl Iterator<Item = (&Task, &Admission)> {
        self.index.admissions.iter()
    }

    /// Whether a warrant with this id was accepted before.
    #[must_use]
    pub fn is_used(&self, jti: &[u8; 16]) -> bool {
        self.index.used.contains_key(jti)
    }

    /// How many admissions wait to be started, those not yet durable included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.index.waiting.saturating_add(self.pending.len())
    }

    /// The largest time that was ever written, in seconds since the Unix epoch.
    #[must_use]
    pub fn high_water_s(&self) -> u64 {
        self.index.high_water_s
    }

    /// Whether the batch holds something about this task or this warrant.
    #[must_use]
    pub fn is_pending(&self, task: Task, jti: Option<&[u8; 16]>) -> bool {
        self.pending
            .iter()
            .any(|(other, used)| *other == task || (jti.is_some() && used.as_ref() == jti))
    }

    /// Whether the batch is large enough to be written at once.
    #[must_use]
    pub fn is_batch_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES || self.pending.len() >= BATCH_ENTRIES
    }

    /// Adds an admission to the batch.
    pub fn admit(&mut self, task: Task, warrant: Warrant, identity: Identity, launch: &[u8]) {
        self.pending.push((task, Some(warrant.jti)));
        let entry = Entry::Admitted {
            task,
            warrant,
            identity,
            launch,
        };
        entry.write(&mut self.batch);
    }

    /// Adds the mark that a run starts to the batch.
    pub fn start(&mut self, run: RunId, boot_id: [u8; 16]) {
        self.pending.push(((run.job, run.task), None));
        Entry::Started { run, boot_id }.write(&mut self.batch);
    }

    /// Forgets an admission that waits. It is written with the next batch.
    pub fn drop_waiting(&mut self, task: Task) {
        self.happened(&Entry::Dropped { task });
    }

    /// Lets the admission that a run used be used again, because that run
    /// certainly never began. It is written with the next batch.
    pub fn not_begun(&mut self, run: RunId) {
        if self.index.is_begin_open(run) {
            let task = (run.job, run.task);
            self.happened(&Entry::NotBegun { task });
        }
    }

    /// Notes that a run has begun, or never will: the admission that it used
    /// will not be used again.
    pub fn begun(&mut self, run: RunId) {
        if self.index.is_begin_open(run) {
            self.index.release((run.job, run.task));
        }
    }

    fn happened(&mut self, entry: &Entry<'_>) {
        entry.write(&mut self.late);
        self.index.apply(entry, 0, 0);
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
        let mut body = now_s.to_le_bytes().to_vec();
        body.extend_from_slice(&self.late);
        body.extend(batch);
        self.write(&body)?;
        self.late = Vec::new();
        self.tidy(now_s);
        Ok(())
    }

    /// The launch of an admission.
    ///
    /// Errors: what open(2) and read(2) say.
    pub fn launch(&self, admission: &Admission) -> io::Result<Vec<u8>> {
        let mut launch = vec![0; admission.place.bytes];
        segment::open(&self.dir, admission.place.segment)?
            .read_exact_at(&mut launch, admission.place.offset)?;
        Ok(launch)
    }

    /// Writes a frame at the end of the newest segment, and applies it.
    fn write(&mut self, body: &[u8]) -> io::Result<()> {
        let bytes = self.newest()?.bytes;
        if bytes >= SEGMENT_BYTES
            && let Err(error) = self.rotate()
            && bytes >= 4 * SEGMENT_BYTES
        {
            // Without a new one the old one goes on, up to a point.
            return Err(error);
        }
        let newest = self.newest()?;
        let (number, end, salt) = (newest.number, newest.bytes, newest.salt);
        if self.torn {
            self.file.set_len(end)?;
            self.file.sync_data()?;
        }
        let frame = segment::frame(&salt, end, body)?;
        // Until the disk says otherwise, nobody knows what is there.
        self.torn = true;
        self.file.write_all_at(&frame, end)?;
        self.file.sync_data()?;
        self.torn = false;
        self.index
            .apply_all(body, number, end + FRAME_BYTES as u64)
            .ok_or_else(|| io::Error::other("an entry cannot be read back"))?;
        if let Some(newest) = self.index.segments.back_mut() {
            newest.bytes = end + frame.len() as u64;
        }
        Ok(())
    }

    fn newest(&self) -> io::Result<&Segment> {
        self.index
            .segments
            .back()
            .ok_or_else(|| io::Error::other("there is no segment"))
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.torn {
            // What may be behind its end must not stay in a closed segment.
            self.file.set_len(self.newest()?.bytes)?;
            self.file.sync_data()?;
        }
        let number = self.newest()?.number + 1;
        let (file, segment) = segment::create(&self.dir, number, self.index.high_water_s)?;
        self.file = file;
        self.torn = false;
        self.index.segments.push_back(segment);
        Ok(())
    }

    /// Reads a segment and applies what is in it. Answers how many bytes at
    /// its end were given up, which only the newest one may have.
    fn replay(&mut self, number: u64, newest: bool) -> io::Result<u64> {
        let damaged = |text: &'static str| io::Error::new(io::ErrorKind::InvalidData, text);
        let file = segment::open(&self.dir, number)?;
        let content = segment::content(&file)?;
        let (segment, high_water_s) = segment::read_header(&content, number).map_err(damaged)?;
        let salt = segment.salt;
        self.index.high_water_s = self.index.high_water_s.max(high_water_s);
        self.index.segments.push_back(segment);
        let mut at = HEADER_BYTES;
        while let Some(body) = segment::body(&content, &salt, at) {
            self.index
                .apply_all(body, number, (at + FRAME_BYTES) as u64)
                .ok_or_else(|| damaged("was written by another version of the shim"))?;
            at += FRAME_BYTES + body.len();
        }
        if let Some(segment) = self.index.segments.back_mut() {
            segment.bytes = at as u64;
        }
        if at == content.len() {
            return Ok(0);
        }
        // A frame is begun when the one before is durable: a good one behind
        // a bad one means damage, not a crash.
        let good_behind =
            (at + 1..content.len()).any(|at| segment::body(&content, &salt, at).is_some());
        if !newest || good_behind {
            return Err(damaged("is damaged"));
        }
        file.set_len(at as u64)?;
        file.sync_all()?;
        Ok((content.len() - at) as u64)
    }

    /// Forgets what has ended and deletes segments that hold nothing else. An
    /// error means that it is tried again with the next batch.
    fn tidy(&mut self, now_s: u64) {
        self.index.purge();
        while let [oldest, _, ..] = self.index.segments.make_contiguous() {
            let (number, live_bytes, last_exp_s) =
                (oldest.number, oldest.live_bytes, oldest.last_exp_s);
            if !self.index.is_over(last_exp_s) {
                return;
            }
            if live_bytes > 0
                && (!self.index.is_mostly_dead(4 * SEGMENT_BYTES)
                    || self.carry_over(number, now_s).is_err())
            {
                return;
            }
            if segment::remove(&self.dir, number).is_err() {
                return;
            }
            self.index.segments.pop_front();
        }
    }

    /// Writes what is live in a segment once more, at the end of the journal.
    fn carry_over(&mut self, number: u64, now_s: u64) -> io::Result<()> {
        let mut body = now_s.to_le_bytes().to_vec();
        for (task, admission) in &self.index.admissions {
            if admission.place.segment != number || !admission.is_live {
                continue;
            }
            let entry = Entry::Admitted {
                task: *task,
                warrant: admission.warrant,
                identity: admission.identity.clone(),
                launch: &self.launch(admission)?,
            };
            entry.write(&mut body);
            if let State::Used { attempt, boot_id } = admission.state {
                let (job, task) = *task;
                let run = RunId { job, task, attempt };
                Entry::Started { run, boot_id }.write(&mut body);
            }
        }
        self.write(&body)
    }
}

/// Takes the lock that keeps a second monitor out.
fn lock(dir: &File, path: &Path) -> Result<(), Doubt> {
    for _ in 0..LOCK_TRIES {
        match dir.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(std::fs::TryLockError::Error(error)) => return Err(Doubt::about(path, error)),
        }
    }
    Err(Doubt::new(path, "another monitor uses this directory"))
}
