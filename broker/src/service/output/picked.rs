//! The bytes of one of a job's two streams, out of the output that holds both.

use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;

use super::{CHUNK, ENTRY_BYTES, Entry, OutputStream, open};
use crate::engine::OutputFiles;

const SIZE: u64 = ENTRY_BYTES as u64;

/// The most stretches looked at in one read.
const AT_A_TIME: u32 = 4096;

/// What one read gave.
#[derive(Debug)]
pub(super) struct Piece {
    /// The bytes; none where the stretches that were looked at are of the
    /// other stream.
    pub(super) bytes: Vec<u8>,
    /// Where to read on.
    pub(super) place: Picked,
    /// Whether the output goes on behind it now.
    pub(super) more: bool,
}

/// A reader's place in the output: which stretch of the index is next, and how
/// much of it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picked {
    stream: OutputStream,
    /// Bytes of the stream that are left out before the first.
    skip: u64,
    stretch: u64,
    within: u64,
}

impl Picked {
    /// The bytes of `stream`, without the first `skip`.
    pub(super) fn new(stream: OutputStream, skip: u64) -> Self {
        Self {
            stream,
            skip,
            stretch: 0,
            within: 0,
        }
    }

    /// The next bytes that are there now, at most [`CHUNK`].
    ///
    /// Errors: the output or its index cannot be read.
    pub(super) fn read(mut self, files: &OutputFiles) -> Result<Piece> {
        let mut bytes = Vec::new();
        let mut looked_at = 0;
        let (Some(data), Some(index)) = (open(&files.data)?, open(&files.index)?) else {
            return Ok(Piece {
                bytes,
                place: self,
                more: false,
            });
        };
        while bytes.len() < CHUNK && looked_at < AT_A_TIME {
            looked_at += 1;
            // Only the last stretch grows: looked at before the one it follows.
            let is_last = entry(&index, self.stretch + 1)?.is_none();
            let Some(stretch) = entry(&index, self.stretch)? else {
                return Ok(Piece {
                    bytes,
                    place: self,
                    more: false,
                });
            };
            let left = u64::from(stretch.len).saturating_sub(self.within);
            if stretch.stream == self.stream {
                let from = stretch.offset.saturating_add(self.within);
                self.take(&data, from, left, &mut bytes)?;
            } else {
                self.within += left;
            }
            if self.within < stretch.len.into() {
                continue;
            }
            if is_last {
                return Ok(Piece {
                    bytes,
                    place: self,
                    more: false,
                });
            }
            self.stretch += 1;
            self.within = 0;
        }
        Ok(Piece {
            bytes,
            place: self,
            more: true,
        })
    }

    /// Take bytes of the output from `from` on, at most `left`, and as many as
    /// there is room for.
    fn take(&mut self, data: &std::fs::File, from: u64, left: u64, to: &mut Vec<u8>) -> Result<()> {
        let skipped = left.min(self.skip);
        self.skip -= skipped;
        self.within += skipped;
        let room = CHUNK.saturating_sub(to.len());
        let want = usize::try_from(left - skipped).unwrap_or(room).min(room);
        let start = to.len();
        to.resize(start + want, 0);
        let piece = to.get_mut(start..).unwrap_or_default();
        data.read_exact_at(piece, from.saturating_add(skipped))?;
        self.within += want as u64;
        Ok(())
    }
}

/// The entry with this number, from 0; `None` where the index ends before.
fn entry(index: &std::fs::File, number: u64) -> Result<Option<Entry>> {
    let mut bytes = [0; ENTRY_BYTES];
    match index.read_exact_at(&mut bytes, number.saturating_mul(SIZE)) {
        Ok(()) => Entry::decode(&bytes).map(Some).map_err(Error::other),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}
