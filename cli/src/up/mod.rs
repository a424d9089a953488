//! `warrant up`: a whole server on this machine, in the foreground, with
//! nothing to install and nothing to configure.
//!
//! It starts the services as its children, tells the user how to reach them,
//! and stops them in order. The jobs are nobody's children here: they go on
//! without a server, and the next one finds them.
//!
//! Started by root, jobs run as the users who asked for them, and each service
//! as the account that has just what it needs; else all of it is one user's.

mod accounts;
pub(crate) mod audit;
mod environment;
mod identity;
mod lock;
mod multi_user;
mod programs;
mod restarts;
mod root_dir;
mod service;
mod services;
mod single_user;
mod state_dir;
pub(crate) mod tether;
mod tls;
mod welcome;
mod written;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use warrant_api::address::listen_address;
use warrant_api::token::AuthInfo;

use crate::args::Up;
use crate::auth::{Credentials, Password};
use crate::client::{Client, Request};
use crate::failure::Failure;
use crate::secret::Secret;
use crate::server::Server;
use crate::terminal::complain;
use crate::trust::Trust;
use crate::up::tls::Tls;
use crate::up::written::Written;

/// Where the server listens if nothing is said. Source: the Flux RESTful server.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// Whose jobs run.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    /// One user's, as that user.
    SingleUser,
    /// Those of the accounts of this machine, as each of them.
    MultiUser,
}

/// Run a server until it is stopped; the exit code of the process.
pub(crate) fn up(options: &Up) -> Result<u8, Failure> {
    let asked = std::env::var_os("FLUX_SERVER_MODE").filter(|mode| !mode.is_empty());
    match mode(nix::unistd::geteuid().is_root(), asked.as_deref())? {
        Mode::SingleUser => single_user::up(options)?,
        Mode::MultiUser => multi_user::up(options)?,
    }
    Ok(0)
}

fn mode(root: bool, asked: Option<&std::ffi::OsStr>) -> Result<Mode, Failure> {
    match (root, asked.map(|mode| mode.to_str().unwrap_or_default())) {
        (false, None | Some("single-user")) => Ok(Mode::SingleUser),
        (true, None | Some("multi-user")) => Ok(Mode::MultiUser),
        (true, Some("single-user")) => Err(Failure::Refused(
            "in single-user mode jobs run as whoever starts the server, and you are root: \
             everybody with the password would be root on this machine. Start it as an ordinary \
             user, or leave FLUX_SERVER_MODE unset for multi-user mode"
                .to_owned(),
        )),
        (false, Some("multi-user")) => Err(Failure::Refused(
            "multi-user mode needs root, to run each job as its user".to_owned(),
        )),
        (_, Some(_)) => Err(Failure::Usage(
            "FLUX_SERVER_MODE must be single-user or multi-user".to_owned(),
        )),
    }
}

/// Leave the directory that the server was started in, and the services with
/// it: no relative path is to mean a place there. Every path of the options is
/// absolute by now.
///
/// Errors: `Refused` where there is no root directory.
fn leave_directory() -> Result<(), Failure> {
    let left = std::env::set_current_dir("/");
    left.map_err(|error| Failure::Refused(format!("cannot change to /: {error}")))
}

/// The address with its true port, if it can be listened on.
fn free_address(listen: SocketAddr) -> Result<SocketAddr, Failure> {
    let bound = TcpListener::bind(listen).and_then(|listener| listener.local_addr());
    bound.map_err(|error| {
        Failure::Refused(format!(
            "cannot listen on {listen}: {error}. Give another address with --listen"
        ))
    })
}

/// Where a server is found.
struct Place {
    /// What it listens on.
    listen: SocketAddr,
    /// Its TLS, where it speaks that.
    tls: Option<Tls>,
    /// Its address for clients on this machine.
    url: String,
    /// Its address for all clients, where a setting names one.
    public_url: Option<String>,
    /// Where it tells its health and its metrics.
    admin: SocketAddr,
}

