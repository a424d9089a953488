//! Reading what jobs wrote: as lines once, or as bytes while they come. Each
//! piece is read by itself: between two pieces a reader holds neither a thread
//! nor an open file.

mod index;
mod lines;
mod picked;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::futures::OwnedNotified;
#[cfg(test)]
use warrant_wire::output::Stream;
use warrant_wire::output::{ENTRY_BYTES, Entry};

pub use self::lines::{Lines, Sink};
use self::picked::Picked;
use super::Jobs;
use crate::caller::Caller;
use crate::engine::{OutputFiles, OutputOwner};
use crate::error::{Error, Kind, Result};
use crate::live::Watch;
use crate::model::{Job, JobId, RunKey};

/// A stream that a process writes to.
pub use warrant_wire::output::Stream as OutputStream;

/// The most bytes read at a time.
const CHUNK: usize = 64 * 1024;
/// The most pieces read from the disk at the same time.
const AT_A_TIME: usize = 16;

/// Where output is read. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Semaphore>);

impl Disk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }

    /// Do something short that may wait for the disk.
    ///
    /// Errors: those of `work`.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let unreadable = |e: std::io::Error| {
            Error::caused(Kind::Unavailable, "The output cannot be read now.", e)
        };
        let turn = self.0.clone().acquire_owned().await;
        let work = move || {
            let _turn = turn;
            work()
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(unreadable),
            Err(e) => Err(unreadable(std::io::Error::other(e))),
        }
    }
}

/// Open a file, where it exists.
fn open(path: &Path) -> std::io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Jobs {
    fn files(&self, job: &Job) -> Option<(OutputFiles, OutputOwner)> {
        let run = RunKey {
            job: job.id,
            position: 0,
            attempt: job.attempt,
        };
        let engine = &self.0.engine;
        (job.attempt > 0).then(|| (engine.output(run), engine.owner(run, job.stamp)))
    }

    /// The lines a job has written so far; `None` while there are none.
    /// Lines of several processes, or of stdout and stderr, are kept apart
    /// and come in the order in which they ended.
    ///
    /// Errors: as [`Jobs::find`]; [`Kind::Denied`] for an operator; the output
    /// cannot be read, or that it is read cannot be recorded.
    pub async fn lines(&self, caller: &Caller, id: JobId) -> Result<Option<Lines>> {
        let job = self.find_to_read(caller, id).await?;
        self.reads(caller, id).await?;
        let Some((files, owner)) = self.files(&job) else {
            return Ok(None);
        };
        match self.0.disk.read(move || owner.is_of_job()).await? {
            true => Lines::open(self.0.disk.clone(), files).await,
            false => Ok(None),
        }
    }

    /// The bytes a job writes, as `wanted` says.
    ///
    /// Errors: as [`Jobs::lines`].
    pub async fn tail(&self, caller: &Caller, id: JobId, wanted: Wanted) -> Result<Tail> {
        let watch = self.0.live.watch(id);
        let job = self.find_to_read(caller, id).await?;
        self.reads(caller, id).await?;
        Ok(Tail {
            jobs: self.clone(),
            changed: watch.changed(),
            watch,
            job,
            ended: false,
            offset: wanted.offset,
            picked: wanted.only.map(|only| Picked::new(only, wanted.offset)),
            held: Vec::new(),
            follow: wanted.follow,
            pause: Tail::SHORTEST,
        })
    }
}

/// Which of a job's bytes to read.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Bytes to leave out at the beginning.
    pub offset: u64,
    /// One stream of its processes; `None` for both, in the order in which
    /// they were written.
    pub only: Option<OutputStream>,
    /// Whether to go on until the job ends, and not only to what is there now.
    pub follow: bool,
}

/// A job's output as it comes.
#[derive(Debug)]
pub struct Tail {
    jobs: Jobs,
    watch: Watch,
    /// A change of the job after the latest read began.
    changed: OwnedNotified,
    job: Job,
    /// Whether the job had ended before the latest read began.
    ended: bool,
    offset: u64,
    /// The place in one stream, where only one is read.
    picked: Option<Picked>,
    /// The beginning of a character of that stream.
    held: Vec<u8>,
    follow: bool,
    pause: Duration,
}

impl Tail {
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(250);

    /// The bytes that are there now, at most 64 KiB; none where there are none
    /// yet. While the job runs, a character that is not whole yet is kept for
    /// the next piece.
    ///
    /// Errors: the output cannot be read.
    pub async fn read(&mut self) -> Result<Vec<u8>> {
        self.changed = self.watch.changed();
        self.ended = self.job.state.is_final() || !self.follow;
        let Some((files, owner)) = self.jobs.files(&self.job) else {
            return Ok(Vec::new());
        };
        if let Some(place) = self.picked {
            return self.read_picked((files, owner), place).await;
        }
        let offset = self.offset;
        let read = move || {
            let mut bytes = Vec::new();
            if owner.is_of_job()?
                && let Some(file) = open(&files.data)?
                // The kernel refuses to read near the end of all offsets.
                && offset < file.metadata()?.len()
            {
                bytes.resize(CHUNK, 0);
                let got = file.read_at(&mut bytes, offset)?;
                bytes.truncate(got);
            }
            Ok(bytes)
        };
        let mut bytes = self.jobs.0.disk.read(read).await?;
        let is_last = self.ended && bytes.len() < CHUNK;
        if !is_last {
            bytes.truncate(bytes.len() - text::begun(&bytes));
        }
        if !bytes.is_empty() {
            self.offset = self.offset.saturating_add(bytes.len() as u64);
            self.pause = Self::SHORTEST;
        }
        Ok(bytes)
    }

    /// The same of one stream.
    async fn read_picked(
        &mut self,
        of: (OutputFiles, OutputOwner),
        mut place: Picked,
    ) -> Result<Vec<u8>> {
        let of = Arc::new(of);
        let mut bytes = std::mem::take(&mut self.held);
        let more = loop {
            let reading = of.clone();
            let read = move || {
                let (files, owner) = &*reading;
                owner.is_of_job()?.then(|| place.read(files)).transpose()
            };
            let Some(piece) = self.jobs.0.disk.read(read).await? else {
                break false;
            };
            place = piece.place;
            let found = !piece.bytes.is_empty();
            bytes.extend(piece.bytes);
            if found || !piece.more {
                break piece.more;
            }
        };
        self.picked = Some(place);
        if more || !self.ended {
            self.held = bytes.split_off(bytes.len() - text::begun(&bytes));
        }
        if !bytes.is_empty() {
            self.pause = Self::SHORTEST;
        }
        Ok(bytes)
    }

    /// After a read that gave nothing: wait until there may be something.
    /// Returns whether there may, which is not so once the job has ended.
    ///
    /// Errors: the store is away.
    pub async fn wait(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        // A job that waits writes nothing: only its own news matters then.
        let running = self.job.attempt > 0;
        let pause = if running {
            self.pause
        } else {
            Duration::from_secs(5)
        };
        let changed = std::mem::replace(&mut self.changed, self.watch.changed());
        let news = tokio::time::timeout(pause, changed).await.is_ok();
        self.pause = (self.pause * 2).min(Self::LONGEST);
        if news || !running || self.pause == Self::LONGEST {
            self.refresh().await?;
        }
        Ok(true)
    }

    /// Look at the job again. A later attempt writes to another file.
    async fn refresh(&mut self) -> Result<()> {
        let gone = || Error::new(Kind::NotFound, format!("Job {} not found", self.job.id));
        let found = self.jobs.0.store.find(self.job.id).await?;
        self.job = found.ok_or_else(gone)?;
        Ok(())
    }
}
