//! Becoming the program that a user asked for.
//!
//! A runner is forked from its keeper, once for each rank. It first cuts every
//! tie to where it came from, and only then reads what the user wrote.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{
    Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, getppid, setsid, write,
};
use warrant_wire::{Launch, Placement, RunId};

use crate::sys;

/// Exit code of a rank whose working directory cannot be entered.
pub const CANNOT_CHANGE_DIRECTORY: i32 = 125;
/// Exit code of a rank whose program cannot be executed. Source: POSIX sh.
pub const CANNOT_EXECUTE: i32 = 126;
/// Exit code of a rank whose program is not there. Source: POSIX sh.
pub const NOT_FOUND: i32 = 127;

/// Where programs are looked for if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";
/// What runs a script that does not name its interpreter. Source: execvp(3).
const SHELL: &CStr = c"/bin/sh";

/// What a runner is given by the keeper that forks it.
pub struct Rank<'a> {
    /// Which run it is of.
    pub run: RunId,
    /// Its number, from 0.
    pub number: u16,
    /// How many there are.
    pub count: u32,
    /// The keeper's process id.
    pub keeper: Pid,
    /// Where on the machine it runs.
    pub placement: &'a Placement,
    /// What to run, encoded.
    pub launch: &'a [u8],
    /// What becomes standard input.
    pub stdin: BorrowedFd<'a>,
    /// What becomes standard output.
    pub stdout: BorrowedFd<'a>,
    /// What becomes standard error.
    pub stderr: BorrowedFd<'a>,
    /// Gets one byte if the program cannot be executed.
    pub failed: BorrowedFd<'a>,
    /// The limits on open files: soft and hard.
    pub open_files: (u64, u64),
}

/// Why a runner did not become its program.
struct Failure {
    code: i32,
    /// For the user, on the standard error of the job.
    line: Vec<u8>,
}

/// Becomes the program. To be called in a child of the keeper, which exits
/// with the code that this answers if it cannot.
pub fn become_program(rank: &Rank<'_>) -> i32 {
    let failure = match isolate(rank) {
        Ok(()) => match execute(rank) {
            Ok(never) => match never {},
            Err(failure) => failure,
        },
        Err(error) => Failure {
            code: CANNOT_EXECUTE,
            line: line(&[b"cannot prepare the process: ", describe(&error).as_bytes()]),
        },
    };
    let _ = write(rank.failed, b"!");
    let _ = write(rank.stderr, &failure.line);
    failure.code
}

/// Cuts the ties: session, files, signals, and life without the keeper.
fn isolate(rank: &Rank<'_>) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != rank.keeper {
        // The keeper died before it could take this process along.
        return Err(Errno::ESRCH.into());
    }
    setsid()?;
    dup2_stdin(rank.stdin)?;
    dup2_stdout(rank.stdout)?;
    dup2_stderr(rank.stderr)?;
    sys::fd::close_on_exec_from(3)?;
    let (soft, hard) = rank.open_files;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    Ok(())
}

/// Reads the launch and becomes what it says.
fn execute(rank: &Rank<'_>) -> Result<Infallible, Failure> {
    let launch = Launch::decode(rank.launch).map_err(|malformed| Failure {
        code: CANNOT_EXECUTE,
        line: line(&[malformed.to_string().as_bytes()]),
    })?;
    if !rank.placement.cores.is_empty() {
        bind_to(&rank.placement.cores);
    }
    if let Some(workdir) = &launch.workdir {
        enter(workdir)?;
    }
    let argv = c_strings(&launch.argv)?;
    let env = environment(&launch.env, rank)?;
    let Some(name) = launch.argv.first() else {
        return Err(cannot_execute(b"", Errno::ENOENT));
    };
    // The monitor's mask lets nothing through; the program's everything.
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        return Err(cannot_execute(name, errno));
    }
    if name.contains(&b'/') {
        return Err(cannot_execute(name, execute_file(name, &argv, &env)));
    }
    let path = launch
        .env
        .iter()
        .find_map(|(key, value)| (key == b"PATH").then_some(value.as_slice()))
        .unwrap_or(DEFAULT_PATH);
    let errno = search(path, name, &argv, &env);
    if errno == Errno::ENOENT {
        return Err(Failure {
            code: NOT_FOUND,
            line: line(&[name, b": command not found"]),
        });
    }
    Err(cannot_execute(name, errno))
}

