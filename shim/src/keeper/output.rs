//! Storing output: bytes to one file, whose they are to another.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use warrant_wire::output::{ENTRY_BYTES, Entry, Stream};
use warrant_wire::{RunFile, RunId};

use crate::clock;
use crate::spool::Spool;

/// Output of one process within this time is one entry of the index.
const ENTRY_SPAN_US: u64 = 1_000_000;

/// A run's output, stored up to its cap; the rest is counted and dropped.
/// Whatever the disk says, the run goes on.
pub(super) struct Output<'a> {
    spool: &'a Spool,
    run: RunId,
    cap: u64,
    files: Option<Files>,
    /// How many bytes are in the file and in the index.
    stored: u64,
    dropped: u64,
    failed: bool,
    capped: bool,
    ends_line: bool,
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
    pub(super) fn new(spool: &'a Spool, run: RunId, cap: u64) -> Self {
        Self {
            spool,
            run,
            cap,
            files: None,
            stored: 0,
            dropped: 0,
            failed: false,
            capped: false,
            ends_line: true,
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

    /// Takes bytes that a process wrote.
    pub(super) fn take(&mut self, rank: u16, stream: Stream, bytes: &[u8]) {
        if self.capped {
            self.dropped += bytes.len() as u64;
            return;
        }
        let room = usize::try_from(self.cap.saturating_sub(self.stored)).unwrap_or(usize::MAX);
        let Some((kept, over)) = bytes.split_at_checked(room) else {
            return self.store(rank, stream, bytes);
        };
        self.store(rank, stream, kept);
        if over.is_empty() {
            return;
        }
        self.capped = true;
        self.dropped += over.len() as u64;
        let break_line = if self.ends_line { "" } else { "\n" };
        let marker = format!(
            "{break_line}warrant: output limit of {} bytes reached; the rest is dropped\n",
            self.cap
        );
        self.store(rank, Stream::Stderr, marker.as_bytes());
    }

    /// Adds a line of our own, whatever the cap, to a process's errors.
    pub(super) fn note(&mut self, rank: u16, line: &str) {
        self.store(rank, Stream::Stderr, line.as_bytes());
    }

    fn store(&mut self, rank: u16, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.try_store(rank, stream, bytes).is_err() {
            self.failed = true;
            self.dropped += bytes.len() as u64;
        }
    }

    /// All or nothing: what is not in the index will be overwritten.
    fn try_store(&mut self, rank: u16, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let now_us = clock::now_us();
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let files = match &mut self.files {
            Some(files) => files,
            none => none.insert(Files {
                data: self.spool.create_output(self.run, RunFile::Output)?,
                index: self.spool.create_output(self.run, RunFile::Index)?,
            }),
        };
        files.data.write_all_at(bytes, self.stored)?;

        let grown = self.last.and_then(|last| {
            let fits = last.rank == rank
                && last.stream == stream
                && now_us.saturating_sub(last.time_us) < ENTRY_SPAN_US;
            let len = last.len.checked_add(len)?;
            fits.then_some(Entry { len, ..last })
        });
        let (entry, number) = match grown {
            Some(entry) => (entry, self.entries - 1),
            None => {
                let entry = Entry {
                    offset: self.stored,
                    time_us: now_us,
                    len,
                    rank,
                    stream,
                };
                (entry, self.entries)
            }
        };
        files
            .index
            .write_all_at(&entry.encode(), number * ENTRY_BYTES as u64)?;
        self.entries = number + 1;
        self.last = Some(entry);
        self.stored += bytes.len() as u64;
        self.ends_line = bytes.last() == Some(&b'\n');
        Ok(())
    }
}
