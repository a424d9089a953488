//! Requests to the monitor and its reports, as frames on one byte stream.
//!
//! A frame is a 32-bit length of what follows, a version byte, a kind byte
//! and the fields of that kind.

use crate::cursor::{Cursor, Malformed};
use crate::launch::{MAX_LAUNCH_BYTES, Placement};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::run::RunId;
use crate::stamp::Stamp;
use crate::store::{Bond, StoreId};
use crate::warrant::MAX_WARRANT_BYTES;

/// Most bytes of a frame after its length.
pub const MAX_FRAME_BYTES: usize = MAX_LAUNCH_BYTES + 128 * 1024;

const VERSION: u8 = 2;
const LENGTH_BYTES: usize = 4;
/// A buffer that has grown beyond this is given back once it is empty.
const KEPT_BYTES: usize = 64 * 1024;

/// What to do to the processes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSignal {
    /// SIGTERM to every process; SIGKILL to what is left after the grace time.
    Cancel,
    /// SIGKILL to every process at once.
    Kill,
    /// Send this signal (1 to 64) to the process groups of the ranks.
    Deliver(u8),
}

/// What the broker asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start a run as the monitor's own user, at most once, whatever happens.
    Launch {
        /// Which.
        run: RunId,
        /// Where on the machine.
        placement: Placement,
        /// What to run, from [`crate::Launch::encode`].
        launch: Vec<u8>,
    },
    /// Accept a warrant for a launch, to be started later. Answered by
    /// [`Report::Admitted`] or [`Report::Refused`]. The same warrant may be
    /// admitted again for the same task of the same job.
    Admit {
        /// Which run will be the first to try.
        run: RunId,
        /// The warrant, in compact form.
        warrant: Vec<u8>,
        /// What to run, from [`crate::Launch::encode`].
        launch: Vec<u8>,
    },
    /// Start a run of a job that was admitted, at most once.
    Start {
        /// Which.
        run: RunId,
        /// Where on the machine.
        placement: Placement,
    },
    /// Forget an admission: what was not started never will be.
    Revoke {
        /// Which.
        run: RunId,
    },
    /// Signal a run. Nothing happens, and nothing is reported, if it is not alive.
    Signal {
        /// Which.
        run: RunId,
        /// How.
        signal: JobSignal,
    },
    /// Report what became of a run that an earlier monitor was told to start.
    /// One that has not started yet never will.
    Watch {
        /// Which.
        run: RunId,
        /// Whether it was asked to start since the machine was booted.
        same_boot: bool,
    },
    /// Show that the monitor's loop turns. Answered by [`Report::Pong`].
    Ping {
        /// What the answer repeats; it need not be a run.
        run: RunId,
    },
    /// A request to launch, start, revoke, signal or watch, of which the
    /// broker says whose the run is. What there is of another user's run, or
    /// of another job, with the same number is not taken for it.
    Of {
        /// Whose it is.
        stamp: Stamp,
        /// What is asked for.
        request: Box<Request>,
    },
    /// The job store that the broker works for: the first request on a
    /// connection, answered by [`Report::Store`]. Until the answer is
    /// [`Bond::Ours`], nothing else that is asked for is done.
    Store {
        /// Its identity.
        store: StoreId,
        /// Whether the spool becomes the store's if it holds runs of a version
        /// that did not write down whose they are.
        adopt: bool,
    },
}

/// What the monitor says of a run. Of one that was to be started, in order:
/// at most one `Started`, then exactly one of those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Its warrant was accepted, durably.
    Admitted {
        /// Which.
        run: RunId,
    },
    /// Its warrant was not accepted.
    Refused {
        /// Which.
        run: RunId,
        /// Why.
        refusal: Refusal,
    },
    /// Its processes are being started.
    Started {
        /// Which.
        run: RunId,
        /// When, microseconds since the Unix epoch.
        started_us: u64,
    },
    /// It is over and none of its processes is left.
    Ended {
        /// Which.
        run: RunId,
        /// How.
        outcome: Outcome,
    },
    /// It has not started and never will.
    NotStarted {
        /// Which.
        run: RunId,
        /// Why, as an errno(3) number; 0 if it was revoked, or refused.
        errno: i32,
        /// Why, if it was refused.
        refusal: Option<Refusal>,
    },
    /// Its keeper died, so that nobody knows how it ended.
    Lost {
        /// Which.
        run: RunId,
    },
    /// The monitor's loop turns.
    Pong {
        /// What the question held.
        run: RunId,
    },
    /// What the spool is to the store that the broker named.
    Store {
        /// Whether it belongs to that store.
        bond: Bond,
        /// No job with a number up to this one may be new: it was used here,
        /// or may have been.
        highest_job: u64,
    },
}

/// Stands for the run in what is about none. No job has the number 0.
const NO_RUN: RunId = RunId {
    job: 0,
    task: 0,
    attempt: 0,
};

