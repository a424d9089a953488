//! A PostgreSQL cluster of this run's own: the server's defaults, `fsync` on,
//! reached through a Unix socket alone.

use std::cell::Cell;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::process::{self, Process};

const PATIENCE: Duration = Duration::from_secs(60);
/// Who may run a server where the benchmark is root, which PostgreSQL refuses.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// A running cluster. Dropped, it is killed and its files are removed.
#[derive(Debug)]
pub(crate) struct Cluster {
    server: Process,
    programs: PathBuf,
    databases: Cell<u32>,
    dir: TempDir,
}

impl Cluster {
    /// The newest installed PostgreSQL's programs; `None` where there is none.
    pub(crate) fn programs() -> Option<PathBuf> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let numbered = versions.filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        });
        let newest = numbered.max()?.1;
        newest.join("initdb").exists().then_some(newest)
    }

    /// Make and start a cluster under `parent`.
    ///
    /// Errors: one of PostgreSQL's programs fails, or there is no account for it.
    pub(crate) async fn start(programs: PathBuf, parent: &Path) -> anyhow::Result<Self> {
        // Nobody else may enter: whoever reaches the socket is trusted.
        let dir = tempfile::Builder::new()
            .prefix("wb-pg")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let account = account()?;
        if let Some((uid, gid)) = account {
            chown(dir.path(), Some(uid), Some(gid))?;
        }
        let data = dir.path().join("data");
        let mut initdb = command(&programs, "initdb", account);
        initdb.arg("-D").arg(&data).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]);
        process::run(initdb).await?;
        let mut postgres = command(&programs, "postgres", account);
        postgres
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-c", "listen_addresses="])
            .args(["-c", "fsync=on"])
            .args(["-c", "synchronous_commit=on"]);
        let server = Process::start(postgres, &dir.path().join("log"))?;
        let mut cluster = Self {
            server,
            programs,
            databases: Cell::new(0),
            dir,
        };
        let mut probe = cluster.client("pg_isready");
        probe.arg("--quiet");
        cluster
            .server
            .wait_until(PATIENCE, async || {
                probe.status().is_ok_and(|s| s.success()).then_some(())
            })
            .await?;
        Ok(cluster)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = command(&self.programs, program, None);
        command
            .env("PGHOST", self.dir.path())
            .env("PGUSER", "postgres");
        command
    }

    /// The directory of the socket, under its name there.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The URL of a database, for who sees the socket in `dir`.
    pub(crate) fn url(database: &str, dir: &Path) -> String {
        format!(
            "postgres://postgres@localhost/{database}?host={}",
            dir.display()
        )
    }

    /// Make an empty database; returns its name.
    ///
    /// Errors: the server refuses.
    pub(crate) async fn create_database(&self) -> anyhow::Result<String> {
        let number = self.databases.get() + 1;
        self.databases.set(number);
        let name = format!("bench{number}");
        let mut createdb = self.client("createdb");
        createdb.arg(&name);
        process::run(createdb).await?;
        Ok(name)
    }

    /// Stop the server as it should be stopped.
    ///
    /// Errors: it does not end.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        // SIGINT is PostgreSQL's fast shutdown.
        self.server.stop(Signal::SIGINT).await
    }
}

fn command(programs: &Path, name: &str, account: Option<(u32, u32)>) -> Command {
    let mut command = process::command(&programs.join(name));
    command.current_dir("/");
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid);
    }
    command
}

fn account() -> anyhow::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let found = ACCOUNTS
        .into_iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .context("there is no account for PostgreSQL to run under")?;
    Ok(Some((found.uid.as_raw(), found.gid.as_raw())))
}
