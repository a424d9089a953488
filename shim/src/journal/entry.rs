//! What a journal tells, and how that is written as bytes.

use warrant_wire::{Cursor, StoreId};

use crate::identity::Identity;

/// Which task of which job.
pub type Task = (u64, u32);

/// What is kept of a warrant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warrant {
    /// Its unique id.
    pub jti: [u8; 16],
    /// The SHA-256 of the launch it is for.
    pub sha256: [u8; 32],
    /// When it was made, in seconds since the Unix epoch.
    pub iat_s: u64,
    /// When it ends, in seconds since the Unix epoch.
    pub exp_s: u64,
}

/// One thing that has happened to the admission of a task.
pub(super) enum Entry<'a> {
    /// There is one now.
    Admitted(Warrant, Identity, &'a [u8]),
    /// It was used by this attempt, in this boot of the machine.
    Started(u32, [u8; 16]),
    /// It was not used and is forgotten.
    Dropped,
    /// The run that used it never began, and it may be used again.
    NotBegun,
    /// There was one once, by this warrant, which ends then.
    Spent([u8; 16], u64),
    /// The journal is this store's from here on, or nobody's. It is of no
    /// task; the job's number is the highest that was used.
    Owned(Option<StoreId>),
}

impl<'a> Entry<'a> {
    /// Writes an entry of a task.
    pub(super) fn write(&self, (job, task): Task, out: &mut Vec<u8>) {
        let mut begin = |kind: u8| {
            out.push(kind);
            out.extend(job.to_le_bytes());
            out.extend(task.to_le_bytes());
        };
        match self {
            Self::Admitted(warrant, identity, launch) => {
                begin(1);
                out.extend(warrant.jti);
                out.extend(warrant.sha256);
                out.extend(warrant.iat_s.to_le_bytes());
                out.extend(warrant.exp_s.to_le_bytes());
                identity.write(out);
                // It was checked, and is far shorter.
                let length = u32::try_from(launch.len()).unwrap_or(u32::MAX);
                out.extend(length.to_le_bytes());
                out.extend(*launch);
            }
            Self::Started(attempt, boot_id) => {
                begin(2);
                out.extend(attempt.to_le_bytes());
                out.extend(boot_id);
            }
            Self::Dropped => begin(3),
            Self::NotBegun => begin(4),
            Self::Spent(jti, exp_s) => {
                begin(5);
                out.extend(jti);
                out.extend(exp_s.to_le_bytes());
            }
            Self::Owned(store) => {
                begin(6);
                out.extend(store.map_or([0; 16], StoreId::bytes));
            }
        }
    }

    /// Reads one entry, and of which task it is; `None` if there is none.
    pub(super) fn read(from: &mut Cursor<'a>) -> Option<(Task, Self)> {
        let kind = from.u8().ok()?;
        let task = (from.u64().ok()?, from.u32().ok()?);
        let entry = match kind {
            1 => {
                let warrant = Warrant {
                    jti: from.array().ok()?,
                    sha256: from.array().ok()?,
                    iat_s: from.u64().ok()?,
                    exp_s: from.u64().ok()?,
                };
                Self::Admitted(warrant, Identity::read(from)?, from.counted().ok()?)
            }
            2 => Self::Started(from.u32().ok()?, from.array().ok()?),
            3 => Self::Dropped,
            4 => Self::NotBegun,
            5 => Self::Spent(from.array().ok()?, from.u64().ok()?),
            6 => Self::Owned(StoreId::new(from.array().ok()?)),
            _ => return None,
        };
        Some((task, entry))
    }
}
