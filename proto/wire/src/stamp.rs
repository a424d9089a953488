//! Whose a run is: what its record is stamped with, so that a record of
//! another job with the same number is never taken for it.

use crate::cursor::{Cursor, Malformed};

/// The user that a run is of, and the job that it is a run of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The user id.
    pub uid: u32,
    /// The SHA-256 of the job's launch as it was accepted;
    /// [`Stamp::UNKNOWN_JOB`] for jobs from before hashes were kept.
    pub job_sha256: [u8; 32],
}

impl Stamp {
    /// Stands for any job of the user. No launch has this hash.
    pub const UNKNOWN_JOB: [u8; 32] = [0; 32];

    /// Whether both are of one user and one job, as far as the job is known.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let is_unknown = |stamp: &Self| stamp.job_sha256 == Self::UNKNOWN_JOB;
        self.uid == other.uid
            && (self.job_sha256 == other.job_sha256 || is_unknown(self) || is_unknown(other))
    }

    /// Writes it as bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.uid.to_le_bytes());
        out.extend(self.job_sha256);
    }

    /// Reads what [`Stamp::write`] wrote.
    ///
    /// Errors: the data ends too early.
    pub fn read(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            uid: from.u32()?,
            job_sha256: from.array()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(uid: u32, byte: u8) -> Stamp {
        let job_sha256 = [byte; 32];
        Stamp { uid, job_sha256 }
    }

    #[test]
    fn stamps_agree_on_user_and_job() {
        assert!(stamp(1, 1).agrees_with(&stamp(1, 1)));
        assert!(!stamp(1, 1).agrees_with(&stamp(2, 1)));
        assert!(!stamp(1, 1).agrees_with(&stamp(1, 2)));
    }

    #[test]
    fn a_job_without_a_hash_agrees_with_any_of_its_user() {
        assert!(stamp(1, 0).agrees_with(&stamp(1, 2)));
        assert!(stamp(1, 2).agrees_with(&stamp(1, 0)));
        assert!(!stamp(1, 0).agrees_with(&stamp(2, 2)));
    }
}
