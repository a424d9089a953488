//! An installation of its own for a part of the benchmark: the auth service,
//! the broker and the shim, as packages install them, in a directory that is
//! removed afterwards.

use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;
use warrant_migrations::{Db, on};

use crate::cluster::Cluster;
use crate::door::{Door, PASSWORD};
use crate::process::{self, LOOK, Process};

const PATIENCE: Duration = Duration::from_secs(30);
/// The superuser, who sees everybody's jobs.
pub(crate) const SUPERUSER: &str = "fluxuser";
/// The secret under which clients encode their login.
pub(crate) const SECRET: &str = "known to every client";

/// Which database the installation keeps its records in.
#[derive(Debug)]
pub(crate) enum Database {
    /// Embedded.
    Sqlite,
    /// On a cluster of this run's own.
    Postgres(Cluster),
}

impl Database {
    /// Its name, for people.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    async fn create(&self, file: &Path) -> anyhow::Result<String> {
        match self {
            Self::Sqlite => Ok(format!("sqlite:{}", file.display())),
            Self::Postgres(cluster) => {
                let name = cluster.create_database().await?;
                Ok(Cluster::url(&name, cluster.socket_dir()))
            }
        }
    }
}

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The directory of the programs.
    pub(crate) programs: PathBuf,
    /// The directory in which installations are made.
    pub(crate) dir: PathBuf,
}

/// A running installation. Dropped, its processes are killed.
#[derive(Debug)]
pub(crate) struct House {
    programs: PathBuf,
    cores: Option<u32>,
    /// The URL of the broker's database.
    pub(crate) broker_url: String,
    /// The URL of the auth service's database.
    pub(crate) auth_url: String,
    /// Held open, it keeps the job of [`Door::hold_machine`] running.
    hold: Option<File>,
    broker: Option<Process>,
    authsvc: Process,
    /// For the superuser.
    pub(crate) door: Door,
    dir: TempDir,
}

