//! A whole installation of a test's own: auth service, broker, shim, database,
//! in a directory that is gone afterwards.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::database::{Created, Database};
use crate::flux::{Address, Answer, Flux};
use crate::handshake;
use crate::processes::{self, MARK, Process};
use crate::service::{self, Service, Variables};
use crate::wait::{until, until_within};

/// The superuser's name.
pub const ADMIN: &str = "fluxuser";
/// The superuser's password.
pub const ADMIN_PASSWORD: &str = "canary-password-of-the-superuser";
/// The secret that clients share with the server.
pub const SECRET: &str = "canary-secret-of-the-handshake-0123456789";

/// How a house is to be built.
#[derive(Debug, Clone)]
pub struct Setup {
    database: Database,
    variables: Variables,
    state: Option<PathBuf>,
    authenticated: bool,
}

impl Setup {
    /// A house on this database, with four cores and no GPU to share out.
    pub fn on(database: Database) -> Self {
        Self {
            database,
            variables: Vec::new(),
            state: None,
            authenticated: true,
        }
        .cores(4)
        .set("BROKER__ENGINE__GPUS", "0")
        .set("BROKER__ENGINE__GRACE_MS", "2000")
        .set("AUTHSVC__PASSWORDS__MEMORY_KIB", "8")
        .set("AUTHSVC__PASSWORDS__PASSES", "1")
        .set("FLUX_USER", ADMIN)
        .set("FLUX_TOKEN", ADMIN_PASSWORD)
        .set("FLUX_SECRET_KEY", SECRET)
    }

    /// This many cores to share out, however many the machine has.
    pub fn cores(self, cores: u32) -> Self {
        self.set("BROKER__ENGINE__CORES", &cores.to_string())
    }

    /// An environment variable of both services.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Nobody has to prove who they are.
    pub fn without_authentication(mut self) -> Self {
        self.authenticated = false;
        self.set("FLUX_AUTH_BACKEND", "none")
    }

    /// The broker's database and spool in this directory.
    pub fn state_in(mut self, dir: &Path) -> Self {
        self.state = Some(dir.to_owned());
        self
    }

    /// Build it, and wait until it answers.
    pub fn open(self) -> House {
        House::build(self)
    }
}

/// A running installation.
#[derive(Debug)]
pub struct House {
    setup: Setup,
    dir: tempfile::TempDir,
    mark: String,
    address: Address,
    broker: Option<Service>,
    authsvc: Option<Service>,
    database: Created,
}

impl House {
    /// A house on SQLite.
    pub fn open() -> Self {
        Setup::on(Database::Sqlite).open()
    }

    fn build(setup: Setup) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new()
            .prefix("warrant-house-")
            .tempdir()
            .unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("warrant_house_{}_{count}", std::process::id());
        let state = setup.state.clone();
        let state = state.unwrap_or_else(|| dir.path().join("state"));
        fs::create_dir_all(&state).unwrap();
        for name in ["home", "run"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(dir.path().join("run"), private).unwrap();
        let database = setup.database.create(&state, &mark);
        let mut house = Self {
            setup,
            dir,
            mark,
            address: Address::unknown(),
            broker: None,
            authsvc: None,
            database,
        };
        house.start_authsvc();
        house.start_broker();
        house
    }

    /// The URL of the broker's database.
    pub fn broker_database(&self) -> &str {
        &self.database.broker
    }

