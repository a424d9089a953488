//! One of the product's services, as a process of its own.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::processes::send;
use crate::wait::until_within;

/// How long a service may take to end when asked to.
const FAREWELL: Duration = Duration::from_secs(20);

/// Variables of a process: names and values.
pub type Variables = Vec<(String, String)>;

/// The built program `name`, in the directory that this test was built into.
///
/// Errors: panics with what to do where it is not there.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let built = this.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        built.exists(),
        "{} is not there: build the workspace first (cargo build --workspace, or ./dev test)",
        built.display()
    );
    built
}

/// Run a program of the product to its end.
pub fn run(name: &str, arguments: &[&str], variables: &Variables, stdin: &str) -> Output {
    run_command(command(&program(name), arguments, variables), stdin)
}

/// Run a program to its end, as the account `uid` with the group of that number.
pub fn run_as(
    uid: u32,
    program: &Path,
    arguments: &[&str],
    variables: &Variables,
    stdin: &str,
) -> Output {
    let mut command = command(program, arguments, variables);
    become_account(&mut command, uid);
    run_command(command, stdin)
}

fn become_account(command: &mut Command, uid: u32) {
    command.uid(uid).gid(uid).current_dir("/");
}

fn run_command(mut command: Command, stdin: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn command(program: &Path, arguments: &[&str], variables: &Variables) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

/// Start a service that refuses to serve; returns what it says. The file `log`
/// is written for that.
///
/// Errors: panics where it serves.
pub fn refusal(name: &str, variables: &Variables, log: &Path) -> String {
    let _ = fs::remove_file(log);
    let mut service = Service::start(name, &SERVE, variables, log);
    let status = service.wait();
    assert!(!status.success(), "{name} ended with {status}");
    service.log()
}

/// What a service is started with: a file of configuration that is not there.
const SERVE: [&str; 4] = ["serve", "--migrate", "--config", "/nonexistent/none.toml"];

/// A running service. Dropped, it is killed.
#[derive(Debug)]
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Start the program `name`; what it writes is added to the file `log`.
    pub fn start(name: &str, arguments: &[&str], variables: &Variables, log: &Path) -> Self {
        Self::spawn(command(&program(name), arguments, variables), log)
    }

    /// Start a program as the account `uid` with the group of that number.
    pub fn start_as(
        uid: u32,
        program: &Path,
        arguments: &[&str],
        variables: &Variables,
        log: &Path,
    ) -> Self {
        let mut command = command(program, arguments, variables);
        become_account(&mut command, uid);
        Self::spawn(command, log)
    }

    fn spawn(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Wait for it to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        until_within(FAREWELL, "a service to end", || {
            self.child.try_wait().unwrap()
        })
    }

    /// Ask it to end, as systemd does.
    ///
    /// Errors: panics where it does not end well.
    pub fn stop(mut self) {
        if self.ended().is_none() {
            send(self.pid(), Signal::SIGTERM);
        }
        let status = self.wait();
        assert!(status.success(), "ended with {status}: {}", self.log());
    }

    /// Kill it, as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// All it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
