//! A multi-user installation for a part of the benchmark: the root-owned shim,
//! the auth service and the broker under their accounts, as packages install
//! them.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::cluster::Cluster;
use crate::door::{Door, PASSWORD};
use crate::ground::{AUTHSVC, Account, BROKER, Ground, USER};
use crate::house::{Database, Site, children, listening_at, write_private};
use crate::process::{self, LOOK, Process};

const PATIENCE: Duration = Duration::from_secs(30);
const PROGRAMS: [&str; 3] = ["warrant-shim", "warrant-authsvc", "warrant-broker"];
/// More than the load submits.
const MAX_ADMITTED: u32 = 2_000_000;

/// How it is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The cores to share out, or as many as there are.
    pub(crate) cores: Option<u32>,
    /// Whether jobs have a PAM session.
    pub(crate) pam: bool,
}

/// A running multi-user installation. Dropped, its services are killed.
#[derive(Debug)]
pub(crate) struct Village {
    /// Held open, it keeps the job of [`Door::hold_machine`] running.
    hold: Option<File>,
    broker: Process,
    authsvc: Process,
    shim: Process,
    /// For an ordinary user.
    pub(crate) door: Door,
    /// The last, so that it is left after who is on it.
    ground: Ground,
}

impl Village {
    /// Start one.
    ///
    /// Errors: a program is missing or does not start; tells what it wrote.
    pub(crate) async fn open(site: &Site, database: &Database, plan: Plan) -> anyhow::Result<Self> {
        let mut ground = Ground::lay(site, &PROGRAMS)?;
        let auth_url = create(&mut ground, database, "auth/auth.db").await?;
        let broker_url = create(&mut ground, database, "broker/broker.db").await?;

        let keys = process::run(authsvc(&ground, &auth_url, &["keys", "warrant"])).await?;
        fs::write(ground.path("etc/warrant-keys/authsvc.pub"), keys)?;
        let serving = authsvc(&ground, &auth_url, &["serve", "--migrate"]);
        let mut authsvc_process = Process::start(serving, &ground.path("log/authsvc"))?;
        let socket = ground.path("run/auth/auth.sock");
        authsvc_process
            .wait_until(PATIENCE, async || UnixStream::connect(&socket).ok())
            .await?;
        let password = ground.path("auth/password");
        write_private(&password, PASSWORD)?;
        chown(&password, Some(AUTHSVC.uid), None)?;
        let words = ["user", "add", USER.name, "--password-file"];
        let mut add = authsvc(&ground, &auth_url, &words);
        add.arg(&password);
        process::run(add).await?;

        let pam = if plan.pam { "on" } else { "off" };
        let policy = [
            format!("pam = \"{pam}\""),
            format!("max_admitted = {MAX_ADMITTED}"),
        ];
        let shim = start_shim(&ground, &policy).await?;

        let file = ground.path("broker/address");
        let mut command = service(&ground, "warrant-broker", BROKER);
        command
            .args(["serve", "--migrate"])
            .env("BROKER__DATABASE__URL", broker_url)
            .env("BROKER__LISTEN__HTTP", "127.0.0.1:0")
            .env("BROKER__LISTEN__ADDRESS_FILE", &file)
            .env("BROKER__AUTH__SOCKET", ground.path("run/auth/auth.sock"))
            .env("BROKER__SPOOL__DIR", ground.path("broker/own"))
            .env("BROKER__SHIM__SOCKET", ground.path("run/shim/shim.sock"))
            .env("BROKER__SHIM__SPOOL", ground.path("spool"));
        if let Some(cores) = plan.cores {
            command.env("BROKER__ENGINE__CORES", cores.to_string());
        }
        let mut broker = Process::start(command, &ground.path("log/broker"))?;
        let address: SocketAddr = listening_at(&mut broker, &file).await?;
        Ok(Self {
            hold: None,
            broker,
            authsvc: authsvc_process,
            shim,
            door: Door::open(address, USER.name).await?,
            ground,
        })
    }

    /// As [`Door::hold_machine`].
    pub(crate) async fn hold_machine(&mut self) -> anyhow::Result<()> {
        let pipe = pipe_of_user(&self.ground, "hold")?;
        self.hold = Some(self.door.hold_machine(&pipe).await?);
        Ok(())
    }

