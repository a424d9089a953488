//! Finding a program and executing it, as execvp(3) does.

use std::convert::Infallible;
use std::ffi::{CStr, CString};

use nix::errno::Errno;
use nix::unistd::execve;

use super::environment::Entry;
use super::{CANNOT_EXECUTE, Failure};

/// Exit code of a rank whose program is not there. Source: POSIX sh.
const NOT_FOUND: i32 = 127;
/// Where programs are looked for if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";
/// What runs a script that does not name its interpreter. Source: execvp(3).
const SHELL: &CStr = c"/bin/sh";

/// Becomes the program that `argv` names. `absolute_only` leaves out those
/// directories of the search path that mean the working directory.
pub(super) fn execute(
    argv: &[Vec<u8>],
    environment: &[Entry],
    absolute_only: bool,
) -> Result<Infallible, Failure> {
    let Some(name) = argv.first() else {
        return Err(cannot_execute(b"", Errno::ENOENT));
    };
    let arguments = c_strings(argv)?;
    let entries: Vec<Vec<u8>> = environment
        .iter()
        .map(|(name, value)| [name.as_slice(), value].join(&b'='))
        .collect();
    let entries = c_strings(&entries)?;
    if name.contains(&b'/') {
        return Err(cannot_execute(
            name,
            execute_file(name, &arguments, &entries),
        ));
    }
    let path = environment
        .iter()
        .find_map(|(key, value)| (key == b"PATH").then_some(value.as_slice()))
        .unwrap_or(DEFAULT_PATH);
    let directories = path
        .split(|byte| *byte == b':')
        .filter(|directory| !absolute_only || !matches!(*directory, b"" | b"."));
    let errno = search(directories, name, &arguments, &entries);
    if errno == Errno::ENOENT {
        return Err(Failure::new(NOT_FOUND, &[name, b": command not found"]));
    }
    Err(cannot_execute(name, errno))
}

/// Tries each directory of a search path. Source: execvp(3): one that lacks
/// the program, or does not let us see, does not end the search.
fn search<'a>(
    directories: impl Iterator<Item = &'a [u8]>,
    name: &[u8],
    argv: &[CString],
    env: &[CString],
) -> Errno {
    let mut worst = Errno::ENOENT;
    for directory in directories {
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

pub(super) fn cannot_execute(name: &[u8], errno: Errno) -> Failure {
    let is_missing = errno == Errno::ENOENT;
    let code = if is_missing {
        NOT_FOUND
    } else {
        CANNOT_EXECUTE
    };
    Failure::new(code, &[name, b": ", errno.desc().as_bytes()])
}

fn c_strings(items: &[Vec<u8>]) -> Result<Vec<CString>, Failure> {
    items
        .iter()
        .map(|item| CString::new(item.as_slice()))
        .collect::<Result<_, _>>()
        .map_err(|_| cannot_execute(b"argv", Errno::EINVAL))
}