impl House {
    /// Start an installation whose machine has `cores` cores, or as many as
    /// there are.
    ///
    /// Errors: a program is missing or does not start; tells what it wrote.
    pub(crate) async fn open(
        site: &Site,
        database: &Database,
        cores: Option<u32>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("wb")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&site.dir)?;
        let auth_url = database.create(&dir.path().join("auth.db")).await?;
        let broker_url = database.create(&dir.path().join("broker.db")).await?;
        let mut authsvc = Self::authsvc(&site.programs, dir.path(), &auth_url);
        authsvc
            .args(["serve", "--migrate"])
            .env("FLUX_USER", SUPERUSER)
            .env("FLUX_TOKEN", PASSWORD)
            .env("FLUX_SECRET_KEY", SECRET);
        let mut authsvc = Process::start(authsvc, &dir.path().join("authsvc.log"))?;
        let socket = dir.path().join("auth.sock");
        authsvc
            .wait_until(PATIENCE, async || UnixStream::connect(&socket).ok())
            .await?;
        let mut house = Self {
            programs: site.programs.clone(),
            cores,
            broker_url,
            auth_url,
            hold: None,
            broker: None,
            authsvc,
            door: Door {
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                token: String::new(),
            },
            dir,
        };
        house.start_broker().await?;
        house.door = Door::open(house.door.address, SUPERUSER).await?;
        Ok(house)
    }

    fn authsvc(programs: &Path, dir: &Path, url: &str) -> std::process::Command {
        let mut command = process::command(&programs.join("warrant-authsvc"));
        command
            .env("AUTHSVC__DATABASE__URL", url)
            .env("AUTHSVC__LISTEN__SOCKET", dir.join("auth.sock"))
            .env("AUTHSVC__KEYS__DIR", dir.join("keys"));
        command
    }

    /// Start the broker, again where it was stopped.
    ///
    /// Errors: it does not start.
    pub(crate) async fn start_broker(&mut self) -> anyhow::Result<()> {
        let dir = self.dir.path();
        let listening = dir.join("address");
        let _ = std::fs::remove_file(&listening);
        let mut command = process::command(&self.programs.join("warrant-broker"));
        command
            .args(["serve", "--migrate"])
            .env("BROKER__DATABASE__URL", &self.broker_url)
            .env("BROKER__LISTEN__HTTP", "127.0.0.1:0")
            .env("BROKER__LISTEN__ADDRESS_FILE", &listening)
            .env("BROKER__AUTH__SOCKET", dir.join("auth.sock"))
            .env("BROKER__SPOOL__DIR", dir.join("spool"))
            // All the load comes from one address.
            .env("BROKER__LIMITS__UNAUTHENTICATED_PER_MINUTE", "0")
            .env("BROKER__ENGINE__SHIM", self.programs.join("warrant-shim"));
        if let Some(cores) = self.cores {
            command.env("BROKER__ENGINE__CORES", cores.to_string());
        }
        let mut broker = Process::start(command, &dir.join("broker.log"))?;
        self.door.address = listening_at(&mut broker, &listening).await?;
        self.broker = Some(broker);
        Ok(())
    }

    /// Stop the broker as a package would.
    ///
    /// Errors: it does not end.
    pub(crate) async fn stop_broker(&mut self) -> anyhow::Result<()> {
        match self.broker.take() {
            Some(broker) => broker.stop(Signal::SIGTERM).await,
            None => Ok(()),
        }
    }

    /// Add an ordinary user; returns an access token.
    ///
    /// Errors: the auth service refuses.
    pub(crate) async fn add_user(&self, name: &str) -> anyhow::Result<String> {
        let file = self.dir.path().join("password");
        write_private(&file, PASSWORD)?;
        let mut command = Self::authsvc(&self.programs, self.dir.path(), &self.auth_url);
        command
            .args(["user", "add", name, "--password-file"])
            .arg(&file);
        process::run(command).await?;
        Ok(Door::open(self.door.address, name).await?.token)
    }

    /// Add a client that acts by itself, as the superuser; returns its secret.
    ///
    /// Errors: the auth service refuses.
    pub(crate) async fn add_client(&self, id: &str) -> anyhow::Result<String> {
        let mut command = Self::authsvc(&self.programs, self.dir.path(), &self.auth_url);
        command.args(["client", "add", id, "--owner", SUPERUSER]);
        command.args(["--grant", "client_credentials"]);
        let secret = String::from_utf8(process::run(command).await?)?;
        Ok(secret.trim().to_owned())
    }

    /// The superuser's stored hash: it names the cost in force.
    ///
    /// Errors: the database does not answer, or there is no superuser.
    pub(crate) async fn stored_hash(&self) -> anyhow::Result<String> {
        const SQL: &str = "select password_hash from users where name = $1";
        let db = Db::open(&self.auth_url).await?;
        let mut conn = db.read().await?;
        let hash: Option<String> = on!(&mut conn, |db| sqlx::query_scalar(SQL)
            .bind(SUPERUSER)
            .fetch_optional(db)
            .await)?;
        drop(conn);
        db.close().await;
        hash.context("the superuser has no password")
    }

    /// Have one job take the whole machine, so that whatever is submitted
    /// after it waits. It ends with this installation, or this process.
    ///
    /// Errors: it does not start.
    pub(crate) async fn hold_machine(&mut self) -> anyhow::Result<()> {
        let pipe = self.dir.path().join("hold");
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
        self.hold = Some(self.door.hold_machine(&pipe).await?);
        Ok(())
    }

    /// The ids of the broker, the auth service, the monitor and one keeper,
    /// as far as they run.
    pub(crate) fn process_ids(&self) -> Vec<(&'static str, u32)> {
        let broker = self.broker.as_ref().map(Process::id);
        let monitor = broker.and_then(|broker| children(broker).into_iter().next());
        let keeper = monitor.and_then(|monitor| children(monitor).into_iter().next());
        [
            ("broker", broker),
            ("authsvc", Some(self.authsvc.id())),
            ("monitor", monitor),
            ("keeper", keeper),
        ]
        .into_iter()
        .filter_map(|(name, id)| Some((name, id?)))
        .collect()
    }

    /// Stop everything, and see that nothing is left.
    ///
    /// Errors: a process does not end; what is left is killed.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.stop_broker().await?;
        self.authsvc.stop(Signal::SIGTERM).await?;
        drop(self.hold.take());
        let spool = self.dir.path().join("spool");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = started_with(&spool);
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                for id in &left {
                    let _ = kill(Pid::from_raw(*id), Signal::SIGKILL);
                }
                anyhow::bail!("{} processes outlived the installation", left.len());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Wait until a broker writes down where it listens.
///
/// Errors: it does not.
pub(crate) async fn listening_at(broker: &mut Process, file: &Path) -> anyhow::Result<SocketAddr> {
    let address = async || {
        let address = std::fs::read_to_string(file).ok()?.parse().ok()?;
        std::net::TcpStream::connect(address).ok().map(|_| address)
    };
    broker.wait_until(PATIENCE, address).await
}

/// The children of a process. Source: proc_pid_task(5), `children`.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            let ids = list.split_whitespace().map(str::to_owned);
            ids.collect::<Vec<_>>()
        })
        .filter_map(|id| id.parse().ok())
        .collect()
}

/// The processes whose command line names `path`.
fn started_with(path: &Path) -> Vec<i32> {
    let path = path.as_os_str().as_encoded_bytes();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|process| {
            let process = process.ok()?;
            let id = process.file_name().to_str()?.parse().ok()?;
            let words = std::fs::read(process.path().join("cmdline")).ok()?;
            let named = words.split(|byte| *byte == 0).any(|word| word == path);
            named.then_some(id)
        })
        .collect()
}

/// Write a secret where its owner alone may read it.
///
/// Errors: the disk's.
pub(crate) fn write_private(path: &Path, secret: &str) -> std::io::Result<()> {
    std::fs::write(path, secret)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}
