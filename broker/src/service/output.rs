//! Reading what jobs wrote: as lines once, or as bytes while they come.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use warrant_wire::output::{ENTRY_BYTES, Entry};

use super::Jobs;
use crate::caller::Caller;
use crate::engine::OutputFiles;
use crate::error::{Error, Kind, Result};
use crate::live::Watch;
use crate::model::{Job, JobId, RunKey};
use crate::store::Store;

/// The most bytes read at a time.
const CHUNK: usize = 64 * 1024;
/// The longest line given whole; what is longer is cut there.
const LINE: usize = 1 << 20;

impl Jobs {
    fn files(&self, job: &Job) -> Option<OutputFiles> {
        let run = RunKey {
            job: job.id,
            position: 0,
            attempt: job.attempt,
        };
        (job.attempt > 0).then(|| self.0.engine.output(run))
    }

    /// The lines a job has written so far; `None` while there are none.
    /// Lines of several processes, or of stdout and stderr, are kept apart
    /// and come in the order in which they began.
    ///
    /// Errors: as [`Jobs::find`]; [`Kind::Denied`] for an operator; the output
    /// cannot be read, or that it is read cannot be recorded.
    pub async fn lines(&self, caller: &Caller, id: JobId) -> Result<Option<Lines>> {
        let job = self.find_to_read(caller, id).await?;
        self.reads(caller, id)?;
        let Some(files) = self.files(&job) else {
            return Ok(None);
        };
        blocking(move || Lines::open(files)).await
    }

    /// The bytes a job writes, from `offset` on, until it ends.
    ///
    /// Errors: as [`Jobs::lines`].
    pub async fn tail(&self, caller: &Caller, id: JobId, offset: u64) -> Result<Tail> {
        let watch = self.0.live.watch(id);
        let job = self.find_to_read(caller, id).await?;
        self.reads(caller, id)?;
        Ok(Tail {
            store: self.0.store.clone(),
            engine: self.clone(),
            watch,
            job,
            file: None,
            offset,
            pause: Tail::SHORTEST,
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let unreadable =
        |e: std::io::Error| Error::caused(Kind::Unavailable, "The output cannot be read now.", e);
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(unreadable),
        Err(e) => Err(unreadable(std::io::Error::other(e))),
    }
}

fn open(path: &PathBuf) -> std::io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// What one process writes to one stream, up to the end of a line.
type Source = (u16, u8);

/// An iterator over a job's lines; reads blocking, a piece at a time.
#[derive(Debug)]
pub struct Lines {
    data: File,
    index: File,
    at: u64,
    covered: u64,
    open: HashMap<Source, Vec<u8>>,
    order: Vec<Source>,
    ready: std::collections::VecDeque<Vec<u8>>,
    done: bool,
}

impl Lines {
    fn open(files: OutputFiles) -> std::io::Result<Option<Self>> {
        let (Some(data), Some(index)) = (open(&files.data)?, open(&files.index)?) else {
            return Ok(None);
        };
        if index.metadata()?.len() < ENTRY_BYTES as u64 {
            return Ok(None);
        }
        Ok(Some(Self {
            data,
            index,
            at: 0,
            covered: 0,
            open: HashMap::new(),
            order: Vec::new(),
            ready: std::collections::VecDeque::new(),
            done: false,
        }))
    }

    /// The next line with its newline, or the rest of the last one without.
    ///
    /// Errors: the files cannot be read.
    pub fn next_line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if self.done {
                return Ok(None);
            }
            match self.next_entry()? {
                Some(entry) => self.read(&entry)?,
                None => {
                    self.done = true;
                    for source in std::mem::take(&mut self.order) {
                        self.ready
                            .extend(self.open.remove(&source).filter(|rest| !rest.is_empty()));
                    }
                }
            }
        }
    }

