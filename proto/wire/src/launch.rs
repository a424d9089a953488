//! What to run: the launch description.
//!
//! It begins with a fixed header, [`Limits`], which is all that the monitor
//! and the keeper look at. Whatever a user chose (command, environment,
//! directory) is behind it and is parsed by the runner alone.

use crate::cursor::{Cursor, Malformed};

/// Most bytes that an encoded launch may have.
pub const MAX_LAUNCH_BYTES: usize = 2 * 1024 * 1024;
/// Most processes (ranks) of one launch.
pub const MAX_PROCESSES: u32 = 4096;
/// Most bytes of one argument, or of one `name=value` of the environment.
/// Source: `MAX_ARG_STRLEN` in execve(2), less the final NUL.
pub const MAX_STRING_BYTES: usize = 128 * 1024 - 1;
/// Most bytes of a working directory. Source: `PATH_MAX`, less the final NUL.
pub const MAX_PATH_BYTES: usize = 4095;

const MAGIC: [u8; 4] = *b"WRNL";
const VERSION: u8 = 2;
/// Most cores, and most GPUs, that one placement names.
const MAX_PLACES: usize = 16_384;

const TOO_LARGE: Malformed = Malformed("launch: must be at most 2 MiB when encoded");
const PROCESSES: Malformed = Malformed("processes: must be from 1 to 4096");

/// How many processes, and how far they may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many processes are started, with ranks from 0; 1 to [`MAX_PROCESSES`].
    pub processes: u32,
    /// Seconds until the processes are ended; 0 means no limit.
    pub time_limit_s: u64,
    /// Milliseconds between the warning (SIGTERM) and SIGKILL.
    pub grace_ms: u32,
    /// How many bytes of output are kept; the rest is dropped and counted.
    pub output_cap_bytes: u64,
    /// How much memory all processes together may use; 0 means no limit.
    /// Kept where the machine has control groups for memory.
    pub memory_bytes: u64,
}

/// Where on the machine a run goes. It is not part of the launch, because it
/// is decided long after the launch was signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The processor cores to run on; empty means any.
    pub cores: Vec<u16>,
    /// The GPUs to use; empty means that the job was given none.
    pub gpus: Vec<u16>,
}

/// What to run. Strings are bytes, since that is what execve(2) takes.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// How many processes, and how far they may go.
    pub limits: Limits,
    /// The program and its arguments; at least one item, no NUL bytes.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment. Names are unique, not empty, and without `=`.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where to run; `None` means where the broker runs, or where a job runs
    /// as another user, that user's home.
    pub workdir: Option<Vec<u8>>,
    /// A file for standard output in place of the spool; relative to `workdir`.
    pub stdout: Option<Vec<u8>>,
    /// A file for standard error in place of the spool; relative to `workdir`.
    pub stderr: Option<Vec<u8>>,
}

impl std::fmt::Debug for Launch {
    /// Leaves out what may hold secrets: arguments and environment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Limits {
    /// Reads the fixed header of an encoded launch and nothing behind it.
    ///
    /// Errors: no such header, an unknown version, or `processes` out of range.
    pub fn read(launch: &[u8]) -> Result<Self, Malformed> {
        if launch.len() > MAX_LAUNCH_BYTES {
            return Err(TOO_LARGE);
        }
        Self::take(&mut Cursor::new(launch))
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        if from.array()? != MAGIC {
            return Err(Malformed("launch: is not a launch description"));
        }
        if from.u8()? != VERSION {
            return Err(Malformed("launch: is of an unknown version"));
        }
        from.padding(3)?;
        let limits = Self {
            processes: from.u32()?,
            grace_ms: from.u32()?,
            time_limit_s: from.u64()?,
            output_cap_bytes: from.u64()?,
            memory_bytes: from.u64()?,
        };
        limits.check()?;
        Ok(limits)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(MAGIC);
        out.extend([VERSION, 0, 0, 0]);
        out.extend(self.processes.to_le_bytes());
        out.extend(self.grace_ms.to_le_bytes());
        out.extend(self.time_limit_s.to_le_bytes());
        out.extend(self.output_cap_bytes.to_le_bytes());
        out.extend(self.memory_bytes.to_le_bytes());
    }

    fn check(&self) -> Result<(), Malformed> {
        if (1..=MAX_PROCESSES).contains(&self.processes) {
            Ok(())
        } else {
            Err(PROCESSES)
        }
    }
}

