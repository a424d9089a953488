//! The index of a job's output, up to where it was when a reader began.

use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;

use super::{ENTRY_BYTES, Entry};

const SIZE: u64 = ENTRY_BYTES as u64;
/// Entries read at a time.
const BLOCK: usize = 128;

/// Who wrote: a rank, to one of its two streams.
pub(super) type Source = (u16, u8);

/// A stretch of output: what one source wrote at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) source: Source,
    /// Where it begins in the output.
    pub(super) from: u64,
    /// Behind its last byte.
    pub(super) to: u64,
}

/// How much of the output a reader reads. What is written later is left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// How many stretches there are.
    pub(super) stretches: u64,
    /// How many bytes they have together.
    pub(super) bytes: u64,
}

impl Extent {
    /// What there is now; `None` where there is nothing.
    ///
    /// Errors: the index cannot be read.
    pub(super) fn now(index: &File) -> Result<Option<Self>> {
        let stretches = index.metadata()?.len() / SIZE;
        let Some(last) = stretches.checked_sub(1) else {
            return Ok(None);
        };
        let mut bytes = [0; ENTRY_BYTES];
        index.read_exact_at(&mut bytes, last * SIZE)?;
        let last = Entry::decode(&bytes).map_err(Error::other)?;
        Ok(Some(Self {
            stretches,
            bytes: last.offset.saturating_add(last.len.into()),
        }))
    }
}

/// The index, read in blocks.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    extent: Extent,
    block: Vec<u8>,
    /// The first stretch of the block.
    first: u64,
}

impl Index {
    pub(super) fn new(file: File, extent: Extent) -> Self {
        Self {
            file,
            extent,
            block: Vec::new(),
            first: 0,
        }
    }

    /// The stretch with this number, from 0.
    ///
    /// Errors: the index cannot be read, or is broken.
    pub(super) fn stretch(&mut self, number: u64) -> Result<Stretch> {
        if number >= self.extent.stretches {
            return Err(Error::other("the index is shorter than the output"));
        }
        let known = self.block.len() as u64 / SIZE;
        if !(self.first..self.first + known).contains(&number) {
            self.load(number)?;
        }
        let at = usize::try_from(number - self.first).map_err(Error::other)? * ENTRY_BYTES;
        let bytes = self.block.get(at..at + ENTRY_BYTES).unwrap_or_default();
        let entry = Entry::decode(bytes).map_err(Error::other)?;
        let to = entry.offset.saturating_add(entry.len.into());
        Ok(Stretch {
            source: (entry.rank, entry.stream as u8),
            from: entry.offset,
            // The last one may have grown meanwhile.
            to: to.min(self.extent.bytes),
        })
    }

    fn load(&mut self, first: u64) -> Result<()> {
        let left = usize::try_from(self.extent.stretches - first).unwrap_or(usize::MAX);
        self.block.resize(left.min(BLOCK) * ENTRY_BYTES, 0);
        self.first = first;
        let read = self.file.read_exact_at(&mut self.block, first * SIZE);
        read.inspect_err(|_| self.block.clear())
    }
}