impl Place {
    /// What was asked for, with its true port.
    ///
    /// Errors: `Refused` where it cannot be listened on, or the files of TLS
    /// cannot be used; `Usage` where `HOST` or `PORT` is malformed.
    fn of(options: &Up, written: &Files) -> Result<Self, Failure> {
        let tls = Tls::of(options)?;
        let listen = free_address(listen(options, &written.broker)?)?;
        let url = match &tls {
            Some(tls) => tls.url(listen),
            None => format!(
                "http://{}",
                SocketAddr::new(reachable_ip(listen), listen.port())
            ),
        };
        if tls.is_none() && !listen.ip().is_loopback() {
            complain(&format!(
                "WARNING: {listen} can be reached from other machines, and passwords travel there \
                 unencrypted. Give a certificate with --tls-cert and --tls-key, put a TLS proxy \
                 in front, or listen on 127.0.0.1"
            ));
        }
        let public_url = [
            (&written.authsvc, "oauth.url"),
            (&written.broker, "listen.public_url"),
        ]
        .into_iter()
        .find_map(|(service, key)| service.text(key));
        let admin = match written.broker.address("listen.admin")? {
            Some(address) => address,
            None => free_address(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?,
        };
        Ok(Self {
            listen,
            tls,
            url,
            public_url,
            admin,
        })
    }

    /// What the auth service is told of it, with these files of TLS.
    fn of_authsvc(&self, tls: Option<&Tls>, written: &Files) -> Vec<(&'static str, OsString)> {
        let mut told = tls.map_or_else(Vec::new, Tls::of_authsvc);
        if written.authsvc.text("oauth.url").is_none() {
            let url = self.public_url.as_ref().unwrap_or(&self.url);
            told.push(("AUTHSVC__OAUTH__URL", url.into()));
        }
        told
    }

    /// What the broker is told of it, with these files of TLS.
    fn of_broker(&self, tls: Option<&Tls>, written: &Files) -> Vec<(&'static str, OsString)> {
        let mut told = tls.map_or_else(Vec::new, Tls::of_broker);
        told.push(("BROKER__LISTEN__HTTP", self.listen.to_string().into()));
        told.push(("BROKER__LISTEN__ADMIN", self.admin.to_string().into()));
        let of_tls = tls.map(|_| &self.url);
        if written.broker.text("listen.public_url").is_none()
            && let Some(url) = self.public_url.as_ref().or(of_tls)
        {
            told.push(("BROKER__LISTEN__PUBLIC_URL", url.into()));
        }
        told
    }

    /// How the server wants people to log in; `None` while it is not ready.
    ///
    /// It is asked at the address on which it was just told to listen, under
    /// which its certificate need not be good: nothing is told there that is
    /// not everybody's, and nothing depends on the answer but what is printed.
    fn auth_info(&self) -> Option<AuthInfo> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let ip = reachable_ip(self.listen);
        let address = format!("{scheme}://{}", SocketAddr::new(ip, self.listen.port()));
        let nobody = Credentials {
            user: String::new(),
            password: Password::Known(Secret::new("")),
            secret_key: None,
        };
        let mut asked = client(&address.parse().ok()?, nobody).trusting(Trust::anybody());
        let answer = asked.answer(&Request::Get("/v1/auth", vec![])).ok()?;
        serde_json::from_str(&answer.success().ok()?.body).ok()
    }
}

/// What a person has set for the two services.
struct Files {
    authsvc: Written,
    broker: Written,
}

/// What `warrant up` decides for the broker in both modes, and what to do instead
/// of setting it.
const DECIDED_FOR_BROKER: [(&str, &str); 6] = [
    ("mode", "set FLUX_SERVER_MODE"),
    ("database.url", "give --database"),
    ("auth.socket", DIRECTORY),
    ("spool.dir", DIRECTORY),
    ("listen.tls.certificate", "give --tls-cert"),
    ("listen.tls.key", "give --tls-key"),
];
/// The same for the auth service.
const DECIDED_FOR_AUTHSVC: [(&str, &str); 5] = [
    ("mode", "set FLUX_SERVER_MODE"),
    ("database.url", "give --database"),
    ("listen.socket", DIRECTORY),
    ("keys.dir", DIRECTORY),
    (
        "shared_secret_file",
        "put the secret into secrets/flux_secret_key of the state directory, or set \
         FLUX_SECRET_KEY",
    ),
];
/// What there is instead of the places of sockets, databases and keys.
const DIRECTORY: &str = "it is in the state directory (--state-dir)";

impl Files {
    /// Read both files of a state directory, of which `path` gives a path.
    ///
    /// Errors: `Refused` where one cannot be read, or sets what `warrant up`
    /// decides.
    fn read(options: &Up, path: impl Fn(&str) -> PathBuf) -> Result<Self, Failure> {
        let authsvc = Written::read(path("authsvc.toml"), "AUTHSVC__")?;
        let broker = Written::read(path("broker.toml"), "BROKER__")?;
        broker.refuse(&DECIDED_FOR_BROKER)?;
        authsvc.refuse(&DECIDED_FOR_AUTHSVC)?;
        if options.tls_cert.is_some() {
            authsvc.refuse(&[
                ("listen.tls.certificate", "leave out --tls-cert to set it"),
                ("listen.tls.key", "leave out --tls-key to set it"),
            ])?;
        }
        Ok(Self { authsvc, broker })
    }
}