    /// The ids of its processes, and of one keeper and its session, as far as
    /// they are there.
    pub(crate) fn process_ids(&self) -> Vec<(&'static str, u32)> {
        let mut found = vec![
            ("broker", self.broker.id()),
            ("authsvc", self.authsvc.id()),
            ("monitor", self.shim.id()),
        ];
        if let Some(keeper) = keepers(self.shim.id()).into_iter().next() {
            found.push(("keeper", keeper));
            let session = children(keeper)
                .into_iter()
                .find(|id| name_of(*id).is_some_and(|name| name == SESSION));
            found.extend(session.map(|id| ("session", id)));
        }
        found
    }

    /// Stop everything, and see that nothing is left.
    ///
    /// Errors: a process does not end.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.broker.stop(Signal::SIGTERM).await?;
        self.authsvc.stop(Signal::SIGTERM).await?;
        drop(self.hold.take());
        stop_shim(self.shim).await
    }
}

/// The keepers of a monitor's jobs: one more child waits for the next job.
pub(crate) fn keepers(monitor: u32) -> Vec<u32> {
    let mut children = children(monitor);
    children.retain(|id| name_of(*id).is_some_and(|name| name == "warrant-keeper"));
    children
}

/// What a session's process is called.
pub(crate) const SESSION: &str = "warrant-session";

/// The name of a process. Source: proc_pid_comm(5).
pub(crate) fn name_of(id: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Start a root-owned shim, with these lines in its policy, and wait until it
/// listens.
///
/// Errors: it does not.
pub(crate) async fn start_shim(ground: &Ground, policy: &[String]) -> anyhow::Result<Process> {
    let policy = ground.write_policy(policy)?;
    let mut command = ground.command("warrant-shim", None);
    command.arg("serve").arg("--policy").arg(policy);
    let mut shim = Process::start(command, &ground.path("log/shim"))?;
    let socket = ground.path("run/shim/shim.sock");
    shim.wait_until(PATIENCE, async || UnixStream::connect(&socket).ok())
        .await?;
    Ok(shim)
}

/// Stop a shim once it has no keeper left.
///
/// Errors: it has one for too long, or does not end.
pub(crate) async fn stop_shim(shim: Process) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !keepers(shim.id()).is_empty() {
        ensure!(Instant::now() < deadline, "a job outlived the measurement");
        tokio::time::sleep(LOOK).await;
    }
    shim.stop(Signal::SIGTERM).await
}

/// A pipe that jobs of the user can read.
///
/// Errors: it cannot be made.
pub(crate) fn pipe_of_user(ground: &Ground, name: &str) -> anyhow::Result<PathBuf> {
    let pipe = ground.path("home").join(USER.name).join(name);
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
    chown(&pipe, Some(USER.uid), Some(USER.uid))?;
    Ok(pipe)
}

/// Make a database; returns its URL.
async fn create(ground: &mut Ground, database: &Database, file: &str) -> anyhow::Result<String> {
    match database {
        Database::Sqlite => Ok(format!("sqlite:{}", ground.path(file).display())),
        Database::Postgres(cluster) => {
            let name = cluster.create_database().await?;
            let seen = share_socket(ground, cluster.socket_dir())?;
            Ok(Cluster::url(&name, &seen))
        }
    }
}

/// Show the socket of a cluster, which is in a directory that is closed to
/// our accounts, to them: nobody outside sees the ground.
fn share_socket(ground: &mut Ground, dir: &Path) -> anyhow::Result<PathBuf> {
    const SOCKET: &str = ".s.PGSQL.5432";
    let seen = ground.path("run/postgres");
    if !seen.exists() {
        fs::create_dir(&seen)?;
        fs::write(seen.join(SOCKET), "")?;
        ground.bind(dir.join(SOCKET), &seen.join(SOCKET))?;
    }
    Ok(seen)
}

fn service(ground: &Ground, program: &str, account: Account) -> Command {
    let mut command = ground.command(program, Some(account));
    command
        .env_remove("HOME")
        .env("FLUX_SERVER_MODE", "multi-user");
    command
}

fn authsvc(ground: &Ground, url: &str, words: &[&str]) -> Command {
    let mut command = service(ground, "warrant-authsvc", AUTHSVC);
    command
        .args(words)
        .env("AUTHSVC__DATABASE__URL", url)
        .env("AUTHSVC__LISTEN__SOCKET", ground.path("run/auth/auth.sock"))
        .env("AUTHSVC__KEYS__DIR", ground.path("auth/keys"))
        .env(
            "AUTHSVC__WARRANTS__KEYS_DIR",
            ground.path("auth/warrant-keys"),
        )
        .env("AUTHSVC__WARRANTS__BROKER_UID", BROKER.uid.to_string());
    command
}