impl Request {
    /// The run it is about; one of the job 0, which there is not, in
    /// [`Request::Store`].
    #[must_use]
    pub fn run(&self) -> RunId {
        match self {
            Self::Launch { run, .. }
            | Self::Admit { run, .. }
            | Self::Start { run, .. }
            | Self::Revoke { run }
            | Self::Signal { run, .. }
            | Self::Watch { run, .. }
            | Self::Ping { run } => *run,
            Self::Of { request, .. } => request.run(),
            Self::Store { .. } => NO_RUN,
        }
    }
}

impl Report {
    /// The run it is about; one of the job 0, which there is not, in
    /// [`Report::Store`].
    #[must_use]
    pub fn run(&self) -> RunId {
        match self {
            Self::Admitted { run }
            | Self::Refused { run, .. }
            | Self::Started { run, .. }
            | Self::Ended { run, .. }
            | Self::NotStarted { run, .. }
            | Self::Lost { run }
            | Self::Pong { run } => *run,
            Self::Store { .. } => NO_RUN,
        }
    }
}

/// The request as a frame. A launch must come from [`crate::Launch::encode`]:
/// a frame with a larger one is refused by its reader.
#[must_use]
pub fn encode_request(request: &Request) -> Vec<u8> {
    let run = request.run();
    if let Request::Of { stamp, request } = request {
        return frame(OF, run, |out| {
            stamp.write(out);
            out.push(kind(request));
            write_fields(request, out);
        });
    }
    frame(kind(request), run, |out| write_fields(request, out))
}

/// The kind of request that says whose the run is of another request.
const OF: u8 = 8;

fn kind(request: &Request) -> u8 {
    match request {
        Request::Launch { .. } => 1,
        Request::Signal { .. } => 2,
        Request::Watch { .. } => 3,
        Request::Admit { .. } => 4,
        Request::Start { .. } => 5,
        Request::Revoke { .. } => 6,
        // Within another one, no reader takes it.
        Request::Of { .. } => OF,
        Request::Store { .. } => 9,
        Request::Ping { .. } => 7,
    }
}

fn write_fields(request: &Request, out: &mut Vec<u8>) {
    match request {
        Request::Launch {
            placement, launch, ..
        } => {
            placement.write(out);
            out.extend(launch);
        }
        Request::Admit {
            warrant, launch, ..
        } => {
            let length = u32::try_from(warrant.len()).unwrap_or(u32::MAX);
            out.extend(length.to_le_bytes());
            out.extend(warrant);
            out.extend(launch);
        }
        Request::Start { placement, .. } => placement.write(out),
        Request::Signal { signal, .. } => out.extend(match signal {
            JobSignal::Cancel => [1, 0],
            JobSignal::Kill => [2, 0],
            JobSignal::Deliver(number) => [3, *number],
        }),
        Request::Watch { same_boot, .. } => out.push(u8::from(*same_boot)),
        Request::Store { store, adopt } => {
            out.extend(store.bytes());
            out.push(u8::from(*adopt));
        }
        Request::Revoke { .. } | Request::Ping { .. } | Request::Of { .. } => {}
    }
}

/// The report as a frame.
#[must_use]
pub fn encode_report(report: &Report) -> Vec<u8> {
    match report {
        Report::Started { run, started_us } => {
            frame(17, *run, |out| out.extend(started_us.to_le_bytes()))
        }
        Report::Ended { run, outcome } => frame(18, *run, |out| outcome.write(out)),
        Report::NotStarted {
            run,
            errno,
            refusal,
        } => frame(19, *run, |out| {
            out.extend(errno.to_le_bytes());
            out.push(refusal.map_or(0, Refusal::code));
        }),
        Report::Lost { run } => frame(20, *run, |_| ()),
        Report::Admitted { run } => frame(21, *run, |_| ()),
        Report::Refused { run, refusal } => frame(22, *run, |out| out.push(refusal.code())),
        Report::Pong { run } => frame(23, *run, |_| ()),
        Report::Store { bond, highest_job } => frame(24, NO_RUN, |out| {
            bond.write(out);
            out.extend(highest_job.to_le_bytes());
        }),
    }
}

fn frame(kind: u8, run: RunId, fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; LENGTH_BYTES];
    out.extend([VERSION, kind]);
    run.write(&mut out);
    fields(&mut out);
    let length = u32::try_from(out.len().saturating_sub(LENGTH_BYTES)).unwrap_or(u32::MAX);
    for (to, from) in out.iter_mut().zip(length.to_le_bytes()) {
        *to = from;
    }
    out
}