    /// The next stretch that was not read yet. The last entry of a running
    /// job may grow after it was read: where the next one leaves a gap, the
    /// entry before it is looked at again.
    fn next_entry(&mut self) -> std::io::Result<Option<Entry>> {
        const SIZE: u64 = ENTRY_BYTES as u64;
        let Some(entry) = self.entry(self.at)? else {
            return Ok(None);
        };
        if entry.offset > self.covered
            && let Some(before) = self.at.checked_sub(SIZE)
        {
            return self.entry(before);
        }
        self.at += SIZE;
        Ok(Some(entry))
    }

    fn entry(&self, at: u64) -> std::io::Result<Option<Entry>> {
        let mut bytes = [0; ENTRY_BYTES];
        match self.index.read_exact_at(&mut bytes, at) {
            Ok(()) => Entry::decode(&bytes)
                .map(Some)
                .map_err(std::io::Error::other),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn read(&mut self, entry: &Entry) -> std::io::Result<()> {
        let source = (entry.rank, entry.stream as u8);
        let end = entry.offset.saturating_add(u64::from(entry.len));
        let mut piece = vec![0; CHUNK];
        while self.covered < end {
            let want = usize::try_from(end - self.covered)
                .unwrap_or(CHUNK)
                .min(CHUNK);
            let got = self
                .data
                .read_at(piece.get_mut(..want).unwrap_or_default(), self.covered)?;
            if got == 0 {
                return Err(std::io::Error::other(
                    "the output is shorter than its index says",
                ));
            }
            self.add(source, piece.get(..got).unwrap_or_default());
            self.covered += got as u64;
        }
        Ok(())
    }

    fn add(&mut self, source: Source, bytes: &[u8]) {
        let open = self.open.entry(source).or_insert_with(|| {
            self.order.push(source);
            Vec::new()
        });
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            open.extend_from_slice(part);
            if part.ends_with(b"\n") || open.len() >= LINE {
                self.ready.push_back(std::mem::take(open));
            }
        }
    }
}

/// A job's output as it comes.
#[derive(Debug)]
pub struct Tail {
    store: Store,
    engine: Jobs,
    watch: Watch,
    job: Job,
    file: Option<File>,
    offset: u64,
    pause: Duration,
}

impl Tail {
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(250);

    /// The next bytes; `None` once the job has ended and all was given.
    ///
    /// Errors: the output or the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let changed = self.watch.changed();
            let ended = self.job.state.is_final();
            let bytes = self.read().await?;
            if !bytes.is_empty() {
                self.offset += bytes.len() as u64;
                self.pause = Self::SHORTEST;
                return Ok(Some(bytes));
            }
            if ended {
                return Ok(None);
            }
            // A job that waits writes nothing: only its own news matters then.
            let running = self.job.attempt > 0;
            let pause = if running {
                self.pause
            } else {
                Duration::from_secs(5)
            };
            let news = tokio::time::timeout(pause, changed).await.is_ok();
            self.pause = (self.pause * 2).min(Self::LONGEST);
            if news || !running || self.pause == Self::LONGEST {
                self.refresh().await?;
            }
        }
    }

    /// Look at the job again. A later attempt writes to another file.
    async fn refresh(&mut self) -> Result<()> {
        let gone = || Error::new(Kind::NotFound, format!("Job {} not found", self.job.id));
        let job = self.store.find(self.job.id).await?.ok_or_else(gone)?;
        if job.attempt != self.job.attempt {
            self.file = None;
        }
        self.job = job;
        Ok(())
    }

    async fn read(&mut self) -> Result<Vec<u8>> {
        let Some(files) = self.engine.files(&self.job) else {
            return Ok(Vec::new());
        };
        let (file, offset) = (self.file.take(), self.offset);
        let (file, bytes) = blocking(move || {
            let file = match file {
                Some(file) => Some(file),
                None => open(&files.data)?,
            };
            let mut bytes = Vec::new();
            if let Some(file) = &file {
                bytes.resize(CHUNK, 0);
                let got = file.read_at(&mut bytes, offset)?;
                bytes.truncate(got);
            }
            Ok((file, bytes))
        })
        .await?;
        self.file = file;
        Ok(bytes)
    }
}
