//! `warrant up`: a whole server on this machine, in the foreground, with
//! nothing to install and nothing to configure.
//!
//! It starts the auth service and the broker as its children, tells the user
//! how to reach them, and stops them in order. The jobs are nobody's children
//! here: they go on without a server, and the next one finds them.

mod identity;
mod programs;
mod service;
mod signals;
mod state_dir;
pub(crate) mod tether;
mod welcome;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use warrant_api::token::AuthInfo;

use crate::args::Up;
use crate::client::{Client, Request};
use crate::failure::Failure;
use crate::job::{Job, State};
use crate::server::Server;
use crate::state_home::state_home;
use crate::terminal::{complain, say};
use crate::up::identity::Identity;
use crate::up::service::Service;
use crate::up::signals::Signals;
use crate::up::state_dir::StateDir;

/// How long both services together may take to get ready.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How often a starting service is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// Why it came to an end without a failure.
enum Ending {
    /// By Ctrl-C or another signal.
    Asked,
    /// By a request to the server itself.
    Stopped,
}

/// Run a server until it is stopped; the exit code of the process.
pub(crate) fn up(options: &Up) -> Result<u8, Failure> {
    let authsvc_program = programs::find("warrant-authsvc")?;
    let broker_program = programs::find("warrant-broker")?;
    let shim_program = programs::find("warrant-shim")?;
    let mut dir = StateDir::open(&state_dir(options)?)?;
    let identity = Identity::gather(&dir)?;
    let listen = free_address(options.listen)?;
    let server: Server = reachable_url(listen).parse()?;
    dir.announce(&server.to_string())?;
    warn(listen);

    let signals = Signals::keep()?;
    let deadline = Instant::now() + START_PATIENCE;
    let socket = dir.path("run/auth.sock");
    let mut environment = vec![
        (
            "AUTHSVC__DATABASE__URL",
            database(options, &dir, "auth.db")?,
        ),
        ("AUTHSVC__LISTEN__SOCKET", socket.clone().into()),
        ("AUTHSVC__KEYS__DIR", dir.path("keys").into()),
    ];
    environment.extend(secrets(&identity));
    let loud = !options.quiet;
    let config = dir.path("authsvc.toml");
    let mut authsvc = Service::start("authsvc", authsvc_program, &config, &environment, &[], loud)?;
    let mut broker = None;

    let served = (|| {
        let listening = || UnixStream::connect(&socket).is_ok().then_some(());
        if wait_ready(&mut [&mut authsvc], &signals, deadline, listening)?.is_none() {
            return Ok(Ending::Asked);
        }
        let mut environment = vec![
            (
                "BROKER__DATABASE__URL",
                database(options, &dir, "broker.db")?,
            ),
            ("BROKER__LISTEN__HTTP", listen.to_string().into()),
            ("BROKER__AUTH__SOCKET", socket.clone().into()),
            ("BROKER__SPOOL__DIR", dir.path("spool").into()),
            ("BROKER__ENGINE__SHIM", shim_program.into()),
        ];
        if let Some(cores) = options.cores {
            environment.push(("BROKER__ENGINE__CORES", cores.to_string().into()));
        }
        let config = dir.path("broker.toml");
        let service = Service::start(
            "broker",
            broker_program,
            &config,
            &environment,
            &SECRETS,
            loud,
        )?;
        let broker = broker.insert(service);
        let answering = || auth_info(&server, &identity);
        let services = &mut [&mut *broker, &mut authsvc];
        let Some(auth) = wait_ready(services, &signals, deadline, answering)? else {
            return Ok(Ending::Asked);
        };
        if options.quiet {
            say(&server.to_string())?;
        } else {
            let text = welcome::text(&server.to_string(), dir.root(), &identity, &auth);
            io::stdout()
                .write_all(text.as_bytes())
                .map_err(Failure::of_output)?;
        }
        watch(&mut authsvc, broker, &signals)
    })();

    let running = match served {
        Ok(Ending::Asked) if broker.is_some() => running_jobs(&server, &identity),
        _ => None,
    };
    // The broker first: until its end it may have to ask the auth service.
    if let Some(broker) = &mut broker {
        broker.stop(&signals)?;
    }
    authsvc.stop(&signals)?;
    match served? {
        Ending::Asked => farewell(running, options.quiet),
        Ending::Stopped => complain("the server was stopped by request"),
    }
    Ok(0)
}

