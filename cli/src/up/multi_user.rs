//! The server of every user of this machine: `warrant-shim` and `warrant-pam`
//! as root, the auth service and the broker each as an account of its own, and
//! every job as the user who asked for it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use warrant_api::environment::{OF_EVERY_JOB, allows, passed_through};

use crate::args::Up;
use crate::failure::Failure;
use crate::server::Server;
use crate::terminal::{complain, say};
use crate::up::accounts::{AUTHSVC, Accounts, BROKER};
use crate::up::environment::Environment;
use crate::up::identity::Kept;
use crate::up::root_dir::{self, RootDir, check_chain, is_socket};
use crate::up::service::Start;
use crate::up::services::{Ending, Services};
use crate::up::single_user::cores;
use crate::up::state_dir::keep_secret;
use crate::up::tls::Tls;
use crate::up::written::Written;
use crate::up::{
    DIRECTORY, Files, Place, database, leave_directory, print, programs, serve, welcome,
};

/// Those of our variables that the auth service reads.
const AUTHSVC_VARIABLES: [&str; 12] = [
    "AUTHSVC__*",
    "AUTHSVC_LOG",
    "FLUX_ACCESS_TOKEN_EXPIRES_MINUTES",
    "FLUX_ADMIN_USERS",
    "FLUX_OPERATOR_USERS",
    "FLUX_MAX_UID",
    "FLUX_MIN_UID",
    "FLUX_OIDC_*",
    "FLUX_PAM_SERVICE",
    "FLUX_TOKEN",
    "FLUX_USER",
    "TZ",
];

/// Those of our variables that the broker reads.
const BROKER_VARIABLES: [&str; 9] = [
    "BROKER__*",
    "FLUX_HAS_GPU",
    "FLUX_HAS_GPUS",
    "FLUX_JOB_ENV_PASSTHROUGH",
    "FLUX_LEGACY_JOB",
    "FLUX_NUMBER_NODES",
    "FLUX_OPTION_FLAGS",
    "TZ",
    "WARRANT_LOG",
];

/// What is needed to start the services.
struct Plan<'a> {
    options: &'a Up,
    programs: Programs,
    accounts: Accounts,
    written: Files,
    backend: Backend,
    secret_key: Kept,
    place: Place,
    /// The files of TLS as the auth service and the broker may read them.
    tls: Option<[Tls; 2]>,
    dir: RootDir,
}

/// The programs of the product.
struct Programs {
    pam: PathBuf,
    authsvc: PathBuf,
    shim: PathBuf,
    broker: PathBuf,
}

impl Programs {
    /// Errors: `Refused` where one is missing, or could be changed by others.
    fn find() -> Result<Self, Failure> {
        let find = |name| {
            let found = programs::find(name)?;
            let found = found.canonicalize().unwrap_or(found);
            check_chain(&found)?;
            Ok(found)
        };
        Ok(Self {
            pam: find("warrant-pam")?,
            authsvc: find("warrant-authsvc")?,
            shim: find("warrant-shim")?,
            broker: find("warrant-broker")?,
        })
    }
}

/// How users prove who they are: backends, separated by commas.
struct Backend(String);

impl Backend {
    /// `FLUX_AUTH_BACKEND`, if it is set.
    ///
    /// Errors: `Refused` where it lets everybody in, or `FLUX_REQUIRE_AUTH` does.
    fn of_environment() -> Result<Option<Self>, Failure> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let waived = set("FLUX_REQUIRE_AUTH").is_some_and(|word| {
            matches!(
                word.to_ascii_lowercase().as_str(),
                "0" | "false" | "no" | "off"
            )
        });
        if waived {
            return Err(everybody());
        }
        set("FLUX_AUTH_BACKEND").map(Self::checked).transpose()
    }

    /// What the auth service's settings say, else PAM.
    ///
    /// Errors: `Refused` where that lets everybody in.
    fn written(authsvc: &Written) -> Result<Self, Failure> {
        let written = ["backends", "backend"].map(|key| authsvc.text(key));
        let mut written = written.into_iter().flatten();
        let named = written.find(|names| !names.is_empty());
        Self::checked(named.unwrap_or_else(|| "pam".to_owned()))
    }

    fn checked(names: String) -> Result<Self, Failure> {
        match names.split(',').any(|name| name.trim() == "none") {
            true => Err(everybody()),
            false => Ok(Self(names)),
        }
    }

    fn is_pam(&self) -> bool {
        self.0.split(',').any(|name| name.trim() == "pam")
    }
}

fn everybody() -> Failure {
    Failure::Refused(
        "in multi-user mode everybody must log in: the backend none and FLUX_REQUIRE_AUTH=false \
         are for single-user mode"
            .to_owned(),
    )
}

