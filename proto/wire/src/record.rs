//! A run's record file: first its start ticket, at the end its final record.
//!
//! The file always has the same size, so that the last write needs no new
//! block of a disk that has become full. Who writes it holds its lock.

use crate::cursor::{Cursor, Malformed};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::stamp::Stamp;

/// Bytes of a record file.
pub const RECORD_BYTES: usize = 512;

const MAGIC: [u8; 4] = *b"WRNR";
/// Without a stamp: all of an earlier version of the shim, and what a monitor
/// writes about runs that have not begun.
const PLAIN: u8 = 1;
const STAMPED: u8 = 2;

/// Who runs a run, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The keeper's process id, to be believed only while the lock is held.
    pub keeper_pid: i32,
    /// Which boot of the machine this was.
    /// Source: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: [u8; 16],
    /// When it was started, microseconds since the Unix epoch.
    pub started_us: u64,
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A keeper has made the file and started nothing yet.
    Empty,
    /// The run may never start.
    Revoked,
    /// The run was to be started, was refused, and never will be.
    Refused(Refusal),
    /// The keeper was about to start the processes, or has.
    Started(Ticket),
    /// The run is over.
    Ended {
        /// Who ran it.
        ticket: Ticket,
        /// How it ended.
        outcome: Outcome,
        /// Whether output was lost because it could not be written.
        output_failed: bool,
    },
}

impl Record {
    /// Whether it says that its run never began, for a reason that may not
    /// hold for another attempt.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Revoked => true,
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Empty | Self::Started(_) | Self::Ended { .. } => false,
        }
    }

    /// The content of the file, without a stamp.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let (stamp, record) = (None, *self);
        Stamped { stamp, record }.encode()
    }

    /// Reads the content of the file, as [`Stamped::decode`] does.
    ///
    /// Errors: as there.
    pub fn decode(file: &[u8]) -> Result<Self, Malformed> {
        Stamped::decode(file).map(|stamped| stamped.record)
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => out.push(1),
            Self::Revoked => out.push(2),
            Self::Refused(refusal) => out.extend([5, refusal.code()]),
            Self::Started(ticket) => {
                out.push(3);
                ticket.write(out);
            }
            Self::Ended {
                ticket,
                outcome,
                output_failed,
            } => {
                out.push(4);
                ticket.write(out);
                outcome.write(out);
                out.push(u8::from(*output_failed));
            }
        }
    }

    fn read(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(match from.u8()? {
            1 => Self::Empty,
            2 => Self::Revoked,
            3 => Self::Started(Ticket::read(from)?),
            4 => Self::Ended {
                ticket: Ticket::read(from)?,
                outcome: Outcome::read(from)?,
                output_failed: from.flag()?,
            },
            5 => Self::Refused(Refusal::from_code(from.u8()?)?),
            _ => return Err(Malformed("record: unknown state")),
        })
    }
}

/// All that a record file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamped {
    /// Whose the run is, if the file says so.
    pub stamp: Option<Stamp>,
    /// The state of the run.
    pub record: Record,
}

impl Stamped {
    /// The content of the file.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut out = Vec::with_capacity(RECORD_BYTES);
        out.extend(MAGIC);
        match &self.stamp {
            None => out.extend([PLAIN, 0, 0, 0]),
            Some(stamp) => {
                out.extend([STAMPED, 0, 0, 0]);
                stamp.write(&mut out);
            }
        }
        self.record.write(&mut out);
        let mut file = [0; RECORD_BYTES];
        for (to, from) in file.iter_mut().zip(out) {
            *to = from;
        }
        file
    }

    /// Reads the content of the file. One that is empty or all zero, as a
    /// crash of the machine may leave it, is [`Record::Empty`].
    ///
    /// Errors: any other content that [`Stamped::encode`] would not have written.
    pub fn decode(file: &[u8]) -> Result<Self, Malformed> {
        if file.iter().all(|byte| *byte == 0) && file.len() <= RECORD_BYTES {
            let (stamp, record) = (None, Record::Empty);
            return Ok(Self { stamp, record });
        }
        if file.len() != RECORD_BYTES {
            return Err(Malformed("record: must be 512 bytes"));
        }
        let mut from = Cursor::new(file);
        if from.array()? != MAGIC {
            return Err(Malformed("record: is not a record"));
        }
        let version = from.u8()?;
        from.padding(3)?;
        let stamp = match version {
            PLAIN => None,
            STAMPED => Some(Stamp::read(&mut from)?),
            _ => return Err(Malformed("record: is of an unknown version")),
        };
        let record = Record::read(&mut from)?;
        let unused = from.rest();
        Cursor::new(unused).padding(unused.len())?;
        Ok(Self { stamp, record })
    }

    /// Whether it counts for a run of whom somebody asks about. What tells
    /// that a run has not begun, and says nothing else, counts for everybody;
    /// `trusts_plain` is whether a record without a stamp does.
    #[must_use]
    pub fn counts_for(&self, asked: Option<&Stamp>, trusts_plain: bool) -> bool {
        if self.record == Record::Empty || self.record.is_passing() {
            return true;
        }
        match (asked, &self.stamp) {
            (None, _) => true,
            (Some(_), None) => trusts_plain,
            (Some(asked), Some(found)) => asked.agrees_with(found),
        }
    }
}

impl Ticket {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.keeper_pid.to_le_bytes());
        out.extend(self.boot_id);
        out.extend(self.started_us.to_le_bytes());
    }

    fn read(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            keeper_pid: from.i32()?,
            boot_id: from.array()?,
            started_us: from.u64()?,
        })
    }
}
