//! What a journal tells, and how that is written as bytes.

use warrant_wire::{Cursor, RunId};

use crate::identity::Identity;

/// One thing that has happened.
pub(super) enum Entry<'a> {
    /// A warrant was accepted.
    Admitted {
        task: Task,
        warrant: Warrant,
        identity: Identity,
        launch: &'a [u8],
    },
    /// A run is about to be started, in this boot of the machine.
    Started { run: RunId, boot_id: [u8; 16] },
    /// An admission that was not used was forgotten.
    Dropped { task: Task },
    /// The run that was to be started never began, and the admission may be
    /// used again.
    NotBegun { task: Task },
}

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

impl<'a> Entry<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut begin = |kind: u8, (job, task): Task| {
            out.push(kind);
            out.extend(job.to_le_bytes());
            out.extend(task.to_le_bytes());
        };
        match self {
            Self::Admitted {
                task,
                warrant,
                identity,
                launch,
            } => {
                begin(1, *task);
                out.extend(warrant.jti);
                out.extend(warrant.sha256);
                out.extend(warrant.iat_s.to_le_bytes());
                out.extend(warrant.exp_s.to_le_bytes());
                out.extend(identity.uid.to_le_bytes());
                for counted in [identity.name.as_bytes(), launch] {
                    // Both are far below this bound: names and launches are checked.
                    let count = u32::try_from(counted.len()).unwrap_or(u32::MAX);
                    out.extend(count.to_le_bytes());
                    out.extend(counted);
                }
            }
            Self::Started { run, boot_id } => {
                begin(2, (run.job, run.task));
                out.extend(run.attempt.to_le_bytes());
                out.extend(boot_id);
            }
            Self::Dropped { task } => begin(3, *task),
            Self::NotBegun { task } => begin(4, *task),
        }
    }

    /// Reads one entry; `None` if there is none.
    pub(super) fn read(from: &mut Cursor<'a>) -> Option<Self> {
        let kind = from.u8().ok()?;
        let task @ (job, number) = (from.u64().ok()?, from.u32().ok()?);
        Some(match kind {
            1 => Self::Admitted {
                task,
                warrant: Warrant {
                    jti: from.array().ok()?,
                    sha256: from.array().ok()?,
                    iat_s: from.u64().ok()?,
                    exp_s: from.u64().ok()?,
                },
                identity: Identity {
                    uid: from.u32().ok()?,
                    name: String::from_utf8(from.counted().ok()?.to_vec()).ok()?,
                },
                launch: from.counted().ok()?,
            },
            2 => Self::Started {
                run: RunId {
                    job,
                    task: number,
                    attempt: from.u32().ok()?,
                },
                boot_id: from.array().ok()?,
            },
            3 => Self::Dropped { task },
            4 => Self::NotBegun { task },
            _ => return None,
        })
    }
}