    /// A path in the house's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self, name: &str) -> PathBuf {
        let state = self.setup.state.clone();
        state.unwrap_or_else(|| self.path("state")).join(name)
    }

    /// The environment of both services.
    pub fn variables(&self) -> Variables {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let path = "/usr/local/bin:/usr/bin:/bin".to_owned();
        let own = [
            ("PATH", path),
            ("HOME", text(self.path("home"))),
            ("LANG", "C.UTF-8".to_owned()),
            (MARK, self.mark.clone()),
            ("AUTHSVC__DATABASE__URL", self.database.authsvc.clone()),
            ("AUTHSVC__LISTEN__SOCKET", text(self.path("run/auth.sock"))),
            ("AUTHSVC__KEYS__DIR", text(self.path("keys"))),
            ("BROKER__DATABASE__URL", self.database.broker.clone()),
            ("BROKER__LISTEN__HTTP", "127.0.0.1:0".to_owned()),
            (
                "BROKER__LISTEN__ADDRESS_FILE",
                text(self.path("run/address")),
            ),
            ("BROKER__LISTEN__SOCKET", text(self.path("run/broker.sock"))),
            ("BROKER__AUTH__SOCKET", text(self.path("run/auth.sock"))),
            ("BROKER__SPOOL__DIR", text(self.state("spool"))),
            (
                "BROKER__ENGINE__SHIM",
                text(service::program("warrant-shim")),
            ),
            ("BROKER__ENGINE__ENV_PASSTHROUGH", format!("[{MARK}]")),
        ];
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        own.chain(self.setup.variables.clone()).collect()
    }

    fn start(&self, name: &str) -> Service {
        let arguments = ["serve", "--migrate", "--config", "/nonexistent/none.toml"];
        let log = self.path(&format!("{name}.log"));
        Service::start(name, &arguments, &self.variables(), &log)
    }

    /// Start the auth service, and wait until it answers.
    pub fn start_authsvc(&mut self) {
        let mut authsvc = self.start("warrant-authsvc");
        let socket = self.path("run/auth.sock");
        until("the auth service to listen", || {
            assert!(authsvc.ended().is_none(), "{}", authsvc.log());
            UnixStream::connect(&socket).ok()
        });
        self.authsvc = Some(authsvc);
    }

    /// Start the broker, and wait until it answers.
    pub fn start_broker(&mut self) {
        let file = self.path("run/address");
        let _ = fs::remove_file(&file);
        let mut broker = self.start("warrant-broker");
        let address = until("the broker to listen", || {
            assert!(broker.ended().is_none(), "{}", broker.log());
            fs::read_to_string(&file).ok()?.parse().ok()
        });
        self.address.set(address);
        let nobody = self.nobody();
        until("the broker to answer", || {
            let answer = nobody.try_send(&ureq::http::Method::GET, "/openapi.json", &[], b"");
            answer.ok().filter(|answer| answer.status == 200)
        });
        self.broker = Some(broker);
    }

    /// Start the broker where it may refuse to: returns what it says then.
    pub fn broker_refuses(&self, name: &str, value: &str) -> String {
        let mut variables = self.variables();
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value.to_owned()));
        let arguments = ["check-config", "--config", "/nonexistent/none.toml"];
        let output = service::run("warrant-broker", &arguments, &variables, "");
        assert!(!output.status.success(), "{name}={value} is accepted");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Set a variable of both services for when they are started next.
    pub fn set(&mut self, name: &str, value: &str) {
        self.setup = self.setup.clone().set(name, value);
    }

    /// Start a service that refuses to serve, with these variables changed;
    /// returns what it says.
    ///
    /// Errors: panics where it serves.
    pub fn refusal(&self, name: &str, changes: &[(&str, &str)]) -> String {
        let mut variables = self.variables();
        let changes = changes
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        variables.extend(changes);
        service::refusal(name, &variables, &self.path("refusal.log"))
    }

    /// Kill the broker, as a crash does.
    pub fn kill_broker(&mut self) {
        self.broker.take().unwrap().kill();
    }

    /// Stop the broker, as systemd does.
    pub fn stop_broker(&mut self) {
        self.broker.take().unwrap().stop();
    }

    /// Kill the auth service, as a crash does.
    pub fn kill_authsvc(&mut self) {
        self.authsvc.take().unwrap().kill();
    }

    /// Wait until the broker ends by itself.
    pub fn broker_ended(&mut self) -> ExitStatus {
        self.broker.take().unwrap().wait()
    }

    /// The broker's process id.
    pub fn broker_pid(&self) -> i32 {
        self.broker.as_ref().unwrap().pid()
    }

    /// The auth service's process id.
    pub fn authsvc_pid(&self) -> i32 {
        self.authsvc.as_ref().unwrap().pid()
    }

    /// Every process of the house, the services included.
    pub fn processes(&self) -> Vec<Process> {
        processes::marked(&self.mark)
    }

    /// The shim's monitor.
    pub fn monitor(&self) -> Process {
        let broker = self.broker.as_ref().unwrap().pid();
        until("the shim's monitor", || {
            let mut all = self.processes().into_iter();
            all.find(|process| process.parent == broker && process.command.contains("monitor"))
        })
    }

    /// A client that proves nothing.
    pub fn nobody(&self) -> Flux {
        Flux::new(self.address.clone(), None)
    }

    /// A client of the superuser, logged in as the Python clients do.
    pub fn admin(&self) -> Flux {
        if !self.setup.authenticated {
            return self.nobody();
        }
        // Where a database was away, the auth service asks to try again.
        let answer = until("the superuser to be let in", || {
            let payload = handshake::payload(ADMIN, ADMIN_PASSWORD, SECRET);
            Some(self.exchange(&payload)).filter(|answer| answer.status != 503)
        });
        self.client(&answer)
    }

    /// Exchange a login payload.
    pub fn exchange(&self, payload: &str) -> Answer {
        let header = format!("Bearer {payload}");
        let nobody = self.nobody();
        nobody.send(
            &ureq::http::Method::POST,
            "/v1/token",
            &[("authorization", &header)],
            b"",
        )
    }

    fn client(&self, answer: &Answer) -> Flux {
        let json = answer.with(200);
        Flux::new(
            self.address.clone(),
            json["access_token"].as_str().map(str::to_owned),
        )
    }

    /// Add a user and log in as that user. The password is as
    /// [`House::password`] says.
    pub fn user(&self, name: &str) -> Flux {
        self.authsvc_command(&["user", "add", name], &Self::password(name));
        self.login(name)
    }

    /// The password of a user.
    pub fn password(name: &str) -> String {
        format!("canary-password-of-{name}")
    }

    /// Log in as a user with the form.
    pub fn login(&self, name: &str) -> Flux {
        let form = format!("username={name}&password={}", Self::password(name));
        self.client(&self.exchange_form(&form))
    }

    /// Exchange a login form.
    pub fn exchange_form(&self, form: &str) -> Answer {
        self.nobody().post_form("/v1/login/access-token", form)
    }

    /// Run a command of the auth service; returns what it prints.
    pub fn authsvc_command(&self, words: &[&str], stdin: &str) -> String {
        let arguments = [words, &["--config", "/nonexistent/none.toml"]].concat();
        let output = service::run("warrant-authsvc", &arguments, &self.variables(), stdin);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Run a command of the product over the house's databases, with no file
    /// of configuration.
    pub fn command(&self, program: &str, words: &[&str]) -> std::process::Output {
        service::run(program, words, &self.variables(), "")
    }

    /// The rows of a service's audit trail, after it was seen that it holds.
    pub fn audit(&self, service: &str) -> Vec<serde_json::Value> {
        let run = |word| {
            let words = ["--config", "/nonexistent/none.toml", "audit", word];
            let output = self.command(service, &words);
            let complaint = String::from_utf8_lossy(&output.stderr);
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{said}{complaint}");
            said
        };
        run("verify");
        run("export")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// What the services have written to their logs.
    pub fn logs(&self) -> String {
        ["warrant-authsvc", "warrant-broker"]
            .map(|name| fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default())
            .concat()
    }

    /// Cancel what runs, stop everything in order, and see that nothing is
    /// left behind, and that no secret and no colour stands in the logs.
    ///
    /// Errors: panics where that is not so.
    pub fn close(mut self) {
        if let Some(broker) = self.broker.take() {
            self.empty();
            broker.stop();
        }
        if let Some(authsvc) = self.authsvc.take() {
            authsvc.stop();
        }
        let mut left = Vec::new();
        let patience = Duration::from_secs(10);
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until_within(patience, "the house's processes to end", || {
                left = self.processes();
                left.is_empty().then_some(())
            });
        }));
        assert!(gone.is_ok(), "outlived the house: {left:#?}");
        let logs = self.logs();
        // Each token has ".eyJ" behind its header; by itself "eyJ" may be in a
        // random id.
        for never in ["canary-", ".eyJ", "\u{1b}"] {
            let line = logs.lines().find(|line| line.contains(never));
            assert_eq!(line, None, "a log holds a secret, or colours");
        }
    }

    /// Cancel every job, and wait until all have ended.
    pub fn empty(&self) {
        let admin = self.admin();
        let active = || {
            let mut jobs = admin.list();
            jobs.retain(|job| job["state"] != "INACTIVE");
            jobs
        };
        for job in active() {
            admin.cancel(job["id"].as_i64().unwrap());
        }
        until("all jobs to end", || active().is_empty().then_some(()));
    }
}

impl Drop for House {
    /// After a failure: show the logs, and leave nothing running.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        self.broker.take();
        self.authsvc.take();
        let patience = Duration::from_secs(10);
        until_within(patience, "the house's processes to be killed", || {
            let left = self.processes();
            left.iter().for_each(Process::kill);
            left.is_empty().then_some(())
        });
    }
}
