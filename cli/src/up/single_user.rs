//! The server of one user, with an auth service and a broker that both run as
//! that user, and so do the jobs.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::args::Up;
use crate::client::Request;
use crate::failure::Failure;
use crate::job::{Job, State};
use crate::server::Server;
use crate::state_home::state_home;
use crate::terminal::{complain, say};
use crate::up::environment::Environment;
use crate::up::identity::{Identity, Kept};
use crate::up::service::Start;
use crate::up::services::{Ending, Services};
use crate::up::state_dir::StateDir;
use crate::up::{Files, Place, client, database, leave_directory, print, programs, serve, welcome};

/// Variables that the broker must not have: secrets that it does not need, and
/// those that would move it from where it is told to listen.
const WITHOUT: [&str; 5] = [
    "FLUX_TOKEN",
    "FLUX_SECRET_KEY",
    "FLUX_SECREY_KEY",
    "HOST",
    "PORT",
];

/// The programs of the product.
struct Programs {
    authsvc: PathBuf,
    broker: PathBuf,
    shim: PathBuf,
}

/// Run a server until it is stopped.
pub(super) fn up(options: &Up) -> Result<(), Failure> {
    let programs = Programs {
        authsvc: programs::find("warrant-authsvc")?,
        broker: programs::find("warrant-broker")?,
        shim: programs::find("warrant-shim")?,
    };
    let mut dir = StateDir::open(&state_dir(options)?)?;
    let identity = Identity::gather(|name| dir.secret(name))?;
    let written = Files::read(options, |name| dir.path(name))?;
    written
        .broker
        .refuse(&[("engine.shim", programs::INSTEAD)])?;
    written.authsvc.refuse(&[
        ("superuser.name", "set FLUX_USER"),
        (
            "superuser.password_file",
            "put the password into secrets/flux_token of the state directory, or set FLUX_TOKEN",
        ),
    ])?;
    let place = Place::of(options, &written)?;
    leave_directory()?;
    let server: Server = place.url.parse()?;
    dir.announce(&server.to_string())?;

    let mut services = Services::none(!options.quiet)?;
    let mut ready = false;
    let served = (|| {
        let socket = dir.path("run/auth.sock");
        let told = place.of_authsvc(place.tls.as_ref(), &written);
        services.start(authsvc(options, programs.authsvc, &dir, &identity, told)?)?;
        let listening = || UnixStream::connect(&socket).is_ok().then_some(());
        if services.wait_ready(listening)?.is_none() {
            return Ok(Ending::Asked);
        }
        let mut broker = vec![
            (
                "BROKER__DATABASE__URL",
                database(options, &dir.path("broker.db"))?,
            ),
            ("BROKER__AUTH__SOCKET", socket.clone().into()),
            ("BROKER__SPOOL__DIR", dir.path("spool").into()),
            ("BROKER__ENGINE__SHIM", programs.shim.into()),
        ];
        broker.extend(place.of_broker(place.tls.as_ref(), &written));
        broker.extend(cores(options));
        services.start(Start {
            name: "broker",
            program: programs.broker,
            arguments: serve(dir.path("broker.toml")),
            environment: Environment::Ours {
                with: broker,
                without: &WITHOUT,
            },
            account: None,
        })?;
        let Some(auth) = services.wait_ready(|| place.auth_info())? else {
            return Ok(Ending::Asked);
        };
        ready = true;
        if options.quiet {
            say(&server.to_string())?;
        } else {
            let server = welcome::Server::new(&server, place.tls.as_ref(), place.admin);
            let text = welcome::text(&server, dir.root(), &identity, &auth);
            print(&text)?;
        }
        services.watch()
    })();

    let running = match served {
        Ok(Ending::Asked) if ready => running_jobs(&server, &identity),
        Ok(_) | Err(_) => None,
    };
    services.stop()?;
    match served? {
        Ending::Asked => farewell(running, options.quiet),
        Ending::Stopped => complain("the server was stopped by request"),
    }
    Ok(())
}

/// How many cores jobs may use, where that was asked for.
pub(super) fn cores(options: &Up) -> Option<(&'static str, OsString)> {
    let cores = options.cores?;
    Some(("BROKER__ENGINE__CORES", cores.to_string().into()))
}

fn authsvc(
    options: &Up,
    program: PathBuf,
    dir: &StateDir,
    identity: &Identity,
    more: Vec<(&'static str, OsString)>,
) -> Result<Start, Failure> {
    // The drop-in way to hand secrets to a server of the Flux RESTful API.
    let secret = |kept: &Kept| kept.secret.reveal().into();
    let mut with = vec![
        (
            "AUTHSVC__DATABASE__URL",
            database(options, &dir.path("auth.db"))?,
        ),
        ("AUTHSVC__LISTEN__SOCKET", dir.path("run/auth.sock").into()),
        ("AUTHSVC__KEYS__DIR", dir.path("keys").into()),
        ("FLUX_USER", identity.user.clone().into()),
        ("FLUX_TOKEN", secret(&identity.password)),
        ("FLUX_SECRET_KEY", secret(&identity.secret_key)),
    ];
    with.extend(more);
    Ok(Start {
        name: "authsvc",
        program,
        arguments: serve(dir.path("authsvc.toml")),
        environment: Environment::Ours { with, without: &[] },
        account: None,
    })
}

fn state_dir(options: &Up) -> Result<PathBuf, Failure> {
    let default = || state_home().map(|home| home.join("up"));
    options
        .state_dir
        .clone()
        .or_else(default)
        .ok_or_else(|| Failure::Usage("there is no home directory: give --state-dir".to_owned()))
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
    let answer = client(server, identity.credentials())
        .answer(&request)
        .ok()?;
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
        None => welcome::FAREWELL.to_owned(),
    };
    complain(&words);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
