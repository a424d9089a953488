//! A multi-user installation of a test's own: the root-owned shim, the auth
//! service and the broker under accounts of their own, and people with
//! accounts, in a mount namespace that nobody else sees.
//!
//! The machine's account files, `/srv`, `/run` and `/etc/pam.d` are as they
//! were for everybody else, and again once the test's thread has ended.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

use crate::database::{Created, Database};
use crate::flux::{Address, Flux};
use crate::house::House;
use crate::service::{self, Service, Variables};
use crate::wait::{until, until_within};

/// An account of the village.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: &'static str,
    /// Its user id, which is its group's id as well.
    pub uid: u32,
}

/// The broker's account.
pub const BROKER: Account = Account {
    name: "warrant",
    uid: 64_001,
};
/// The auth service's account.
pub const AUTHSVC: Account = Account {
    name: "warrant-auth",
    uid: 64_002,
};
/// The account of keepers.
pub const KEEPER: Account = Account {
    name: "warrant-keeper",
    uid: 64_003,
};
/// One person.
pub const ALICE: Account = Account {
    name: "alice",
    uid: 54_011,
};
/// Another person.
pub const BOB: Account = Account {
    name: "bob",
    uid: 54_012,
};
/// A person who is an administrator of the service, not of the machine.
pub const CAROL: Account = Account {
    name: "carol",
    uid: 54_013,
};

/// A person who watches over everybody's jobs, where the plan says so.
pub const OLGA: Account = Account {
    name: "olga",
    uid: 54_014,
};
/// A person who will not stay.
pub const DAVE: Account = Account {
    name: "dave",
    uid: 54_015,
};

const PEOPLE: [Account; 5] = [ALICE, BOB, CAROL, OLGA, DAVE];

/// Everything of the village is below this directory.
const ROOT: &str = "/srv";
/// The account files.
const ACCOUNT_FILES: [&str; 3] = ["/etc/passwd", "/etc/group", "/etc/shadow"];

/// How a village is to be built.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    variables: Variables,
    policy: Vec<String>,
    pam: bool,
    database: Option<Database>,
    people: Vec<Account>,
}

impl Plan {
    /// An environment variable of the auth service and the broker.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of the shim's policy.
    #[must_use]
    pub fn policy(mut self, line: &str) -> Self {
        self.policy.push(line.to_owned());
        self
    }

    /// The services keep their records in a database of this sort.
    #[must_use]
    pub fn on(mut self, database: Database) -> Self {
        self.database = Some(database);
        self
    }

    /// More people, besides those who are in every village.
    #[must_use]
    pub fn people(mut self, people: &[Account]) -> Self {
        self.people.extend(people);
        self
    }

    /// Everybody with an account who is no service.
    fn everybody(&self) -> Vec<Account> {
        PEOPLE.into_iter().chain(self.people.clone()).collect()
    }

    /// Jobs pass through PAM's account and session phases.
    #[must_use]
    pub fn with_pam(mut self) -> Self {
        self.pam = true;
        self
    }

    /// Build it, and wait until it answers; `None`, saying why, where this is
    /// not root.
    ///
    /// Errors: panics without root where `WARRANT_REQUIRE_ROOT=1`.
    pub fn open(self) -> Option<Village> {
        if !Uid::effective().is_root() {
            let why = "left out: it takes root to make processes of other users";
            let required = std::env::var("WARRANT_REQUIRE_ROOT");
            assert_ne!(required.as_deref(), Ok("1"), "{why}");
            eprintln!("{why}");
            return None;
        }
        Some(Village::build(self))
    }
}

/// A running multi-user installation.
#[derive(Debug)]
pub struct Village {
    plan: Plan,
    address: Address,
    shim: Option<Service>,
    authsvc: Option<Service>,
    broker: Option<Service>,
    /// A database elsewhere; dropped after those who use it.
    database: Option<Created>,
}

impl Village {
    /// A village without PAM; see [`Plan::open`].
    pub fn open() -> Option<Self> {
        Plan::default().open()
    }

    fn build(plan: Plan) -> Self {
        leave_the_machine();
        write_accounts(&plan.everybody());
        lay_out(&plan.everybody());
        let name = format!("warrant_village_{}", std::process::id());
        let elsewhere = plan.database.clone();
        let elsewhere = elsewhere.filter(|database| *database != Database::Sqlite);
        let mut village = Self {
            database: elsewhere.map(|database| database.create(&path(""), &name)),
            plan,
            address: Address::unknown(),
            shim: None,
            authsvc: None,
            broker: None,
        };
        village.write_policy();
        village.trust_warrant_key();
        village.start_authsvc();
        village.start_shim();
        village.start_broker();
        village
    }

