//! Storing output: bytes to one file, whose they are to another.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::unistd::read;
use warrant_wire::output::{ENTRY_BYTES, Entry, Stream};
use warrant_wire::{RunFile, RunId};

use crate::clock;
use crate::spool::Spool;

/// Output of one process within this time is one entry of the index.
const ENTRY_SPAN_US: u64 = 1_000_000;
/// Bytes taken from one pipe before the next has its turn: what a pipe holds.
const TAKE_BYTES: usize = 64 * 1024;

/// A run's output, stored up to its cap; the rest is counted and dropped.
/// Whatever the disk says, the run goes on.
pub(super) struct Output<'a> {
    spool: &'a Spool,
    run: RunId,
    cap: u64,
    null: BorrowedFd<'a>,
    files: Option<Files>,
    /// How many bytes are in the file and in the index.
    stored: u64,
    dropped: u64,
    failed: bool,
    capped: bool,
    entries: u64,
    last: Option<Entry>,
}

struct Files {
    data: File,
    index: File,
}

impl<'a> Output<'a> {
    /// Nothing yet, and no files before the first byte.
    #[must_use]
    pub(super) fn new(spool: &'a Spool, run: RunId, cap: u64, null: BorrowedFd<'a>) -> Self {
        Self {
            spool,
            run,
            cap,
            null,
            files: None,
            stored: 0,
            dropped: 0,
            failed: false,
            capped: false,
            entries: 0,
            last: None,
        }
    }

    /// How many bytes were stored.
    #[must_use]
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored
    }

    /// How many bytes were dropped.
    #[must_use]
    pub(super) fn dropped_bytes(&self) -> u64 {
        self.dropped
    }

    /// Whether bytes were dropped because they could not be written.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Takes bytes that a process wrote from its pipe, which must have some,
    /// and answers how many; 0 if it was the end. Nobody looks at them.
    ///
    /// Errors: `EAGAIN`, `EINTR`: come back later.
    pub(super) fn take(
        &mut self,
        rank: u16,
        stream: Stream,
        pipe: BorrowedFd<'_>,
    ) -> Result<usize, Errno> {
        let room = match self.capped {
            true => 0,
            false => usize::try_from(self.cap.saturating_sub(self.stored)).unwrap_or(usize::MAX),
        };
        if room > 0 {
            match self.keep(pipe, room.min(TAKE_BYTES)) {
                Ok(count) => {
                    if count > 0 && self.enter(rank, stream, count).is_err() {
                        self.lose(count);
                    }
                    return Ok(count);
                }
                Err(errno @ (Errno::EAGAIN | Errno::EINTR)) => return Err(errno),
                Err(_) => self.failed = true,
            }
        }
        let count = self.discard(pipe)?;
        self.dropped += count as u64;
        if room == 0 && count > 0 && !self.capped {
            self.capped = true;
            let break_line = if self.ends_line() { "" } else { "\n" };
            let marker = format!(
                "{break_line}warrant: output limit of {} bytes reached; the rest is dropped\n",
                self.cap
            );
            self.store(rank, Stream::Stderr, marker.as_bytes());
        }
        Ok(count)
    }

    /// Adds a line of our own, whatever the cap, to a process's errors.
    pub(super) fn note(&mut self, rank: u16, line: &str) {
        self.store(rank, Stream::Stderr, line.as_bytes());
    }

    fn store(&mut self, rank: u16, stream: Stream, bytes: &[u8]) {
        let written = self
            .files()
            .and_then(|(files, end)| files.data.write_all_at(bytes, end))
            .and_then(|()| self.enter(rank, stream, bytes.len()));
        if written.is_err() {
            self.lose(bytes.len());
        }
    }

    fn lose(&mut self, count: usize) {
        self.failed = true;
        self.dropped += count as u64;
    }

    /// The files, and where the output ends in its file.
    fn files(&mut self) -> io::Result<(&mut Files, u64)> {
        let files = match &mut self.files {
            Some(files) => files,
            none => none.insert(Files {
                data: self.spool.create_output(self.run, RunFile::Output)?,
                index: self.spool.create_output(self.run, RunFile::Index)?,
            }),
        };
        Ok((files, self.stored))
    }

    /// Moves bytes from a pipe to the end of the file.
    fn keep(&mut self, pipe: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let (files, end) = self.files().map_err(errno)?;
        let mut place = i64::try_from(end).map_err(|_| Errno::EFBIG)?;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        match splice(pipe, None, &files.data, Some(&mut place), most, flags) {
            // Not every file system can: then through our memory.
            Err(Errno::EINVAL) => {
                let mut bytes = vec![0; most];
                let count = read(pipe, &mut bytes)?;
                let bytes = bytes.get(..count).unwrap_or_default();
                if files.data.write_all_at(bytes, end).is_err() {
                    self.lose(count);
                    return Err(Errno::EAGAIN);
                }
                Ok(count)
            }
            other => other,
        }
    }

    fn discard(&self, pipe: BorrowedFd<'_>) -> Result<usize, Errno> {
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        match splice(pipe, None, self.null, None, TAKE_BYTES, flags) {
            Err(Errno::EINVAL) => read(pipe, &mut vec![0; TAKE_BYTES]),
            other => other,
        }
    }

    fn ends_line(&self) -> bool {
        let (Some(files), Some(last)) = (&self.files, self.stored.checked_sub(1)) else {
            return true;
        };
        let mut byte = [0];
        files.data.read_exact_at(&mut byte, last).is_err() || byte == *b"\n"
    }

    /// Says in the index whose the next `count` bytes of the file are. If
    /// this fails they are not counted, and will be overwritten.
    fn enter(&mut self, rank: u16, stream: Stream, count: usize) -> io::Result<()> {
        let now_us = clock::now_us();
        let len = u32::try_from(count).map_err(io::Error::other)?;
        let (last, entries) = (self.last, self.entries);
        let (files, end) = self.files()?;
        let grown = last.and_then(|last| {
            let fits = last.rank == rank
                && last.stream == stream
                && now_us.saturating_sub(last.time_us) < ENTRY_SPAN_US;
            let len = last.len.checked_add(len)?;
            fits.then_some(Entry { len, ..last })
        });
        let (entry, number) = match grown {
            Some(entry) => (entry, entries - 1),
            None => {
                let entry = Entry {
                    offset: end,
                    time_us: now_us,
                    len,
                    rank,
                    stream,
                };
                (entry, entries)
            }
        };
        files
            .index
            .write_all_at(&entry.encode(), number * ENTRY_BYTES as u64)?;
        self.entries = number + 1;
        self.last = Some(entry);
        self.stored += count as u64;
        Ok(())
    }
}