impl Launch {
    /// The launch as bytes, which [`Launch::decode`] is sure to accept.
    ///
    /// Errors: the first field that breaks its rule, by name; or the whole is
    /// more than [`MAX_LAUNCH_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        self.check()?;
        let mut out = Vec::with_capacity(1024);
        self.limits.write(&mut out);
        write_count(&mut out, self.argv.len())?;
        for argument in &self.argv {
            write_counted(&mut out, argument)?;
        }
        write_count(&mut out, self.env.len())?;
        for (name, value) in &self.env {
            write_counted(&mut out, name)?;
            write_counted(&mut out, value)?;
        }
        for path in [&self.workdir, &self.stdout, &self.stderr] {
            out.push(u8::from(path.is_some()));
            if let Some(path) = path {
                write_counted(&mut out, path)?;
            }
        }
        if out.len() > MAX_LAUNCH_BYTES {
            return Err(TOO_LARGE);
        }
        Ok(out)
    }

    /// Reads a whole launch.
    ///
    /// Errors: anything that [`Launch::encode`] would not have written.
    pub fn decode(launch: &[u8]) -> Result<Self, Malformed> {
        if launch.len() > MAX_LAUNCH_BYTES {
            return Err(TOO_LARGE);
        }
        let mut from = Cursor::new(launch);
        let limits = Limits::take(&mut from)?;
        let argv = (0..from.items(4)?)
            .map(|_| from.counted().map(<[u8]>::to_vec))
            .collect::<Result<_, _>>()?;
        let env = (0..from.items(8)?)
            .map(|_| Ok((from.counted()?.to_vec(), from.counted()?.to_vec())))
            .collect::<Result<_, _>>()?;
        let mut path = || match from.flag()? {
            true => Ok(Some(from.counted()?.to_vec())),
            false => Ok(None),
        };
        let (workdir, stdout, stderr) = (path()?, path()?, path()?);
        from.end()?;
        let launch = Self {
            limits,
            argv,
            env,
            workdir,
            stdout,
            stderr,
        };
        launch.check()?;
        Ok(launch)
    }

    fn check(&self) -> Result<(), Malformed> {
        self.limits.check()?;
        check_argv(&self.argv)?;
        check_env(&self.env)?;
        check_path(self.workdir.as_ref(), WORKDIR)?;
        check_path(self.stdout.as_ref(), OUTPUT)?;
        check_path(self.stderr.as_ref(), OUTPUT)
    }
}

impl Placement {
    /// Writes it as bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        for places in [&self.cores, &self.gpus] {
            let count = u16::try_from(places.len()).unwrap_or(u16::MAX);
            out.extend(u32::from(count).to_le_bytes());
            for place in places.iter().take(count.into()) {
                out.extend(place.to_le_bytes());
            }
        }
    }

    /// Reads what [`Placement::write`] wrote.
    ///
    /// Errors: the data ends too early, or names too many places.
    pub fn read(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut places = || {
            let count = from.items(2)?;
            if count > MAX_PLACES {
                return Err(Malformed("placement: must name at most 16384 places"));
            }
            (0..count).map(|_| from.u16()).collect()
        };
        Ok(Self {
            cores: places()?,
            gpus: places()?,
        })
    }
}

/// What is wrong with a path: that it is empty, holds NUL, is too long.
type PathFaults = [Malformed; 3];

const WORKDIR: PathFaults = [
    Malformed("workdir: must not be empty"),
    Malformed("workdir: must not hold NUL bytes"),
    Malformed("workdir: must be at most 4095 bytes"),
];
const OUTPUT: PathFaults = [
    Malformed("output path: must not be empty"),
    Malformed("output path: must not hold NUL bytes"),
    Malformed("output path: must be at most 4095 bytes"),
];

fn check_path(path: Option<&Vec<u8>>, [empty, nul, long]: PathFaults) -> Result<(), Malformed> {
    match path {
        None => Ok(()),
        Some(path) if path.is_empty() => Err(empty),
        Some(path) if path.contains(&0) => Err(nul),
        Some(path) if path.len() > MAX_PATH_BYTES => Err(long),
        Some(_) => Ok(()),
    }
}

fn check_argv(argv: &[Vec<u8>]) -> Result<(), Malformed> {
    if argv.first().is_none_or(Vec::is_empty) {
        return Err(Malformed("argv: must begin with the name of a program"));
    }
    if argv.iter().any(|argument| argument.contains(&0)) {
        return Err(Malformed("argv: must not hold NUL bytes"));
    }
    if argv
        .iter()
        .any(|argument| argument.len() > MAX_STRING_BYTES)
    {
        return Err(Malformed("argv: each item must be at most 131071 bytes"));
    }
    Ok(())
}

fn check_env(env: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Malformed> {
    for (name, value) in env {
        if name.is_empty() || name.contains(&b'=') {
            return Err(Malformed("env: names must not be empty or hold '='"));
        }
        if name.contains(&0) || value.contains(&0) {
            return Err(Malformed("env: must not hold NUL bytes"));
        }
        if name.len().saturating_add(value.len()) >= MAX_STRING_BYTES {
            return Err(Malformed("env: each entry must be at most 131070 bytes"));
        }
    }
    let mut names: Vec<&[u8]> = env.iter().map(|(name, _)| name.as_slice()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Malformed("env: each name must be given once"));
    }
    Ok(())
}

fn write_count(out: &mut Vec<u8>, count: usize) -> Result<(), Malformed> {
    out.extend(u32::try_from(count).map_err(|_| TOO_LARGE)?.to_le_bytes());
    Ok(())
}

/// Stops as soon as the whole is too large, so that memory stays bounded.
fn write_counted(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    if out.len() > MAX_LAUNCH_BYTES {
        return Err(TOO_LARGE);
    }
    write_count(out, bytes.len())?;
    out.extend(bytes);
    Ok(())
}
