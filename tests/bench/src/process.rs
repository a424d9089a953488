//! The processes of an installation: started here, and stopped by their ids.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often to look whether something has happened.
pub(crate) const LOOK: Duration = Duration::from_millis(2);
/// The longest that a program which is to end may take.
const FAREWELL: Duration = Duration::from_secs(30);

/// What a service is started with, on any machine.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command with nothing in its environment but what any program needs.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where the benchmark starts programs"
)]
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).stdin(Stdio::null());
    for name in ["HOME", "LANG", "WARRANT_LOG"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A process in the background. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Start `command` in the background, writing to `log`.
    ///
    /// Errors: it cannot be started.
    pub(crate) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::options().create(true).append(true).open(log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self {
            name,
            log: log.to_owned(),
            child,
        })
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Wait until `ready` says so.
    ///
    /// Errors: the process ends or `patience` does before that; tells the end
    /// of what it wrote.
    pub(crate) async fn wait_until<T>(
        &mut self,
        patience: Duration,
        mut ready: impl AsyncFnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(sign) = ready().await {
                return Ok(sign);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}):\n{}", self.name, self.last_words());
            }
            if Instant::now() >= deadline {
                bail!("{} is not ready:\n{}", self.name, self.last_words());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Wait until it has ended by itself.
    ///
    /// Errors: it fails, or takes longer than `patience`; then it is killed.
    pub(crate) async fn wait(mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                let (name, words) = (&self.name, self.last_words());
                ensure!(status.success(), "{name} failed ({status}):\n{words}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not end", self.name);
            tokio::time::sleep(LOOK).await;
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Ask it to end with `signal`, and wait until it has.
    ///
    /// Errors: it does not; then it is killed.
    pub(crate) async fn stop(mut self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.id())?);
        kill(pid, signal)?;
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("{} did not end; it was killed", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Run `command` to its end; returns what it prints.
///
/// Errors: it cannot be started, or fails; tells what it wrote.
pub(crate) async fn run(command: Command) -> anyhow::Result<Vec<u8>> {
    let (name, output) = tokio::task::spawn_blocking(move || {
        let mut command = command;
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command
            .output()
            .with_context(|| format!("{name} cannot be started"))?;
        anyhow::Ok((name, output))
    })
    .await??;
    let (status, wrote) = (output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(status.success(), "{name} failed ({status}):\n{wrote}");
    Ok(output.stdout)
}