/// Binds to these cores. A machine that has none of them any more is no
/// reason not to run.
fn bind_to(cores: &[u16]) {
    let mut set = CpuSet::new();
    for core in cores {
        let _ = set.set(usize::from(*core));
    }
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

fn enter(workdir: &[u8]) -> Result<(), Failure> {
    chdir(OsStr::from_bytes(workdir)).map_err(|errno| Failure {
        code: CANNOT_CHANGE_DIRECTORY,
        line: line(&[
            b"cannot change to the directory \"",
            workdir,
            b"\": ",
            errno.desc().as_bytes(),
        ]),
    })
}

/// The launch's own environment, and what says which process of which job
/// this is, which the launch cannot change.
/// Source: the variables that flux-shell(1) sets for each task.
fn environment(given: &[(Vec<u8>, Vec<u8>)], rank: &Rank<'_>) -> Result<Vec<CString>, Failure> {
    let number = rank.number.to_string();
    let gpus: Vec<String> = rank.placement.gpus.iter().map(u16::to_string).collect();
    let mut own = vec![
        ("FLUX_JOB_ID", rank.run.job.to_string()),
        ("FLUX_JOB_SIZE", rank.count.to_string()),
        ("FLUX_JOB_NNODES", "1".to_owned()),
        ("FLUX_TASK_RANK", number.clone()),
        ("FLUX_TASK_LOCAL_ID", number),
    ];
    if !gpus.is_empty() {
        own.push(("CUDA_VISIBLE_DEVICES", gpus.join(",")));
    }
    let entries: Vec<Vec<u8>> = given
        .iter()
        .filter(|(name, _)| own.iter().all(|(own, _)| own.as_bytes() != name))
        .map(|(name, value)| [name.as_slice(), value].join(&b'='))
        .chain(
            own.iter()
                .map(|(name, value)| format!("{name}={value}").into_bytes()),
        )
        .collect();
    c_strings(&entries)
}

/// Tries each directory of a search path. Source: execvp(3): one that lacks
/// the program, or does not let us see, does not end the search.
fn search(path: &[u8], name: &[u8], argv: &[CString], env: &[CString]) -> Errno {
    let mut worst = Errno::ENOENT;
    for directory in path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let errno = execute_file(&[directory, name].join(&b'/'), argv, env);
        if errno == Errno::EACCES {
            worst = errno;
        } else if errno != Errno::ENOENT && errno != Errno::ENOTDIR {
            return errno;
        }
    }
    worst
}

/// Answers only if the file cannot be executed.
fn execute_file(file: &[u8], argv: &[CString], env: &[CString]) -> Errno {
    let Ok(file) = CString::new(file) else {
        return Errno::EINVAL;
    };
    let Err(errno) = execve(&file, argv, env);
    if errno != Errno::ENOEXEC {
        return errno;
    }
    let arguments = argv.iter().skip(1).map(CString::as_c_str);
    let script: Vec<&CStr> = [SHELL, file.as_c_str()]
        .into_iter()
        .chain(arguments)
        .collect();
    let Err(errno) = execve(SHELL, &script, env);
    errno
}

fn cannot_execute(name: &[u8], errno: Errno) -> Failure {
    Failure {
        code: if errno == Errno::ENOENT {
            NOT_FOUND
        } else {
            CANNOT_EXECUTE
        },
        line: line(&[name, b": ", errno.desc().as_bytes()]),
    }
}

fn c_strings(items: &[Vec<u8>]) -> Result<Vec<CString>, Failure> {
    items
        .iter()
        .map(|item| CString::new(item.as_slice()))
        .collect::<Result<_, _>>()
        .map_err(|_| cannot_execute(b"argv", Errno::EINVAL))
}

fn line(parts: &[&[u8]]) -> Vec<u8> {
    let mut line = b"warrant: ".to_vec();
    line.extend(parts.concat());
    line.push(b'\n');
    line
}

fn describe(error: &io::Error) -> &'static str {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
        .desc()
}
