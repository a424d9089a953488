//! A run as a keeper is given it that was made ahead: on a sheet of memory
//! that is the monitor's as well, so that nobody waits for it to be read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use warrant_wire::{Cursor, Placement, RunId, Stamp};

use crate::identity::Identity;
use crate::line::Line;

/// A run as it is given to a keeper.
pub struct Order {
    /// Which.
    pub run: RunId,
    /// Where on the machine.
    pub placement: Placement,
    /// What to run, encoded.
    pub launch: Vec<u8>,
    /// Whom it is for; `None` for the monitor's own user.
    pub identity: Option<Identity>,
    /// Whose it is, for its record.
    pub stamp: Stamp,
}

impl Order {
    /// Gives it to a keeper, which may prepare it and then waits for the word
    /// to begin: any number.
    ///
    /// Errors: it is gone; memory is short.
    pub fn give(&self, line: &Line, sheet: &File) -> io::Result<()> {
        let content = self.write();
        sheet.write_all_at(&content, 0)?;
        Ok(line.say(i64::try_from(content.len()).map_err(io::Error::other)?)?)
    }

    /// Says that this keeper is ready, with a 0, and waits for its run; `None`
    /// if the monitor is gone.
    ///
    /// Errors: the sheet cannot be read.
    pub(super) fn take(line: &Line, sheet: &File) -> io::Result<Option<Self>> {
        // Nobody hears it? Then there is nothing to take either.
        let _ = line.say(0);
        let Some(length) = line.hear() else {
            return Ok(None);
        };
        let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        sheet.read_exact_at(&mut content, 0)?;
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        Self::read(&content).ok_or_else(malformed).map(Some)
    }

    fn write(&self) -> Vec<u8> {
        let mut sheet = vec![u8::from(self.identity.is_some())];
        if let Some(identity) = &self.identity {
            identity.write(&mut sheet);
        }
        self.run.write(&mut sheet);
        self.placement.write(&mut sheet);
        self.stamp.write(&mut sheet);
        sheet.extend(&self.launch);
        sheet
    }

    fn read(sheet: &[u8]) -> Option<Self> {
        let mut from = Cursor::new(sheet);
        let identity = match from.flag().ok()? {
            true => Some(Identity::read(&mut from)?),
            false => None,
        };
        Some(Self {
            identity,
            run: RunId::read(&mut from).ok()?,
            placement: Placement::read(&mut from).ok()?,
            stamp: Stamp::read(&mut from).ok()?,
            launch: from.rest().to_vec(),
        })
    }
}
