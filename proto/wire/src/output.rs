//! The index beside a run's output: which bytes came when, and from whom.
//!
//! The output file holds every stored byte in order of arrival; the index is
//! a row of fixed-size entries that cover it without gaps. Bytes are written
//! before their entry, and the last entry may grow, so a reader takes the
//! entries first and then the bytes that they name.

use crate::cursor::{Cursor, Malformed};

/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 24;

/// Where a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A stretch of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins in the output file.
    pub offset: u64,
    /// When its first byte arrived, microseconds since the Unix epoch.
    pub time_us: u64,
    /// How many bytes it has.
    pub len: u32,
    /// Which process wrote it.
    pub rank: u16,
    /// Where the process wrote it to.
    pub stream: Stream,
}

impl Entry {
    /// The entry as bytes of the index file.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let [o0, o1, o2, o3, o4, o5, o6, o7] = self.offset.to_le_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = self.time_us.to_le_bytes();
        let [l0, l1, l2, l3] = self.len.to_le_bytes();
        let [r0, r1] = self.rank.to_le_bytes();
        let stream = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        [
            o0, o1, o2, o3, o4, o5, o6, o7, t0, t1, t2, t3, t4, t5, t6, t7, l0, l1, l2, l3, r0, r1,
            stream, 0,
        ]
    }

    /// Reads one entry.
    ///
    /// Errors: not [`ENTRY_BYTES`] bytes, or not an entry.
    pub fn decode(entry: &[u8]) -> Result<Self, Malformed> {
        let mut from = Cursor::new(entry);
        let offset = from.u64()?;
        let time_us = from.u64()?;
        let len = from.u32()?;
        let rank = from.u16()?;
        let stream = match from.u8()? {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Err(Malformed("index: unknown stream")),
        };
        from.padding(1)?;
        from.end()?;
        Ok(Self {
            offset,
            time_us,
            len,
            rank,
            stream,
        })
    }
}
