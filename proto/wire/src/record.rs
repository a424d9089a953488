//! A run's record file: first its start ticket, at the end its final record.
//!
//! The file always has the same size, so that the last write needs no new
//! block of a disk that has become full. Who writes it holds its lock.

use crate::cursor::{Cursor, Malformed};
use crate::outcome::Outcome;
use crate::refusal::Refusal;

/// Bytes of a record file.
pub const RECORD_BYTES: usize = 512;

const MAGIC: [u8; 4] = *b"WRNR";
const VERSION: u8 = 1;

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

    /// The content of the file.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut out = Vec::with_capacity(RECORD_BYTES);
        out.extend(MAGIC);
        out.extend([VERSION, 0, 0, 0]);
        match self {
            Self::Empty => out.push(1),
            Self::Revoked => out.push(2),
            Self::Refused(refusal) => out.extend([5, refusal.code()]),
            Self::Started(ticket) => {
                out.push(3);
                ticket.write(&mut out);
            }
            Self::Ended {
                ticket,
                outcome,
                output_failed,
            } => {
                out.push(4);
                ticket.write(&mut out);
                outcome.write(&mut out);
                out.push(u8::from(*output_failed));
            }
        }
        let mut file = [0; RECORD_BYTES];
        for (to, from) in file.iter_mut().zip(out) {
            *to = from;
        }
        file
    }

    /// Reads the content of the file. One that is empty or all zero, as a
    /// crash of the machine may leave it, is [`Record::Empty`].
    ///
    /// Errors: any other content that [`Record::encode`] would not have written.
    pub fn decode(file: &[u8]) -> Result<Self, Malformed> {
        if file.iter().all(|byte| *byte == 0) && file.len() <= RECORD_BYTES {
            return Ok(Self::Empty);
        }
        if file.len() != RECORD_BYTES {
            return Err(Malformed("record: must be 512 bytes"));
        }
        let mut from = Cursor::new(file);
        if from.array()? != MAGIC {
            return Err(Malformed("record: is not a record"));
        }
        if from.u8()? != VERSION {
            return Err(Malformed("record: is of an unknown version"));
        }
        from.padding(3)?;
        let record = match from.u8()? {
            1 => Self::Empty,
            2 => Self::Revoked,
            3 => Self::Started(Ticket::read(&mut from)?),
            4 => Self::Ended {
                ticket: Ticket::read(&mut from)?,
                outcome: Outcome::read(&mut from)?,
                output_failed: from.flag()?,
            },
            5 => Self::Refused(Refusal::from_code(from.u8()?)?),
            _ => return Err(Malformed("record: unknown state")),
        };
        let unused = from.rest();
        Cursor::new(unused).padding(unused.len())?;
        Ok(record)
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
