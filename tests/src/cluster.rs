//! A PostgreSQL server of a test's own, which the test may stop and start.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Uid, User, chown};

use crate::Database;

/// A private cluster with its own directory and socket. Dropped, it is
/// stopped and removed.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
    programs: PathBuf,
    account: Option<User>,
}

impl Cluster {
    /// Make a cluster and start it; `None`, saying why, where PostgreSQL is
    /// not installed.
    ///
    /// Errors: panics where it is missing and `WARRANT_REQUIRE_POSTGRES=1`.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let why = "left out: PostgreSQL's server programs are not installed";
            let required = std::env::var("WARRANT_REQUIRE_POSTGRES");
            assert_ne!(required.as_deref(), Ok("1"), "{why}");
            eprintln!("{why}");
            return None;
        };
        // PostgreSQL refuses to run as root.
        let account = Uid::effective().is_root().then(|| {
            let known = ["postgres", "nobody"].into_iter();
            let mut accounts = known.filter_map(|name| User::from_name(name).unwrap());
            accounts.next().unwrap()
        });
        let dir = tempfile::Builder::new()
            .prefix("warrant-postgres-")
            .tempdir()
            .unwrap();
        if let Some(account) = &account {
            chown(dir.path(), Some(account.uid), Some(account.gid)).unwrap();
        }
        let cluster = Self {
            dir,
            programs,
            account,
        };
        let data = cluster.data();
        let data = data.to_str().unwrap();
        let arguments = ["--auth=trust", "--username=postgres", "--no-sync"];
        cluster.run("initdb", &[&["--pgdata", data], &arguments[..]].concat());
        cluster.resume();
        Some(cluster)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The server, for houses to be built on.
    pub fn database(&self) -> Database {
        let socket = self.dir.path().to_str().unwrap().replace('/', "%2F");
        Database::Postgres(format!("postgres://postgres@{socket}/postgres"))
    }

    /// The URL of a database of it, for a role.
    pub fn url(&self, role: &str, database: &str) -> String {
        let socket = self.dir.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://{role}@{socket}/{database}")
    }

    /// A path in the cluster's directory, where its programs may write.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Have psql carry out `sql` in `database`, as the superuser, up to the
    /// first error, which is a panic.
    pub fn psql(&self, database: &str, sql: &str) {
        let file = self.dir.path().join("script.sql");
        fs::write(&file, sql).unwrap();
        self.client(
            "psql",
            "postgres",
            database,
            &[
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                file.to_str().unwrap(),
            ],
        );
    }

    /// Run one of PostgreSQL's programs over `database` as `role`.
    pub fn client(&self, program: &str, role: &str, database: &str, arguments: &[&str]) {
        let host = self.dir.path().to_str().unwrap();
        let head = ["-h", host, "-U", role, "-d", database];
        self.run(program, &[&head, arguments].concat());
    }

    /// Start it, and wait until it answers. It listens on a socket alone: a
    /// port could be taken by another while the server is away.
    pub fn resume(&self) {
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={}",
            self.dir.path().display()
        );
        let log = self.dir.path().join("log");
        self.control(&["-w", "-l", log.to_str().unwrap(), "-o", &options, "start"]);
    }

    /// Stop it at once, as a crash does.
    pub fn crash(&self) {
        self.control(&["-w", "-m", "immediate", "stop"]);
    }

    /// Run `sql` in the database of this URL, as one that every house here
    /// has, and wait until it is done.
    pub fn run_sql(&self, url: &str, sql: &str) {
        let name = url.rsplit('/').next().unwrap();
        let host = self.dir.path().to_str().unwrap();
        self.run(
            "psql",
            &[
                "-h",
                host,
                "-U",
                "postgres",
                "-d",
                name,
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
            ],
        );
    }

    fn control(&self, arguments: &[&str]) {
        let data = self.data();
        let head = ["-D", data.to_str().unwrap(), "-s"];
        self.run("pg_ctl", &[&head, arguments].concat());
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("LANG", "C.UTF-8")
            .stdin(std::process::Stdio::null())
            // A server that keeps a pipe would keep its reader waiting.
            .stdout(std::process::Stdio::null());
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        let status = command.status().unwrap();
        assert!(status.success(), "{program}: {status}, {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.crash();
        }
    }
}

/// The directory of the newest server installed. Source: Debian's
/// postgresql-common puts each version into a directory of its own.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    let mut installed: Vec<PathBuf> = programs
        .filter(|programs| Path::new(programs).join("initdb").exists())
        .collect();
    installed.sort();
    installed.pop()
}
