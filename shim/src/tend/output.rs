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
/// bytes and their index. The rest is counted and dropped, and where it is
/// missing a line says so. Whatever the disk says, the run goes on.
pub(crate) struct Output<'a> {
    cap_bytes: u64,
    /// Where the rest goes.
    null: &'a OwnedFd,
    /// `None` where they could not be made.
    pub(crate) files: Option<Files>,
    /// Why there are no files.
    pub(crate) no_files: Errno,
    /// How many bytes are in the file and in the index.
    stored: u64,
    /// How many of these say what is missing in place of what was stored.
    instead: u64,
    /// How many bytes were dropped.
    pub(super) dropped: u64,
    /// Whether bytes were dropped because they could not be written.
    pub(super) failed: bool,
    capped: bool,
    /// What is missing and not said in the output yet.
    unsaid: Unsaid,
    entries: u64,
    last: Option<Entry>,
}

/// What of the output is missing.
#[derive(Default)]
struct Unsaid {
    /// Bytes that could not be written.
    bytes: u64,
    /// Why not.
    why: Option<Errno>,
    /// Whether the cap was reached.
    cap: bool,
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
            no_files: Errno::EIO,
            stored: 0,
            instead: 0,
            dropped: 0,
            failed: false,
            capped: false,
            unsaid: Unsaid::default(),
            entries: 0,
            last: None,
        }
    }

    /// How many bytes of output are kept.
    pub(super) fn kept(&self) -> u64 {
        self.stored.saturating_sub(self.instead)
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
        let room = cap.saturating_sub(self.counted()).min(most) as usize;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        if room > 0 && self.say(rank) {
            let kept = self.append(rank, stream, |data, end| {
                let mut place = end.try_into().map_err(io::Error::other)?;
                Ok(splice(pipe, None, data, Some(&mut place), room, flags)?)
            });
            match kept {
                Ok((count, None)) => return Ok(count),
                Ok((count, Some(error))) => {
                    self.lose(count, &error);
                    return Ok(count);
                }
                Err(error) => {
                    let why = errno(&error);
                    if [Errno::EAGAIN, Errno::EINTR].contains(&why) {
                        return Err(why);
                    }
                    self.unsaid.why = Some(why);
                }
            }
        }
        let count = splice(pipe, None, self.null, None, TAKE_BYTES, flags)?;
        self.dropped += count as u64;
        if room > 0 && count > 0 {
            self.failed = true;
            self.unsaid.bytes += count as u64;
        }
        if room == 0 && count > 0 && !self.capped {
            self.capped = true;
            self.unsaid.cap = true;
            self.say(rank);
        }
        Ok(count)
    }

    /// How many bytes count for the cap once one more entry is made.
    fn counted(&self) -> u64 {
        let index = (self.entries + 1) * ENTRY_BYTES as u64;
        self.stored + index.saturating_sub(FREE_INDEX_BYTES)
    }

    /// Adds a line of our own, whatever the cap, to a process's errors.
    pub(super) fn note(&mut self, rank: u16, line: &str) {
        if !self.add_line(rank, line) {
            self.failed = true;
            self.dropped += line.len() as u64;
        }
    }

    /// Says what is missing, where that was not said yet, if there is room for
    /// as much as that.
    pub(super) fn finish(&mut self) {
        let rank = self.last.map_or(0, |last| last.rank);
        if !self.say(rank) {
            self.say_instead();
        }
    }

    /// Says in the output what is missing there; returns whether nothing is
    /// left to say.
    fn say(&mut self, rank: u16) -> bool {
        let Some(line) = self.unsaid.line(self.cap_bytes, 0) else {
            return true;
        };
        let break_line = if self.ends_line() { "" } else { "\n" };
        let said = self.add_line(rank, &format!("{break_line}{line}"));
        if said {
            self.unsaid = Unsaid::default();
        }
        said
    }

    /// Says what is missing in place of the last bytes that were stored: this
    /// takes no room on the disk. They count as dropped.
    fn say_instead(&mut self) {
        let line = |more| {
            let line = self.unsaid.line(self.cap_bytes, more);
            line.map(|line| format!("\n{line}"))
        };
        // The number of bytes may get another digit by what the line takes.
        let Some(line) = line(0).and_then(|first| line(first.len() as u64)) else {
            return;
        };
        let count = line.len() as u64;
        let fits = self.last.is_some_and(|last| u64::from(last.len) >= count);
        if let (true, Some(files)) = (fits, &self.files)
            && files
                .data
                .write_all_at(line.as_bytes(), self.stored - count)
                .is_ok()
        {
            self.dropped += count;
            self.instead = count;
            self.unsaid = Unsaid::default();
        }
    }

    /// Adds a line; returns whether there was room for it.
    fn add_line(&mut self, rank: u16, line: &str) -> bool {
        let added = self.append(rank, Stream::Stderr, |data, end| {
            data.write_all_at(line.as_bytes(), end)?;
            Ok(line.len())
        });
        matches!(added, Ok((_, None)))
    }

    /// Counts bytes as dropped.
    fn lose(&mut self, count: usize, error: &io::Error) {
        self.failed = true;
        self.dropped += count as u64;
        self.unsaid.bytes += count as u64;
        self.unsaid.why = Some(errno(error));
    }

    /// Has bytes put at the end of the file and, if there are any, enters them
    /// in the index. Should that fail, the second of the answer says why: the
    /// bytes are gone, and will be overwritten.
    fn append(
        &mut self,
        rank: u16,
        stream: Stream,
        put: impl FnOnce(&File, u64) -> io::Result<usize>,
    ) -> io::Result<(usize, Option<io::Error>)> {
        let files = self.files.as_ref().ok_or(self.no_files)?;
        let count = put(&files.data, self.stored)?;
        let entered = match count {
            0 => Ok(()),
            _ => self.enter(rank, stream, count),
        };
        Ok((count, entered.err()))
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

impl Unsaid {
    /// A line that says what is missing, `more` bytes besides; `None` where
    /// nothing is.
    fn line(&self, cap: u64, more: u64) -> Option<String> {
        if self.bytes > 0 {
            let bytes = self.bytes + more;
            let why = self.why.unwrap_or(Errno::EIO).desc();
            return Some(format!(
                "warrant: {bytes} bytes of output are missing here, they could not be stored: {why}\n"
            ));
        }
        self.cap
            .then(|| format!("warrant: output limit of {cap} bytes reached; the rest is dropped\n"))
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
