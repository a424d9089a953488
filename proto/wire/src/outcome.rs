//! How a run ended.

use crate::cursor::{Cursor, Malformed};

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its processes ended by themselves.
    Exited,
    /// It was cancelled or killed on request.
    Cancelled,
    /// Its time was over.
    TimeLimit,
    /// A process of it could not be started. Its exit code is 125 if the
    /// working directory could not be entered, 127 if the program was not
    /// found, else 126; its standard error has a line that says why.
    StartFailed,
    /// The kernel killed a process of it because its memory limit was reached.
    OutOfMemory,
}

/// Where the processes of a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StartDir {
    /// In the directory that was asked for or, where none was, in the home.
    AsAsked,
    /// In the home, since the default directory cannot be used.
    Home,
    /// In `/tmp`, since the home cannot be used either.
    Tmp,
}

/// How a run ended and what it used. Times of day are microseconds since the
/// Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// When it was started.
    pub started_us: u64,
    /// When its last process was gone.
    pub ended_us: u64,
    /// The raw wait(2) status of the worst rank: signals rank above exit
    /// codes, higher numbers above lower ones.
    pub wait_status: i32,
    /// Why it ended.
    pub cause: Cause,
    /// Processor time in user mode, microseconds, all processes together.
    pub user_us: u64,
    /// Processor time in the kernel, microseconds, all processes together.
    pub system_us: u64,
    /// The largest resident set of any one process, bytes.
    pub max_rss_bytes: u64,
    /// How many bytes of output were stored.
    pub output_bytes: u64,
    /// How many bytes of output were dropped.
    pub dropped_bytes: u64,
    /// Where its processes began; of several ranks, the last in this order.
    pub start_dir: StartDir,
}

impl StartDir {
    /// 0 stands for what there was before there were other places.
    fn code(self) -> u8 {
        match self {
            Self::AsAsked => 0,
            Self::Home => 1,
            Self::Tmp => 2,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        match code {
            0 => Ok(Self::AsAsked),
            1 => Ok(Self::Home),
            2 => Ok(Self::Tmp),
            _ => Err(Malformed("outcome: unknown directory")),
        }
    }
}

impl Cause {
    fn code(self) -> u8 {
        match self {
            Self::Exited => 1,
            Self::Cancelled => 2,
            Self::TimeLimit => 3,
            Self::StartFailed => 4,
            Self::OutOfMemory => 5,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        match code {
            1 => Ok(Self::Exited),
            2 => Ok(Self::Cancelled),
            3 => Ok(Self::TimeLimit),
            4 => Ok(Self::StartFailed),
            5 => Ok(Self::OutOfMemory),
            _ => Err(Malformed("outcome: unknown cause")),
        }
    }
}

impl Outcome {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.started_us.to_le_bytes());
        out.extend(self.ended_us.to_le_bytes());
        out.extend(self.wait_status.to_le_bytes());
        out.extend([self.cause.code(), self.start_dir.code(), 0, 0]);
        for number in [
            self.user_us,
            self.system_us,
            self.max_rss_bytes,
            self.output_bytes,
            self.dropped_bytes,
        ] {
            out.extend(number.to_le_bytes());
        }
    }

    pub(crate) fn read(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let started_us = from.u64()?;
        let ended_us = from.u64()?;
        let wait_status = from.i32()?;
        let cause = Cause::from_code(from.u8()?)?;
        let start_dir = StartDir::from_code(from.u8()?)?;
        from.padding(2)?;
        Ok(Self {
            started_us,
            ended_us,
            wait_status,
            cause,
            user_us: from.u64()?,
            system_us: from.u64()?,
            max_rss_bytes: from.u64()?,
            output_bytes: from.u64()?,
            dropped_bytes: from.u64()?,
            start_dir,
        })
    }
}