/// Where to listen: by the option, else by `HOST` and `PORT`, else by
/// `listen.http` of the broker.
///
/// Errors: `Usage` where a variable is malformed, `Refused` where the setting is.
fn listen(options: &Up, broker: &Written) -> Result<SocketAddr, Failure> {
    if let Some(listen) = options.listen {
        return Ok(listen);
    }
    let set = broker.address("listen.http")?.unwrap_or(DEFAULT_LISTEN);
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (host, port) = (variable("HOST"), variable("PORT"));
    listen_address(set, host.as_deref(), port.as_deref()).map_err(Failure::Usage)
}

/// Where programs on this machine reach what listens at `listen`.
fn reachable_ip(listen: SocketAddr) -> IpAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen.ip(),
    }
}

/// The URL of a database: the one that was asked for, else a file of our own.
fn database(options: &Up, file: &Path) -> Result<OsString, Failure> {
    database_url(options.database.as_deref(), file)
}

fn database_url(given: Option<&str>, file: &Path) -> Result<OsString, Failure> {
    match given.filter(|url| !url.is_empty()) {
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            let by_variable = std::env::var_os("WARRANT_DATABASE_URL");
            if has_password(url) && by_variable.as_deref() != Some(url.as_ref()) {
                return Err(Failure::Usage(
                    "--database: every user of this machine can read the password in an argument; \
                     give the URL as WARRANT_DATABASE_URL"
                        .to_owned(),
                ));
            }
            Ok(url.into())
        }
        Some(_) => Err(Failure::Usage(
            "--database must begin with postgres:// or postgresql://".to_owned(),
        )),
        None => {
            let mut url = OsString::from("sqlite:");
            url.push(file);
            Ok(url)
        }
    }
}

/// Whether a URL holds a password: before its host, or as a parameter.
fn has_password(url: &str) -> bool {
    let (before, parameters) = url.split_once('?').unwrap_or((url, ""));
    let authority = before.split('/').nth(2).unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':')
        || parameters
            .split('&')
            .any(|part| part.starts_with("password="))
}

/// The arguments of a service with a configuration file and a database.
fn serve(config: PathBuf) -> Vec<OsString> {
    vec![
        "--config".into(),
        config.into(),
        "serve".into(),
        "--migrate".into(),
    ]
}

/// A client of our own server, with little patience.
fn client(server: &Server, credentials: Credentials) -> Client {
    Client::new(
        server.clone(),
        credentials,
        None,
        false,
        Duration::from_secs(3),
    )
}

/// Print `text` on standard output.
fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::of_output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_reached_on_the_loopback_one() {
        for (listen, ip) in [
            ("0.0.0.0:5000", "127.0.0.1"),
            ("[::]:5000", "::1"),
            ("10.0.0.1:80", "10.0.0.1"),
        ] {
            assert_eq!(reachable_ip(listen.parse().unwrap()).to_string(), ip);
        }
    }

    #[test]
    fn t108_a_password_in_an_argument_is_refused() {
        for url in [
            "postgres://u:canary@h/d",
            "postgresql://h/d?user=u&password=canary",
        ] {
            let Err(Failure::Usage(message)) = database_url(Some(url), Path::new("/x")) else {
                panic!("{url} is taken");
            };
            assert!(message.contains("WARRANT_DATABASE_URL") && !message.contains("canary"));
        }
        database_url(Some("postgres://u@h/d"), Path::new("/x")).unwrap();
    }

    #[test]
    fn an_address_in_use_is_reported_with_a_remedy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let Err(Failure::Refused(message)) = free_address(taken) else {
            panic!("the address was given twice");
        };
        assert!(message.contains("--listen"), "{message}");
    }

    #[test]
    fn root_serves_every_user_and_a_user_only_that_one() {
        let mode = |root, asked: Option<&str>| mode(root, asked.map(AsRef::as_ref));
        assert_eq!(mode(true, None), Ok(Mode::MultiUser));
        assert_eq!(mode(true, Some("multi-user")), Ok(Mode::MultiUser));
        assert_eq!(mode(false, None), Ok(Mode::SingleUser));
        assert_eq!(mode(false, Some("single-user")), Ok(Mode::SingleUser));
        assert!(matches!(
            mode(true, Some("single-user")),
            Err(Failure::Refused(_))
        ));
        assert!(matches!(
            mode(false, Some("multi-user")),
            Err(Failure::Refused(_))
        ));
        assert!(matches!(mode(true, Some("both")), Err(Failure::Usage(_))));
    }
}