    /// A path of the village.
    pub fn path(&self, name: &str) -> PathBuf {
        path(name)
    }

    fn write_policy(&self) {
        let mut lines = vec![
            format!("keys = \"{ROOT}/etc/warrant-keys\""),
            format!("socket = \"{ROOT}/run/shim/shim.sock\""),
            format!("spool = \"{ROOT}/spool\""),
            format!("state = \"{ROOT}/shim\""),
            format!("pam = \"{}\"", if self.plan.pam { "on" } else { "off" }),
        ];
        lines.extend(self.plan.policy.iter().cloned());
        fs::write(path("etc/shim.toml"), lines.join("\n") + "\n").unwrap();
    }

    /// What `warrant-authsvc keys warrant` prints, where the shim looks for it.
    fn trust_warrant_key(&self) {
        let keys = self.authsvc_command(&["keys", "warrant"], "");
        fs::write(path("etc/warrant-keys/authsvc.pub"), keys).unwrap();
    }

    /// The environment of the auth service and the broker.
    pub fn variables(&self) -> Variables {
        let text = |name: &str| format!("{ROOT}/{name}");
        let own = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("FLUX_SERVER_MODE", "multi-user".to_owned()),
            ("FLUX_ADMIN_USERS", CAROL.name.to_owned()),
            (
                "AUTHSVC__DATABASE__URL",
                format!("sqlite:{}", text("auth/auth.db")),
            ),
            ("AUTHSVC__LISTEN__SOCKET", text("run/auth/auth.sock")),
            ("AUTHSVC__KEYS__DIR", text("auth/keys")),
            ("AUTHSVC__WARRANTS__KEYS_DIR", text("auth/warrant-keys")),
            ("AUTHSVC__WARRANTS__BROKER_UID", BROKER.uid.to_string()),
            ("AUTHSVC__PASSWORDS__MEMORY_KIB", "8".to_owned()),
            ("AUTHSVC__PASSWORDS__PASSES", "1".to_owned()),
            (
                "BROKER__DATABASE__URL",
                format!("sqlite:{}", text("broker/broker.db")),
            ),
            ("BROKER__LISTEN__HTTP", "127.0.0.1:0".to_owned()),
            ("BROKER__LISTEN__ADDRESS_FILE", text("broker/address")),
            ("BROKER__AUTH__SOCKET", text("run/auth/auth.sock")),
            ("BROKER__SPOOL__DIR", text("broker/own")),
            ("BROKER__SHIM__SOCKET", text("run/shim/shim.sock")),
            ("BROKER__SHIM__SPOOL", text("spool")),
            ("BROKER__ENGINE__CORES", "4".to_owned()),
            ("BROKER__ENGINE__GPUS", "0".to_owned()),
            ("BROKER__ENGINE__GRACE_MS", "2000".to_owned()),
        ];
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let elsewhere = self.database.iter().flat_map(|database| {
            [
                ("AUTHSVC__DATABASE__URL", &database.authsvc),
                ("BROKER__DATABASE__URL", &database.broker),
            ]
        });
        let elsewhere = elsewhere.map(|(name, url)| (name.to_owned(), url.clone()));
        own.chain(elsewhere)
            .chain(self.plan.variables.clone())
            .collect()
    }

    fn start(&self, name: &str, account: Account) -> Service {
        let arguments = ["serve", "--migrate", "--config", "/nonexistent/none.toml"];
        let log = path(&format!("log/{name}.log"));
        Service::start_as(
            account.uid,
            &path(&format!("lib/{name}")),
            &arguments,
            &self.variables(),
            &log,
        )
    }

    /// Start the auth service, and wait until it answers.
    pub fn start_authsvc(&mut self) {
        let mut authsvc = self.start("warrant-authsvc", AUTHSVC);
        until("the auth service to listen", || {
            assert!(authsvc.ended().is_none(), "{}", authsvc.log());
            UnixStream::connect(path("run/auth/auth.sock")).ok()
        });
        self.authsvc = Some(authsvc);
    }

    /// Start the shim's monitor, and wait until it listens.
    pub fn start_shim(&mut self) {
        let arguments = ["serve", "--policy", &format!("{ROOT}/etc/shim.toml")];
        let mut shim = Service::start_as(
            0,
            &path("lib/warrant-shim"),
            &arguments,
            &vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            &path("log/warrant-shim.log"),
        );
        until("the shim to listen", || {
            assert!(shim.ended().is_none(), "{}", shim.log());
            UnixStream::connect(path("run/shim/shim.sock")).ok()
        });
        self.shim = Some(shim);
    }

    /// Start the broker, and wait until it answers.
    pub fn start_broker(&mut self) {
        let file = path("broker/address");
        let _ = fs::remove_file(&file);
        let mut broker = self.start("warrant-broker", BROKER);
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

    /// Set a variable of the auth service and the broker for when they are
    /// started next.
    pub fn set(&mut self, name: &str, value: &str) {
        self.plan.variables.push((name.into(), value.into()));
    }

    /// Start the broker where it refuses to serve; returns what it says.
    ///
    /// Errors: panics where it serves.
    pub fn broker_refusal(&self) -> String {
        let mut broker = self.start("warrant-broker", BROKER);
        let status = broker.wait();
        assert!(!status.success(), "the broker ended with {status}");
        broker.log()
    }

    /// Kill the broker, as a crash does.
    pub fn kill_broker(&mut self) {
        self.broker.take().unwrap().kill();
    }

    /// Stop the shim's monitor, as systemd does.
    pub fn stop_shim(&mut self) {
        self.shim.take().unwrap().stop();
    }

    /// Run a command of the shim as root over the village's policy; whether it
    /// succeeded, and all that it says.
    pub fn shim_command(&self, word: &str) -> (bool, String) {
        let policy = format!("{ROOT}/etc/shim.toml");
        let output = service::run_as(
            0,
            &path("lib/warrant-shim"),
            &[word, "--policy", &policy],
            &Vec::new(),
            "",
        );
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// The shim's monitor.
    pub fn shim(&self) -> &Service {
        self.shim.as_ref().unwrap()
    }

    /// Kill the shim's monitor, as a crash does, and start another one.
    pub fn replace_shim(&mut self) {
        self.shim.take().unwrap().kill();
        self.start_shim();
    }

    /// Kill the broker, as a crash does, and start another one.
    pub fn replace_broker(&mut self) {
        self.broker.take().unwrap().kill();
        self.start_broker();
    }

    /// Kill the auth service, as a crash does, and start another one.
    pub fn replace_authsvc(&mut self) {
        self.authsvc.take().unwrap().kill();
        self.start_authsvc();
    }

    /// Where the broker listens now.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// A client that proves nothing.
    pub fn nobody(&self) -> Flux {
        Flux::new(self.address.clone(), None)
    }

    /// The password of an account.
    pub fn password(account: Account) -> String {
        if account.name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return House::password(account.name);
        }
        // What a name holds is no part of a password's test.
        format!("canary-password-of-{}", account.uid)
    }

    /// Give an account a password at the auth service, and log in with it.
    pub fn user(&self, account: Account) -> Flux {
        self.authsvc_command(&["user", "add", account.name], &Self::password(account));
        self.login(account)
    }

    /// Log in with the form.
    pub fn login(&self, account: Account) -> Flux {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("username", account.name)
            .append_pair("password", &Self::password(account))
            .finish();
        let answer = self.nobody().post_form("/v1/login/access-token", &form);
        let token = answer.with(200)["access_token"].as_str().map(str::to_owned);
        Flux::new(self.address.clone(), token)
    }

    /// Run a command of the auth service under its account; returns what it prints.
    pub fn authsvc_command(&self, words: &[&str], stdin: &str) -> String {
        self.command(AUTHSVC, "warrant-authsvc", words, stdin)
    }

    /// Run a command of the broker under its account; returns what it prints.
    pub fn broker_command(&self, words: &[&str]) -> String {
        self.command(BROKER, "warrant-broker", words, "")
    }

    /// Wait until the broker ends by itself.
    pub fn broker_ended(&mut self) -> std::process::ExitStatus {
        self.broker.take().unwrap().wait()
    }

    /// The rows of the broker's audit trail, after it was seen that it holds.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let run = |word| self.command(BROKER, "warrant-broker", &["audit", word], "");
        run("verify");
        run("export")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn command(&self, account: Account, name: &str, words: &[&str], stdin: &str) -> String {
        let arguments = [words, &["--config", "/nonexistent/none.toml"]].concat();
        let output = service::run_as(
            account.uid,
            &path(&format!("lib/{name}")),
            &arguments,
            &self.variables(),
            stdin,
        );
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the services have written to their logs.
    pub fn logs(&self) -> String {
        ["warrant-authsvc", "warrant-shim", "warrant-broker"]
            .map(|name| {
                let text = fs::read_to_string(path(&format!("log/{name}.log")));
                format!("--- {name}\n{}", text.unwrap_or_default())
            })
            .concat()
    }

    /// The processes of people and of keepers: (process id, user id, name).
    pub fn job_processes(&self) -> Vec<(i32, u32, String)> {
        let people: Vec<_> = self.plan.everybody().iter().map(|it| it.uid).collect();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().trim().to_owned()
            };
            let uid = field("Uid:")
                .split_whitespace()
                .next()
                .and_then(|uid| uid.parse().ok());
            if let Some(uid) = uid.filter(|uid| people.contains(uid)) {
                found.push((pid, uid, field("Name:")));
            }
        }
        found
    }

    /// Stop everything in order, and see that no process of a person is left
    /// and that no secret stands in the logs.
    ///
    /// Errors: panics where that is not so.
    pub fn close(mut self) {
        for service in [self.broker.take(), self.authsvc.take(), self.shim.take()] {
            service.unwrap().stop();
        }
        until_within(
            Duration::from_secs(10),
            "the jobs' processes to end",
            || self.job_processes().is_empty().then_some(()),
        );
        let logs = self.logs();
        // Each token has ".eyJ" behind its header; by itself "eyJ" may be in a
        // random id.
        for never in ["canary-", ".eyJ", "\u{1b}"] {
            let line = logs.lines().find(|line| line.contains(never));
            assert_eq!(line, None, "a log holds a secret, or colours");
        }
    }
}