fn state_dir(options: &Up) -> Result<PathBuf, Failure> {
    let default = || state_home().map(|home| home.join("up"));
    options
        .state_dir
        .clone()
        .or_else(default)
        .ok_or_else(|| Failure::Usage("there is no home directory: give --state-dir".to_owned()))
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

/// A URL for programs on this machine.
fn reachable_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen.ip(),
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

fn warn(listen: SocketAddr) {
    if !listen.ip().is_loopback() {
        complain(&format!(
            "WARNING: {listen} can be reached from other machines, and passwords travel there \
             unencrypted. Put a TLS proxy in front, or listen on 127.0.0.1"
        ));
    }
    let multi_user = std::env::var_os("FLUX_SERVER_MODE").is_some_and(|mode| mode == "multi-user");
    if nix::unistd::geteuid().is_root() && !multi_user {
        complain(
            "WARNING: you are root, and in single-user mode jobs run as the server's user: \
             everybody with the password is root on this machine",
        );
    }
}

/// What the broker has no use for, and so must not know.
const SECRETS: [&str; 3] = ["FLUX_TOKEN", "FLUX_SECRET_KEY", "FLUX_SECREY_KEY"];

/// The drop-in way to hand secrets to a server of the Flux RESTful API. Other
/// variables of the environment are inherited.
fn secrets(identity: &Identity) -> Vec<(&'static str, OsString)> {
    let secret = |kept: &identity::Kept| kept.secret.reveal().into();
    vec![
        ("FLUX_USER", identity.user.clone().into()),
        ("FLUX_TOKEN", secret(&identity.password)),
        ("FLUX_SECRET_KEY", secret(&identity.secret_key)),
    ]
}

fn database(options: &Up, dir: &StateDir, file: &str) -> Result<OsString, Failure> {
    let given = options.database.as_deref().filter(|url| !url.is_empty());
    match given {
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            Ok(url.into())
        }
        Some(_) => Err(Failure::Usage(
            "--database must begin with postgres:// or postgresql://".to_owned(),
        )),
        None => {
            let mut url = OsString::from("sqlite:");
            url.push(dir.path(file));
            Ok(url)
        }
    }
}

/// Wait until `ready` gives something; `None` when asked to stop before.
///
/// Errors: `Refused` when a service ends or the deadline passes. The first of
/// the services is the one waited for.
fn wait_ready<T>(
    services: &mut [&mut Service],
    signals: &Signals,
    deadline: Instant,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<Option<T>, Failure> {
    loop {
        if let Some(found) = ready() {
            return Ok(Some(found));
        }
        for service in services.iter_mut() {
            if let Some(status) = service.ended()? {
                return Err(service.failure(status));
            }
        }
        if Instant::now() >= deadline {
            let seconds = START_PATIENCE.as_secs();
            let late = format!("is not ready after {seconds} seconds");
            return Err(services.first().map_or_else(
                || Failure::Refused(format!("the server {late}")),
                |service| service.failure_so_far(&late),
            ));
        }
        if signals.wait(Some(ASK_EVERY))? {
            return Ok(None);
        }
    }
}

/// Watch both services until one ends or we are asked to stop.
fn watch(
    authsvc: &mut Service,
    broker: &mut Service,
    signals: &Signals,
) -> Result<Ending, Failure> {
    loop {
        if let Some(status) = broker.ended()? {
            return if status.success() {
                Ok(Ending::Stopped)
            } else {
                Err(broker.failure(status))
            };
        }
        if let Some(status) = authsvc.ended()? {
            return Err(authsvc.failure(status));
        }
        if signals.wait(None)? {
            return Ok(Ending::Asked);
        }
    }
}

/// A client of our own server, with little patience.
fn client(server: &Server, identity: &Identity) -> Client {
    let patience = Duration::from_secs(3);
    Client::new(
        server.clone(),
        identity.credentials(),
        None,
        false,
        patience,
    )
}

/// How the server wants us to log in; `None` while it is not ready.
fn auth_info(server: &Server, identity: &Identity) -> Option<AuthInfo> {
    let request = Request::Get("/v1/auth", vec![]);
    let answer = client(server, identity).answer(&request).ok()?;
    serde_json::from_str(&answer.success().ok()?.body).ok()
}

/// How many jobs are running; `None` when that cannot be known quickly.
fn running_jobs(server: &Server, identity: &Identity) -> Option<usize> {
    const ENOUGH: usize = 1000;
    let query = [
        ("details", "true".to_owned()),
        ("listing", "true".to_owned()),
        ("limit", ENOUGH.to_string()),
    ];
    let request = Request::Get("/v1/jobs", query.to_vec());
    let answer = client(server, identity).answer(&request).ok()?;
    let reply = answer.success().ok()?.json().ok()?;
    count_running(reply.as_array()?, ENOUGH)
}

/// A list that was cut off may lack some.
fn count_running(jobs: &[Value], cut_off_at: usize) -> Option<usize> {
    let running = |job: &&Value| Job(job).state() == State::Running;
    (jobs.len() < cut_off_at).then(|| jobs.iter().filter(running).count())
}

fn farewell(running: Option<usize>, quiet: bool) {
    let words = match running {
        Some(0) if quiet => return,
        Some(0) => "stopped; no job was running".to_owned(),
        Some(1) => "stopped; 1 job goes on running, and the next `warrant up` finds it".to_owned(),
        Some(number) => {
            format!("stopped; {number} jobs go on running, and the next `warrant up` finds them")
        }
        None if quiet => return,
        None => {
            "stopped; jobs that were running go on, and the next `warrant up` finds them".to_owned()
        }
    };
    complain(&words);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_on_every_address_is_reached_on_the_loopback_one() {
        for (listen, url) in [
            ("0.0.0.0:5000", "http://127.0.0.1:5000"),
            ("[::]:5000", "http://[::1]:5000"),
            ("10.0.0.1:80", "http://10.0.0.1:80"),
        ] {
            assert_eq!(reachable_url(listen.parse().unwrap()), url);
        }
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
    fn running_jobs_are_counted_only_when_all_are_seen() {
        let jobs = [
            json!({"state": "RUN"}),
            json!({"state": "SCHED"}),
            json!({"state": "CLEANUP"}),
            json!({"state": "INACTIVE", "result": "COMPLETED"}),
        ];
        assert_eq!(count_running(&jobs, 5), Some(2));
        assert_eq!(count_running(&jobs, 4), None);
    }
}