/// Run a server until it is stopped.
pub(super) fn up(options: &Up) -> Result<(), Failure> {
    let asked = Backend::of_environment()?;
    let accounts = Accounts::find()?;
    let programs = Programs::find()?;
    options.listen.map_or(Ok(()), check_port)?;
    let state_dir = options.state_dir.clone();
    let state_dir = state_dir.unwrap_or_else(|| root_dir::DEFAULT.into());
    let dir = RootDir::open(&state_dir, &accounts)?;
    let written = Files::read(options, |name| dir.path(name))?;
    written
        .broker
        .refuse(&[("shim.socket", DIRECTORY), ("shim.spool", DIRECTORY)])?;
    written
        .authsvc
        .refuse(&[("warrants.keys_dir", DIRECTORY), ("pam.socket", DIRECTORY)])?;
    let backend = asked.map_or_else(|| Backend::written(&written.authsvc), Ok)?;
    let place = Place::of(options, &written)?;
    check_port(place.listen)?;
    leave_directory()?;
    let lend = |tls: &Tls| -> Result<[Tls; 2], Failure> {
        Ok([
            dir.lend_tls(tls, "authsvc", accounts.authsvc_uid)?,
            dir.lend_tls(tls, "broker", accounts.broker_uid)?,
        ])
    };
    let tls = place.tls.as_ref().map(lend).transpose()?;
    let mut plan = Plan {
        options,
        programs,
        accounts,
        written,
        backend,
        secret_key: Kept::secret_key(|name| keep_secret(dir.path("secrets").join(name)))?,
        tls,
        place,
        dir,
    };
    let server: Server = plan.place.url.parse()?;
    plan.dir.announce(&server.to_string())?;

    let mut services = Services::none(!options.quiet)?;
    let served = start_all(&plan, &server, &mut services);
    services.stop()?;
    match served? {
        Ending::Asked if options.quiet => {}
        Ending::Asked => complain(welcome::FAREWELL),
        Ending::Stopped => complain("the server was stopped by request"),
    }
    Ok(())
}

/// Each service once those that it needs are ready.
fn start_all(plan: &Plan<'_>, server: &Server, services: &mut Services) -> Result<Ending, Failure> {
    if plan.backend.is_pam() {
        let socket = plan.dir.socket("run/pam/pam.sock")?;
        services.start(plan.pam(socket.clone()))?;
        if services
            .wait_ready(|| is_socket(&socket, 0o600).then_some(()))?
            .is_none()
        {
            return Ok(Ending::Asked);
        }
    }
    let Some(keys) = services.output(plan.warrant_keys()?)? else {
        return Ok(Ending::Asked);
    };
    // The shim trusts these and no others.
    plan.dir.put("warrant-keys/authsvc.pub", &keys)?;
    plan.keep_policy()?;
    let socket = plan.dir.socket("run/shim/shim.sock")?;
    services.start(plan.shim())?;
    if services
        .wait_ready(|| is_socket(&socket, 0o660).then_some(()))?
        .is_none()
    {
        return Ok(Ending::Asked);
    }
    let socket = plan.dir.path("run/auth/authsvc.sock");
    services.start(plan.authsvc(serve(plan.dir.path("authsvc.toml")))?)?;
    let listening = || UnixStream::connect(&socket).is_ok().then_some(());
    if services.wait_ready(listening)?.is_none() {
        return Ok(Ending::Asked);
    }
    services.start(plan.broker()?)?;
    if services.wait_ready(|| plan.place.auth_info())?.is_none() {
        return Ok(Ending::Asked);
    }
    if plan.options.quiet {
        say(&server.to_string())?;
    } else {
        let server = welcome::Server::new(server, plan.place.tls.as_ref(), plan.place.admin);
        print(&welcome::multi_user(
            &server,
            plan.dir.root(),
            &plan.backend.0,
            &plan.secret_key,
        ))?;
    }
    services.watch()
}