impl Drop for Village {
    /// After a failure: show the logs, and leave nothing running.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        self.broker.take();
        self.authsvc.take();
        self.shim.take();
        for (pid, ..) in self.job_processes() {
            crate::processes::send(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// A mount namespace for this thread and what it starts, with an empty
/// `/srv` and `/run`.
fn leave_the_machine() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for dir in [ROOT, "/run"] {
        let options = Some("mode=0755");
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    }
}

fn bind(from: &Path, to: &Path) {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none).unwrap();
}

/// The machine's accounts and the village's, bound over the machine's files.
fn write_accounts(people: &[Account]) {
    fs::create_dir(path("accounts")).unwrap();
    for file in ACCOUNT_FILES {
        let mut text = fs::read_to_string(file).unwrap();
        let services = [BROKER, AUTHSVC, KEEPER];
        let ours = services.iter().chain(people);
        for account @ Account { name, uid } in ours {
            let shell = match services.contains(account) {
                true => "/usr/sbin/nologin",
                false => "/bin/sh",
            };
            text.push_str(&match file {
                "/etc/passwd" => format!("{name}:x:{uid}:{uid}::{ROOT}/home/{name}:{shell}\n"),
                "/etc/group" => format!("{name}:x:{uid}:\n"),
                _ => format!("{name}:*:19000:0:99999:7:::\n"),
            });
        }
        let copy = path("accounts").join(Path::new(file).file_name().unwrap());
        fs::write(&copy, text).unwrap();
        let mode = fs::metadata(file).unwrap().permissions();
        fs::set_permissions(&copy, mode).unwrap();
        bind(&copy, Path::new(file));
    }
}

/// The directories of the village, and the programs where root owns the way.
fn lay_out(people: &[Account]) {
    let own = |name: &str, account: Option<Account>, mode: u32| {
        let dir = path(name);
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        if let Some(Account { uid, .. }) = account {
            chown(&dir, Some(uid), Some(uid)).unwrap();
        }
    };
    for name in [
        "etc",
        "etc/warrant-keys",
        "home",
        "lib",
        "log",
        "run",
        "run/shim",
    ] {
        own(name, None, 0o755);
    }
    own("shim", None, 0o700);
    own("auth", Some(AUTHSVC), 0o700);
    // What is made in it belongs to the broker's group, which may connect.
    own("run/auth", Some(AUTHSVC), 0o755);
    chown(path("run/auth"), None, Some(BROKER.uid)).unwrap();
    fs::set_permissions(path("run/auth"), fs::Permissions::from_mode(0o2755)).unwrap();
    own("broker", Some(BROKER), 0o700);
    own("spool", None, 0o2750);
    chown(path("spool"), Some(0), Some(BROKER.uid)).unwrap();
    for person in people {
        own(&format!("home/{}", person.name), Some(*person), 0o700);
    }
    for name in ["warrant-shim", "warrant-authsvc", "warrant-broker"] {
        let to = path("lib").join(name);
        fs::write(&to, "").unwrap();
        bind(&service::program(name), &to);
    }
}
