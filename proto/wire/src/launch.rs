//! What to run: the launch description.
//!
//! It begins with a fixed header, [`Limits`], which is all that the monitor
//! and the keeper look at. Whatever a user chose (command, environment,
//! directory) is behind it and is parsed by the runner alone.
//!
//! A launch with a [`Launch::default_workdir`] is of version 3, any other of
//! version 2, byte for byte as before there was that field: clients and
//! journals of before read it, and theirs are read.

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
/// The version of a launch without a default directory.
const VERSION: u8 = 2;
/// The version of a launch with one.
const VERSION_DEFAULT_WORKDIR: u8 = 3;
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
    /// The directory to start in, an absolute path; without it the job cannot
    /// start. `None` means the first that can be used of `default_workdir`, the
    /// user's home and `/tmp`.
    pub workdir: Option<Vec<u8>>,
    /// A file for standard output in place of the spool. Its tags
    /// ([`crate::template`]) are replaced at the start. A relative path is
    /// relative to the first of those directories that is given, and an error
    /// where the job does not start there.
    pub stdout: Option<Vec<u8>>,
    /// The same for standard error.
    pub stderr: Option<Vec<u8>>,
    /// The directory to start in if it can be used, an absolute path. Not
    /// together with `workdir`.
    pub default_workdir: Option<Vec<u8>>,
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
        Self::take(&mut Cursor::new(launch)).map(|(limits, _)| limits)
    }

    /// The header, and the version that it says.
    fn take(from: &mut Cursor<'_>) -> Result<(Self, u8), Malformed> {
        if from.array()? != MAGIC {
            return Err(Malformed("launch: is not a launch description"));
        }
        let version = from.u8()?;
        if !matches!(version, VERSION | VERSION_DEFAULT_WORKDIR) {
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
        Ok((limits, version))
    }

    fn write(&self, version: u8, out: &mut Vec<u8>) {
        out.extend(MAGIC);
        out.extend([version, 0, 0, 0]);
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
        let version = match &self.default_workdir {
            None => VERSION,
            Some(_) => VERSION_DEFAULT_WORKDIR,
        };
        self.limits.write(version, &mut out);
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
        if let Some(path) = &self.default_workdir {
            write_counted(&mut out, path)?;
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
        let (limits, version) = Limits::take(&mut from)?;
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
        let default_workdir = match version {
            VERSION => None,
            _ => Some(from.counted()?.to_vec()),
        };
        from.end()?;
        let launch = Self {
            limits,
            argv,
            env,
            workdir,
            stdout,
            stderr,
            default_workdir,
        };
        launch.check()?;
        Ok(launch)
    }

    fn check(&self) -> Result<(), Malformed> {
        self.limits.check()?;
        check_argv(&self.argv)?;
        check_env(&self.env)?;
        check_directory(self.workdir.as_ref(), &WORKDIR)?;
        check_directory(self.default_workdir.as_ref(), &DEFAULT_WORKDIR)?;
        if self.workdir.is_some() && self.default_workdir.is_some() {
            let text = "default_workdir: must not be given together with workdir";
            return Err(Malformed(text));
        }
        check_path(self.stdout.as_ref(), &STDOUT)?;
        check_path(self.stderr.as_ref(), &STDERR)
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

/// What is said of a path that breaks a rule, by the name of its field.
struct PathFaults {
    empty: Malformed,
    nul: Malformed,
    long: Malformed,
    /// Of a directory: only those of the machine are named by text alone.
    relative: Malformed,
    in_proc: Malformed,
}

macro_rules! path_faults {
    ($field:literal) => {
        PathFaults {
            empty: Malformed(concat!($field, ": must not be empty")),
            nul: Malformed(concat!($field, ": must not hold NUL bytes")),
            long: Malformed(concat!($field, ": must be at most 4095 bytes")),
            relative: Malformed(concat!($field, ": must be an absolute path")),
            in_proc: Malformed(concat!($field, ": must not be in /proc or /dev/fd")),
        }
    };
}

const WORKDIR: PathFaults = path_faults!("workdir");
const DEFAULT_WORKDIR: PathFaults = path_faults!("default_workdir");
const STDOUT: PathFaults = path_faults!("output.stdout.path");
const STDERR: PathFaults = path_faults!("output.stderr.path");

/// Judges a path by its text. What its links lead to only the process knows
/// that follows them.
fn check_path(path: Option<&Vec<u8>>, faults: &PathFaults) -> Result<(), Malformed> {
    match path {
        None => Ok(()),
        Some(path) if path.is_empty() => Err(faults.empty),
        Some(path) if path.contains(&0) => Err(faults.nul),
        Some(path) if path.len() > MAX_PATH_BYTES => Err(faults.long),
        Some(_) => Ok(()),
    }
}

fn check_directory(path: Option<&Vec<u8>>, faults: &PathFaults) -> Result<(), Malformed> {
    check_path(path, faults)?;
    match path {
        Some(path) if !path.starts_with(b"/") => Err(faults.relative),
        Some(path) if is_in_proc(path) => Err(faults.in_proc),
        Some(_) | None => Ok(()),
    }
}

/// Whether an absolute path names, by its text, what says of processes what
/// they have open: `/proc`, or `/dev/fd` which leads there. Source: proc(5).
fn is_in_proc(path: &[u8]) -> bool {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.starts_with(&[b"proc"]) || parts.starts_with(&[b"dev", b"fd"])
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
