//! Storing output: bytes to one file, whose they are to another.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use warrant_wire::output::{ENTRY_BYTES, Entry, Stream};

use crate::clock;

/// Bytes of the index that the cap does not count: room for the few entries of
/// ordinary output, of which a cap keeps as many bytes as it says.
const FREE_INDEX_BYTES: u64 = 1024;
/// Output of one process within this time is one entry of the index.
const ENTRY_SPAN_US: u64 = 1_000_000;
/// Bytes taken from one pipe before the next has its turn: what a pipe holds.
const TAKE_BYTES: usize = 64 * 1024;

/// A run's output, stored up to its cap, which counts all that is kept: the
/// bytes and their index. The rest is counted and dropped.
/// Whatever the disk says, the run goes on.
pub(crate) struct Output<'a> {
    cap_bytes: u64,
    /// Where the rest goes.
    null: &'a OwnedFd,
    /// `None` where they could not be made.
    pub(crate) files: Option<Files>,
    /// How many bytes are in the file and in the index.
    pub(super) stored: u64,
    /// How many bytes were dropped.
    pub(super) dropped: u64,
    /// Whether bytes were dropped because they could not be written.
    pub(super) failed: bool,
    capped: bool,
    entries: u64,
    last: Option<Entry>,
}

/// The files of a run's output.
pub(crate) struct Files {
    pub(crate) data: File,
    pub(crate) index: File,
}

impl<'a> Output<'a> {
    /// Nothing yet, and no files.
    pub(crate) fn new(cap_bytes: u64, null: &'a OwnedFd) -> Self {
        Self {
            cap_bytes,
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
        let cap = self.cap_bytes;
        let most = if self.capped { 0 } else { TAKE_BYTES as u64 };
        let room = cap.saturating_sub(self.kept()).min(most) as usize;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        if room > 0 {
            let kept = self.append(rank, stream, |data, end| {
                let mut place = end.try_into().map_err(io::Error::other)?;
                Ok(splice(pipe, None, data, Some(&mut place), room, flags)?)
            });
            match kept.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0))) {
                kept @ (Ok(_) | Err(Errno::EAGAIN | Errno::EINTR)) => return kept,
                Err(_) => self.failed = true,
            }
        }
        let count = splice(pipe, None, self.null, None, TAKE_BYTES, flags)?;
        self.dropped += count as u64;
        if room == 0 && count > 0 && !self.capped {
            self.capped = true;
            let break_line = if self.ends_line() { "" } else { "\n" };
            let limit = format!("output limit of {cap} bytes reached; the rest is dropped");
            self.note(rank, &format!("{break_line}warrant: {limit}\n"));
        }
        Ok(count)
    }

    /// How many bytes count for the cap once one more entry is made.
    fn kept(&self) -> u64 {
        let index = (self.entries + 1) * ENTRY_BYTES as u64;
        self.stored + index.saturating_sub(FREE_INDEX_BYTES)
    }

    /// Adds a line of our own, whatever the cap, to a process's errors.
    pub(super) fn note(&mut self, rank: u16, line: &str) {
        let noted = self.append(rank, Stream::Stderr, |data, end| {
            data.write_all_at(line.as_bytes(), end)?;
            Ok(line.len())
        });
        noted.unwrap_or_else(|_| self.lose(line.len()));
    }

    /// Counts bytes as dropped.
    fn lose(&mut self, count: usize) -> usize {
        self.failed = true;
        self.dropped += count as u64;
        count
    }

    /// Has bytes put at the end of the file and, if there are any, enters them
    /// in the index. Should that fail they are dropped, and overwritten.
    fn append(
        &mut self,
        rank: u16,
        stream: Stream,
        put: impl FnOnce(&File, u64) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let files = self.files.as_ref().ok_or(Errno::EIO)?;
        let count = put(&files.data, self.stored)?;
        match count == 0 || self.enter(rank, stream, count).is_ok() {
            true => Ok(count),
            false => Ok(self.lose(count)),
        }
    }

    fn ends_line(&self) -> bool {
        let (Some(files), Some(last)) = (&self.files, self.stored.checked_sub(1)) else {
            return true;
        };
        let mut byte = [0];
        files.data.read_exact_at(&mut byte, last).is_err() || byte == *b"\n"
    }

    /// Says in the index whose the next `count` bytes of the file are.
    fn enter(&mut self, rank: u16, stream: Stream, count: usize) -> io::Result<()> {
        let now_us = clock::now_us();
        let len = u32::try_from(count).map_err(io::Error::other)?;
        let mut number = self.entries;
        let mut entry = Entry {
            offset: self.stored,
            time_us: now_us,
            len,
            rank,
            stream,
        };
        if let Some(last) = self
            .last
            .filter(|last| (last.rank, last.stream) == (rank, stream))
            && now_us.saturating_sub(last.time_us) < ENTRY_SPAN_US
            && let Some(len) = last.len.checked_add(len)
        {
            entry = Entry { len, ..last };
            number -= 1;
        }
        let place = number * ENTRY_BYTES as u64;
        let files = self.files.as_ref().ok_or(Errno::EIO)?;
        files.index.write_all_at(&entry.encode(), place)?;
        self.entries = number + 1;
        self.last = Some(entry);
        self.stored += count as u64;
        Ok(())
    }
}
