//! The records of all jobs in one file without a name, a block of ids after
//! another. It is a copy, made anew by every broker: it need not outlive it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scan::whole;

/// Bytes read at a time; more only where a single record is longer.
const PIECE: usize = 256 * 1024;
/// What may lie unused in the file besides as much as is used.
const SLACK: u64 = 4 << 20;
/// The largest file.
const LARGEST: u64 = 2 << 30;

/// Where a block's records are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Which block of ids.
    pub block: i64,
    /// How many records.
    pub jobs: i64,
    /// Whether all of them are over, so that no state in it will change.
    pub settled: bool,
    at: u64,
    bytes: u64,
}

/// All blocks.
#[derive(Debug)]
pub(super) struct Shelf {
    file: Arc<File>,
    slots: BTreeMap<i64, Slot>,
    end: u64,
}

/// The blocks as they are at a time: what is written later does not touch
/// them.
#[derive(Debug)]
pub(super) struct View {
    file: Arc<File>,
    /// Newest first.
    pub slots: Vec<Slot>,
}

impl Shelf {
    /// An empty one.
    ///
    /// Errors: no directory for temporary files takes a file.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            file: Arc::new(nameless()?),
            slots: BTreeMap::new(),
            end: 0,
        })
    }

    /// How many records of a block there are.
    pub(super) fn jobs(&self, block: i64) -> i64 {
        self.slots.get(&block).map_or(0, |slot| slot.jobs)
    }

    /// The blocks with jobs that are not over.
    pub(super) fn unsettled(&self) -> Vec<i64> {
        let slots = self.slots.values().filter(|slot| !slot.settled);
        slots.map(|slot| slot.block).collect()
    }

    /// Put a block's records in the place of those that were there.
    ///
    /// Errors: the disk is full or broken, or the file would be too large.
    pub(super) fn put(
        &mut self,
        block: i64,
        jobs: i64,
        settled: bool,
        records: &[u8],
    ) -> io::Result<()> {
        let bytes = records.len() as u64;
        if self.end + bytes > LARGEST {
            return Err(io::Error::other("there is too much text"));
        }
        self.file.write_all_at(records, self.end)?;
        let at = self.end;
        self.end += bytes;
        let slot = Slot {
            block,
            jobs,
            settled,
            at,
            bytes,
        };
        self.slots.insert(block, slot);
        let used: u64 = self.slots.values().map(|slot| slot.bytes).sum();
        if self.end > 2 * used + SLACK {
            *self = self.rewritten()?;
        }
        Ok(())
    }

    /// The same, without what was replaced.
    fn rewritten(&self) -> io::Result<Self> {
        let mut new = Self::new()?;
        let view = self.view();
        for slot in &view.slots {
            let at = new.end;
            view.read(slot, |records| {
                new.file.write_all_at(records, new.end)?;
                new.end += records.len() as u64;
                Ok(())
            })?;
            new.slots.insert(slot.block, Slot { at, ..*slot });
        }
        Ok(new)
    }

    /// How long the file is.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// The blocks as they are.
    pub(super) fn view(&self) -> View {
        View {
            file: self.file.clone(),
            slots: self.slots.values().rev().copied().collect(),
        }
    }
}

impl View {
    /// Read a block's records, some at a time.
    ///
    /// Errors: the disk's, and those of `each`.
    pub(super) fn read(
        &self,
        slot: &Slot,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut piece = Vec::new();
        let (mut at, end) = (slot.at, slot.at + slot.bytes);
        let mut size = PIECE;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            piece.resize(left.min(size), 0);
            self.file.read_exact_at(&mut piece, at)?;
            match piece.get(..whole(&piece)) {
                None | Some([]) if size >= left => {
                    return Err(io::Error::other("a record has no end"));
                }
                None | Some([]) => size *= 2,
                Some(records) => {
                    each(records)?;
                    at += records.len() as u64;
                    size = PIECE;
                }
            }
        }
        Ok(())
    }
}

/// A file that nobody else can open and that is gone when it is closed.
fn nameless() -> io::Result<File> {
    // The first is on a disk where the other is in memory.
    let dirs = [PathBuf::from("/var/tmp"), std::env::temp_dir()];
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for dir in dirs {
        outcome = nameless_in(&dir);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn nameless_in(dir: &Path) -> io::Result<File> {
    let salt = getrandom::u64().map_err(io::Error::other)?;
    let path = dir.join(format!("warrant-broker-{salt:016x}"));
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