/// Puts frames together from bytes as they arrive, in whatever pieces.
///
/// After an error the stream is beyond repair: close it.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How many bytes of the buffer have been used.
    used: usize,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes that have arrived. Take all frames that are complete
    /// before the next push, and the buffer stays below one frame and one push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used == self.buffer.len() {
            self.used = 0;
            self.buffer.clear();
            if self.buffer.capacity() > KEPT_BYTES {
                self.buffer = Vec::new();
            }
        } else if self.used > KEPT_BYTES {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the stream may end here: no frame has begun.
    #[must_use]
    pub fn is_at_frame_end(&self) -> bool {
        self.used == self.buffer.len()
    }

    /// The next complete request; `None` if more bytes are needed.
    ///
    /// Errors: the bytes are not a request of this version.
    pub fn next_request(&mut self) -> Result<Option<Request>, Malformed> {
        self.next(read_request)
    }

    /// The next complete report; `None` if more bytes are needed.
    ///
    /// Errors: the bytes are not a report of this version.
    pub fn next_report(&mut self) -> Result<Option<Report>, Malformed> {
        self.next(read_report)
    }

    fn next<T>(
        &mut self,
        read: impl FnOnce(Cursor<'_>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        let pending = self.buffer.get(self.used..).unwrap_or_default();
        let Some((length, rest)) = pending.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(Malformed("frame: is longer than allowed"));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let mut from = Cursor::new(body);
        if from.u8()? != VERSION {
            return Err(Malformed("frame: is of an unknown version"));
        }
        let value = read(from)?;
        self.used = self
            .used
            .saturating_add(LENGTH_BYTES)
            .saturating_add(length);
        Ok(Some(value))
    }
}

fn read_request(mut from: Cursor<'_>) -> Result<Request, Malformed> {
    let kind = from.u8()?;
    let run = RunId::read(&mut from)?;
    let request = match kind {
        OF => Request::Of {
            stamp: Stamp::read(&mut from)?,
            request: match from.u8()? {
                kind @ (1..=3 | 5 | 6) => Box::new(read_fields(kind, run, &mut from)?),
                _ => return Err(Malformed("frame: unknown kind of request about a run")),
            },
        },
        9 if run == NO_RUN => {
            let no_store = Malformed("store: must not be zero");
            Request::Store {
                store: StoreId::new(from.array()?).ok_or(no_store)?,
                adopt: from.flag()?,
            }
        }
        kind => read_fields(kind, run, &mut from)?,
    };
    from.end()?;
    Ok(request)
}

fn read_fields(kind: u8, run: RunId, from: &mut Cursor<'_>) -> Result<Request, Malformed> {
    Ok(match kind {
        1 => Request::Launch {
            run,
            placement: Placement::read(from)?,
            launch: read_launch(from)?,
        },
        2 => Request::Signal {
            run,
            signal: match (from.u8()?, from.u8()?) {
                (1, 0) => JobSignal::Cancel,
                (2, 0) => JobSignal::Kill,
                (3, number @ 1..=64) => JobSignal::Deliver(number),
                _ => return Err(Malformed("signal: must be cancel, kill or 1 to 64")),
            },
        },
        3 => Request::Watch {
            run,
            same_boot: from.flag()?,
        },
        4 => Request::Admit {
            run,
            warrant: {
                let warrant = from.counted()?;
                if warrant.len() > MAX_WARRANT_BYTES {
                    return Err(Malformed("warrant: must be at most 2048 bytes"));
                }
                warrant.to_vec()
            },
            launch: read_launch(from)?,
        },
        5 => Request::Start {
            run,
            placement: Placement::read(from)?,
        },
        6 => Request::Revoke { run },
        7 => Request::Ping { run },
        _ => return Err(Malformed("frame: unknown kind of request")),
    })
}

fn read_launch(from: &mut Cursor<'_>) -> Result<Vec<u8>, Malformed> {
    let launch = from.rest();
    if launch.len() > MAX_LAUNCH_BYTES {
        return Err(Malformed("launch: must be at most 2 MiB when encoded"));
    }
    Ok(launch.to_vec())
}

fn read_report(mut from: Cursor<'_>) -> Result<Report, Malformed> {
    let kind = from.u8()?;
    let run = RunId::read(&mut from)?;
    let report = match kind {
        17 => Report::Started {
            run,
            started_us: from.u64()?,
        },
        18 => Report::Ended {
            run,
            outcome: Outcome::read(&mut from)?,
        },
        19 => Report::NotStarted {
            run,
            errno: from.i32()?,
            refusal: match from.u8()? {
                0 => None,
                code => Some(Refusal::from_code(code)?),
            },
        },
        20 => Report::Lost { run },
        21 => Report::Admitted { run },
        22 => Report::Refused {
            run,
            refusal: Refusal::from_code(from.u8()?)?,
        },
        23 => Report::Pong { run },
        24 if run == NO_RUN => Report::Store {
            bond: Bond::read(&mut from)?,
            highest_job: from.u64()?,
        },
        _ => return Err(Malformed("frame: unknown kind of report")),
    };
    from.end()?;
    Ok(report)
}