impl Plan<'_> {
    fn pam(&self, socket: PathBuf) -> Start {
        Start {
            name: "pam",
            program: self.programs.pam.clone(),
            arguments: vec![
                "serve".into(),
                "--socket".into(),
                socket.into(),
                "--peer-uid".into(),
                self.accounts.authsvc_uid.to_string().into(),
            ],
            environment: Environment::only(&[], vec![]),
            account: Some("root"),
        }
    }

    fn shim(&self) -> Start {
        Start {
            name: "shim",
            program: self.programs.shim.clone(),
            arguments: vec![
                "serve".into(),
                "--policy".into(),
                self.dir.path("shim.toml").into(),
            ],
            environment: Environment::only(&[], vec![]),
            account: Some("root"),
        }
    }

    fn authsvc(&self, arguments: Vec<OsString>) -> Result<Start, Failure> {
        let at = |name| self.dir.path(name).into();
        let mut with = vec![
            (
                "AUTHSVC__DATABASE__URL",
                database(self.options, &self.dir.path("auth/auth.db"))?,
            ),
            ("AUTHSVC__LISTEN__SOCKET", at("run/auth/authsvc.sock")),
            ("AUTHSVC__KEYS__DIR", at("auth/keys")),
            ("AUTHSVC__WARRANTS__KEYS_DIR", at("auth/warrant-keys")),
            ("AUTHSVC__PAM__SOCKET", at("run/pam/pam.sock")),
            ("FLUX_SERVER_MODE", "multi-user".into()),
            ("FLUX_AUTH_BACKEND", self.backend.0.clone().into()),
            ("FLUX_SECRET_KEY", self.secret_key.secret.reveal().into()),
        ];
        let tls = self.tls.as_ref().map(|[authsvc, _]| authsvc);
        with.extend(self.place.of_authsvc(tls, &self.written));
        Ok(Start {
            name: "authsvc",
            program: self.programs.authsvc.clone(),
            arguments,
            environment: Environment::only(&AUTHSVC_VARIABLES, with),
            account: Some(AUTHSVC),
        })
    }

    fn broker(&self) -> Result<Start, Failure> {
        let at = |name| self.dir.path(name).into();
        let mut with = vec![
            (
                "BROKER__DATABASE__URL",
                database(self.options, &self.dir.path("broker/broker.db"))?,
            ),
            ("BROKER__AUTH__SOCKET", at("run/auth/authsvc.sock")),
            ("BROKER__SPOOL__DIR", at("broker/spool")),
            ("BROKER__SHIM__SOCKET", at("run/shim/shim.sock")),
            ("BROKER__SHIM__SPOOL", at("spool")),
            ("FLUX_SERVER_MODE", "multi-user".into()),
            ("FLUX_AUTH_BACKEND", self.backend.0.clone().into()),
        ];
        let tls = self.tls.as_ref().map(|[_, broker]| broker);
        with.extend(self.place.of_broker(tls, &self.written));
        with.extend(cores(self.options));
        Ok(Start {
            name: "broker",
            program: self.programs.broker.clone(),
            arguments: serve(self.dir.path("broker.toml")),
            environment: broker_environment(&self.written.broker, with),
            account: Some(BROKER),
        })
    }

    /// What prints the public halves of the keys that sign warrants. The
    /// private ones never leave the service's own directory.
    fn warrant_keys(&self) -> Result<Start, Failure> {
        let config = self.dir.path("authsvc.toml");
        let words = ["keys".into(), "warrant".into()];
        let mut start =
            self.authsvc([vec!["--config".into(), config.into()], words.into()].concat())?;
        start.name = "warrant-authsvc keys warrant";
        Ok(start)
    }

    /// The shim's policy: made once, and the administrator's from then on.
    fn keep_policy(&self) -> Result<(), Failure> {
        if self.dir.path("shim.toml").exists() {
            return Ok(());
        }
        let mut policy = String::from(
            "# The shim's policy, made by `warrant up` and yours to change. What is\n\
             # not said here has its default.\n\n",
        );
        for (key, name) in [
            ("keys", "warrant-keys"),
            ("socket", "run/shim/shim.sock"),
            ("spool", "spool"),
            ("state", "shim"),
        ] {
            let place = self.dir.path(name);
            policy.push_str(&format!("{key} = \"{}\"\n", place.display()));
        }
        // Whom the auth service lets in, the shim lets run jobs.
        for (key, variable) in [("min_uid", "FLUX_MIN_UID"), ("max_uid", "FLUX_MAX_UID")] {
            let value = std::env::var(variable).ok();
            if let Some(uid) = value.and_then(|value| value.parse::<u32>().ok()) {
                policy.push_str(&format!("{key} = {uid}\n"));
            }
        }
        self.dir.put("shim.toml", &policy)
    }
}

/// The broker is not root, which alone may listen on the lowest ports.
fn check_port(listen: SocketAddr) -> Result<(), Failure> {
    match listen.port() {
        1..1024 => Err(Failure::Usage(format!(
            "the broker is no longer root when it listens, so it cannot have port {}: give a port \
             from 1024 with --listen, and put a proxy in front",
            listen.port()
        ))),
        _ => Ok(()),
    }
}

/// The broker's environment: what it reads itself, and what jobs get of ours.
fn broker_environment(broker: &Written, with: Vec<(&'static str, OsString)>) -> Environment {
    let set = std::env::var("FLUX_JOB_ENV_PASSTHROUGH").unwrap_or_default();
    let written = broker.text("engine.env_passthrough").unwrap_or_default();
    let lists = [set, written];
    let named = lists.iter().flat_map(|list| passed_through(list));
    let of_jobs: Vec<_> = OF_EVERY_JOB.into_iter().chain(named).collect();
    let reaches_jobs = |name: &OsString| allows(of_jobs.iter().copied(), name.as_bytes());
    Environment::only(&BROKER_VARIABLES, with).and_ours(reaches_jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_only_root_may_have_is_refused() {
        assert!(check_port("0.0.0.0:443".parse().unwrap()).is_err());
        assert!(check_port("0.0.0.0:0".parse().unwrap()).is_ok());
        assert!(check_port("0.0.0.0:1024".parse().unwrap()).is_ok());
    }
}
