//! `warrant audit verify`: have both services check their audit trails, each
//! as the account that owns its database.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::unistd::User;

use crate::args::{AuditVerify, Kept};
use crate::failure::Failure;
use crate::state_home::state_home;
use crate::terminal::{complain, say, visible};
use crate::up::accounts::{AUTHSVC, BROKER};
use crate::up::environment::Environment;
use crate::up::service::Start;
use crate::up::{database_url, programs, root_dir};

/// The exit code where a trail does not hold.
const BROKEN: u8 = 1;
/// The exit code where one cannot be read.
const UNREADABLE: u8 = 2;

/// One of the two trails.
struct Trail<'a> {
    name: &'static str,
    program: &'static str,
    account: &'static str,
    /// The variable that says where its database is.
    variable: &'static str,
    /// Its database in the directory of `warrant up`, without and with root.
    files: [&'static str; 2],
    /// Its configuration there.
    toml: &'static str,
    config: Option<&'a Path>,
    kept: Option<(&'a str, u64)>,
}

/// Check both; the exit code of the process: 0 where both hold, 1 where one
/// does not, 2 where one cannot be read.
pub(crate) fn verify(options: &AuditVerify) -> u8 {
    let trails = [
        Trail {
            name: "authsvc",
            program: "warrant-authsvc",
            account: AUTHSVC,
            variable: "AUTHSVC__DATABASE__URL",
            files: ["auth.db", "auth/auth.db"],
            toml: "authsvc.toml",
            config: options.authsvc_config.as_deref(),
            kept: options.authsvc_kept.as_ref().map(Kept::parts),
        },
        Trail {
            name: "broker",
            program: "warrant-broker",
            account: BROKER,
            variable: "BROKER__DATABASE__URL",
            files: ["broker.db", "broker/broker.db"],
            toml: "broker.toml",
            config: options.broker_config.as_deref(),
            kept: options.broker_kept.as_ref().map(Kept::parts),
        },
    ];
    let codes = trails.map(|trail| {
        trail.verify(options).unwrap_or_else(|failure| {
            if let Some(message) = failure.message() {
                complain(message);
            }
            UNREADABLE
        })
    });
    // That one is broken is what matters most.
    if codes.contains(&BROKEN) {
        BROKEN
    } else {
        codes.into_iter().max().unwrap_or(UNREADABLE)
    }
}

impl Trail<'_> {
    fn verify(&self, options: &AuditVerify) -> Result<u8, Failure> {
        let name = self.name;
        let failed = |error: std::io::Error| {
            Failure::Refused(format!("cannot run {}: {error}", self.program))
        };
        let (config, environment) = self.place(options)?;
        let mut arguments: Vec<OsString> = vec!["--config".into(), config.into()];
        arguments.extend(["audit", "verify"].map(OsString::from));
        if let Some((head, count)) = self.kept {
            arguments.extend(["--head", head, "--count"].map(OsString::from));
            arguments.push(count.to_string().into());
        }
        let start = Start {
            name,
            program: programs::find(self.program)?,
            arguments,
            environment,
            account: self.account()?,
        };
        let mut command = start.command().map_err(failed)?;
        let output = command.stderr(Stdio::inherit()).output().map_err(failed)?;
        let said = String::from_utf8_lossy(&output.stdout);
        for line in said.lines() {
            say(&format!("{name}: {}", visible(line)))?;
        }
        match output.status.code() {
            Some(0) => Ok(0),
            // Who could not even become the service ends with 1 as well.
            Some(1) if said.starts_with("broken:") => Ok(BROKEN),
            Some(_) | None => {
                complain(&format!("the audit trail of {name} cannot be read"));
                Ok(UNREADABLE)
            }
        }
    }

    /// Root checks as the account that owns the database: the files that the
    /// service makes beside it must stay that account's. Where there is no
    /// such account, root runs the service.
    fn account(&self) -> Result<Option<&'static str>, Failure> {
        if !is_root() {
            return Ok(None);
        }
        let found = User::from_name(self.account).map_err(|errno| {
            Failure::Refused(format!("cannot look up {}: {errno}", self.account))
        })?;
        Ok(found.map(|_| self.account))
    }

    /// Its configuration, and what tells it where its database is.
    fn place(&self, options: &AuditVerify) -> Result<(PathBuf, Environment), Failure> {
        let packaged = || packaged(options, Path::new(root_dir::DEFAULT), self.toml);
        if let Some(config) = self.config.map(Path::to_owned).or_else(packaged) {
            let ours = Environment::Ours {
                with: vec![],
                without: &[],
            };
            return Ok((config, ours));
        }
        let default = || {
            if is_root() {
                Some(root_dir::DEFAULT.into())
            } else {
                state_home().map(|home| home.join("up"))
            }
        };
        let no_home = || Failure::Usage("there is no home directory: give --state-dir".to_owned());
        let dir = options
            .state_dir
            .clone()
            .or_else(default)
            .ok_or_else(no_home)?;
        // The service works in another directory.
        let dir = dir
            .canonicalize()
            .map_err(|error| Failure::Refused(format!("cannot open {}: {error}", dir.display())))?;
        let [own, of_account] = self.files;
        let file = dir.join(if is_root() { of_account } else { own });
        let url = database_url(options.database.as_deref(), &file)?;
        // A service would make a database that is not there.
        if options.database.is_none() && !file.exists() {
            return Err(Failure::Refused(format!("there is no {}", file.display())));
        }
        let environment = Environment::only(&[], vec![(self.variable, url)]);
        Ok((dir.join(self.toml), environment))
    }
}

/// Where the package keeps the configuration of the services.
const PACKAGED: &str = "/etc/warrant";

/// The configuration of a service of the installed package, where nothing else
/// is asked for and `warrant up` has no directory of root's on this machine.
fn packaged(options: &AuditVerify, up: &Path, toml: &str) -> Option<PathBuf> {
    let config = Path::new(PACKAGED).join(toml);
    let asked = options.state_dir.is_some() || options.database.is_some();
    (!asked && is_root() && !up.exists() && config.exists()).then_some(config)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
