//! A root-owned shim alone, driven by `warrant-shim-load` in place of the
//! broker, with a key of the benchmark's own in place of the auth service's.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use serde_json::Value;

use crate::ground::{BROKER, Ground, USER};
use crate::house::{Site, children};
use crate::load::Latencies;
use crate::process::{self, LOOK, Process};
use crate::village::{keepers, name_of, pipe_of_user, start_shim, stop_shim};

const LOAD: &str = "warrant-shim-load";
const PATIENCE: Duration = Duration::from_secs(120);
/// What the jobs are that end when a pipe is closed.
const WAITING: &str = "cat";

/// How the shim is set up, beyond warrants and their journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Whether jobs have control groups.
    pub(crate) cgroup: bool,
    /// Whether jobs have a PAM session.
    pub(crate) pam: bool,
}

/// A shim and its load. Dropped, the shim is killed.
#[derive(Debug)]
pub(crate) struct Yard {
    shim: Process,
    /// The number of the next job.
    next: u64,
    /// The last, so that it is left after who is on it.
    ground: Ground,
}

impl Yard {
    /// Start a shim.
    ///
    /// Errors: it does not start; tells what it wrote.
    pub(crate) async fn open(site: &Site, plan: Plan) -> anyhow::Result<Self> {
        let ground = Ground::lay(site, &["warrant-shim", LOAD])?;
        let mut seed = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let public = SigningKey::from_bytes(&seed).verifying_key();
        let line = format!("bench {}\n", URL_SAFE_NO_PAD.encode(public.as_bytes()));
        fs::write(ground.path("etc/warrant-keys/bench.pub"), line)?;
        let key = ground.path("broker/key");
        fs::write(&key, seed)?;
        fs::set_permissions(&key, Permissions::from_mode(0o400))?;
        chown(&key, Some(BROKER.uid), None)?;
        let policy = [
            format!("cgroup = \"{}\"", if plan.cgroup { "auto" } else { "off" }),
            format!("pam = \"{}\"", if plan.pam { "on" } else { "off" }),
        ];
        Ok(Self {
            shim: start_shim(&ground, &policy).await?,
            next: 1,
            ground,
        })
    }

    /// The program that writes down when it starts.
    ///
    /// Errors: there is none for this machine.
    pub(crate) fn stamp(&self) -> anyhow::Result<PathBuf> {
        let stamp = self.ground.stamp();
        stamp.context("there is no program for this machine that tells when it starts")
    }

    /// Have the load do something with `count` jobs of `command`.
    fn load(&mut self, what: &str, count: u64, command: &[&Path]) -> Command {
        let mut load = self.ground.command(LOAD, Some(BROKER));
        load.arg(what)
            .arg("--socket")
            .arg(self.ground.path("run/shim/shim.sock"))
            .arg("--spool")
            .arg(self.ground.path("spool"))
            .arg("--key")
            .arg(self.ground.path("broker/key"))
            .args(["--user", USER.name])
            .args(["--uid", &USER.uid.to_string()])
            .args(["--first", &self.next.to_string()])
            .args(["--count", &count.to_string()])
            .args(command);
        self.next += count;
        load
    }

    /// Start jobs one after another.
    ///
    /// Errors: one does not start, or fails.
    pub(crate) async fn starts(&mut self, count: u64) -> anyhow::Result<Figures> {
        let stamp = self.stamp()?;
        let load = self.load("starts", count, &[&stamp]);
        Figures::of(load).await
    }

    /// Jobs of `true` per second, `window` at a time.
    ///
    /// Errors: one does not start, or fails.
    pub(crate) async fn rate(&mut self, count: u64, window: u64) -> anyhow::Result<f64> {
        let mut load = self.load("rate", count, &[Path::new("true")]);
        load.args(["--window", &window.to_string()]);
        let seconds = Figures::of(load).await?.number("seconds")?;
        Ok(count as f64 / seconds)
    }

    /// Have `count` jobs run at once, and look at what is there meanwhile:
    /// `look` gets the ids of the monitor and of the keepers.
    ///
    /// Errors: a job does not start; `look`'s.
    pub(crate) async fn hold<T>(
        &mut self,
        count: u64,
        look: impl FnOnce(u32, &[u32]) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let pipe = pipe_of_user(&self.ground, &format!("hold{}", self.next))?;
        let hold = fs::File::options().read(true).write(true).open(&pipe)?;
        let load = self.load("hold", count, &[Path::new(WAITING), &pipe]);
        let load = Process::start(load, &self.ground.path("log/load"))?;
        let deadline = Instant::now() + PATIENCE;
        let keepers = loop {
            let keepers = keepers(self.shim.id());
            if keepers.len() as u64 == count && keepers.iter().all(|id| runs(*id, WAITING)) {
                break keepers;
            }
            ensure!(Instant::now() < deadline, "the jobs do not all run");
            tokio::time::sleep(LOOK * 10).await;
        };
        let seen = look(self.shim.id(), &keepers);
        drop(hold);
        load.wait(PATIENCE).await?;
        seen
    }

    /// Start the program that tells when it starts, without the shim: as the
    /// user, or where `through` names a command, as root by that.
    ///
    /// Errors: it cannot be started.
    pub(crate) async fn bare(&self, count: u64, through: &[&str]) -> anyhow::Result<Figures> {
        let mut load = self.ground.command(LOAD, None);
        load.args(["bare", "--count", &count.to_string()]);
        if through.is_empty() {
            load.args(["--uid", &USER.uid.to_string()]);
        }
        load.arg("--").args(through).arg(self.stamp()?);
        Figures::of(load).await
    }

    /// Look up the user's account, in a new process each time.
    ///
    /// Errors: it may not run jobs.
    pub(crate) async fn look_ups(&self, count: u64) -> anyhow::Result<Latencies> {
        let mut took = Vec::new();
        for _ in 0..count {
            let mut load = self.ground.command(LOAD, None);
            load.args(["look-up", "--user", USER.name])
                .args(["--uid", &USER.uid.to_string()]);
            took.push(micros(Figures::of(load).await?.number("us")?));
        }
        Ok(Latencies::new(took))
    }

    /// Stop the shim.
    ///
    /// Errors: it does not end.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        stop_shim(self.shim).await
    }
}

/// Whether a child of a keeper is this program.
fn runs(keeper: u32, program: &str) -> bool {
    let jobs = children(keeper);
    jobs.into_iter()
        .any(|id| name_of(id).is_some_and(|name| name == program))
}

/// What the load found out.
#[derive(Debug)]
pub(crate) struct Figures(Value);

impl Figures {
    async fn of(load: Command) -> anyhow::Result<Self> {
        let printed = process::run(load).await?;
        Ok(Self(serde_json::from_slice(&printed)?))
    }

    fn number(&self, name: &str) -> anyhow::Result<f64> {
        let number = self.0.get(name).and_then(Value::as_f64);
        number.with_context(|| format!("the load does not tell {name}"))
    }

    /// Single measurements.
    ///
    /// Errors: there are none of that name.
    pub(crate) fn times(&self, name: &str) -> anyhow::Result<Latencies> {
        let times = self.0.get(name).and_then(Value::as_array);
        let times = times.with_context(|| format!("the load does not tell {name}"))?;
        let times = times.iter().filter_map(Value::as_f64).map(micros);
        Ok(Latencies::new(times.collect()))
    }
}

/// What two clocks say may come out as a little less than nothing.
fn micros(us: f64) -> Duration {
    Duration::from_secs_f64(us.max(0.0) / 1e6)
}
