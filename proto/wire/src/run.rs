//! Which run of a job is meant, and where its files are.

use std::fmt;

use crate::cursor::{Cursor, Malformed};

/// How many jobs share one directory of the spool.
pub const JOBS_PER_BUCKET: u64 = 1000;

/// One attempt at one task of one job. A run is started at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    /// The job.
    pub job: u64,
    /// Which of the job's tasks.
    pub task: u32,
    /// Which attempt at the task.
    pub attempt: u32,
}

/// The files that a run has in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunFile {
    /// The start ticket and final record, see [`crate::record`].
    Record,
    /// All output bytes in order of arrival.
    Output,
    /// What the output bytes belong to, see [`crate::output`].
    Index,
}

impl RunId {
    /// The directory of this run's files, relative to the spool.
    #[must_use]
    pub fn spool_bucket(self) -> String {
        self.job
            .checked_div(JOBS_PER_BUCKET)
            .unwrap_or(0)
            .to_string()
    }

    /// The path of one of this run's files, relative to the spool:
    /// `<job/1000>/<job>.<task>.<attempt>.<run|out|idx>`.
    #[must_use]
    pub fn spool_path(self, file: RunFile) -> String {
        let ending = match file {
            RunFile::Record => "run",
            RunFile::Output => "out",
            RunFile::Index => "idx",
        };
        format!("{}/{self}.{ending}", self.spool_bucket())
    }

    /// Writes it as bytes.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend(self.job.to_le_bytes());
        out.extend(self.task.to_le_bytes());
        out.extend(self.attempt.to_le_bytes());
    }

    /// Reads what [`RunId::write`] wrote.
    ///
    /// Errors: the data ends too early.
    pub fn read(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            job: from.u64()?,
            task: from.u32()?,
            attempt: from.u32()?,
        })
    }
}

impl fmt::Display for RunId {
    /// `job.task.attempt`, in decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.task, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_bucket_of_a_thousand_jobs() {
        let run = RunId {
            job: 12_345,
            task: 6,
            attempt: 7,
        };
        assert_eq!(run.to_string(), "12345.6.7");
        assert_eq!(run.spool_path(RunFile::Record), "12/12345.6.7.run");
        assert_eq!(run.spool_path(RunFile::Output), "12/12345.6.7.out");
        assert_eq!(run.spool_path(RunFile::Index), "12/12345.6.7.idx");
    }
}
