//! `warrant`: the command that people type. It submits jobs to a Warrant or
//! Flux RESTful server over HTTP and watches them; `warrant up` starts such a
//! server on this machine.

mod args;
mod auth;
mod callback;
mod client;
mod clock;
mod commands;
mod duration;
mod failure;
#[cfg(test)]
mod fake_server;
mod job;
mod launch;
mod limits;
mod prompt;
mod prover;
mod refusal;
#[cfg(test)]
mod scratch;
mod secret;
mod server;
mod session_file;
mod signals;
mod state_home;
mod table;
mod terminal;
mod token_file;
mod trust;
mod up;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use crate::args::{Audit, Command, CommandLine, Connection};
use crate::auth::{Credentials, Password};
use crate::client::Client;
use crate::commands::{Show, cancel, jobs, keys, login, logs, nodes, submit};
use crate::failure::Failure;
use crate::secret::Secret;
use crate::server::Server;
use crate::terminal::{Look, complain};
use crate::token_file::TokenFile;
use crate::trust::Trust;
use crate::up::tether::{Tether, become_tethered};

fn main() -> ExitCode {
    let outcome = match Tether::read(std::env::args_os()) {
        Some(tether) => Err(become_tethered(tether)),
        None => run(CommandLine::parse()),
    };
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                complain(message);
            }
            failure.exit_code().into()
        }
    }
}

/// Do what was asked; the exit code of the process.
fn run(line: CommandLine) -> Result<u8, Failure> {
    let show = Show {
        json: line.json,
        look: Look::of_stdout(),
    };
    let client = || client(&line.connection);
    match &line.command {
        Command::Submit(options) => return submit::submit(client, options, show),
        Command::Jobs(which) => jobs::jobs(&mut client()?, which, show)?,
        Command::Info { id } => jobs::info(&mut client()?, id, show)?,
        Command::Logs { follow: true, .. } if show.json => {
            return Err(Failure::Usage(
                "--follow prints the output itself, so it cannot be combined with --json"
                    .to_owned(),
            ));
        }
        Command::Logs { follow: true, id } => drop(logs::follow(client()?, id)?),
        Command::Logs { follow: false, id } => logs::logs(&mut client()?, id, show)?,
        Command::Cancel { ids } => return cancel::cancel(&mut client()?, ids, show),
        Command::Nodes => nodes::nodes(&mut client()?, show)?,
        Command::Login(options) => login::login(&mut client()?, options, show)?,
        Command::Logout => login::logout(&mut client()?, show)?,
        Command::Keys(what) => keys::keys(&mut client()?, what, show)?,
        Command::Up(options) => return up::up(options),
        Command::Audit(Audit::Verify(options)) => return Ok(up::audit::verify(options)),
        Command::Completions { shell } => completions(*shell)?,
    }
    Ok(0)
}

/// How long a request may take as a whole.
const PATIENCE: Duration = Duration::from_secs(120);

fn client(connection: &Connection) -> Result<Client, Failure> {
    let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let host = given(&connection.host);
    let token_file = TokenFile::of_user();
    // Whoever logged in somewhere means that server, and is that user there.
    let stored = token_file.as_ref().and_then(TokenFile::read);
    let server: Server = match (&host, &stored) {
        (Some(host), _) => host.parse()?,
        (None, Some(stored)) => stored.host.parse()?,
        (None, None) => server::DEFAULT.parse()?,
    };
    let user = given(&connection.user);
    let any_user = user.is_none();
    let known = stored.filter(|stored| stored.host == server.to_string());
    let user = user.or(known.map(|stored| stored.user));
    let password = match (&connection.password_file, Secret::from_env("FLUX_TOKEN")) {
        (Some(file), _) => Password::File(file.clone()),
        (None, Some(password)) => Password::Known(password),
        (None, None) => Password::Ask,
    };
    let credentials = Credentials {
        user: user.map_or_else(account, Ok)?,
        password,
        secret_key: Secret::from_env("FLUX_SECRET_KEY"),
    };
    let trust = match &connection.ca_file {
        Some(path) => Trust::default().with_ca_file(path)?,
        None => Trust::default(),
    };
    Ok(
        Client::new(server, credentials, token_file, any_user, PATIENCE)
            .trusting(trust)
            .with_key(Secret::from_env("WARRANT_API_KEY")),
    )
}

/// The name of the account that runs this process.
fn account() -> Result<String, Failure> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok()
        .flatten()
        .map(|user| user.name)
        .ok_or_else(|| Failure::Usage("your account has no name: give --user".to_owned()))
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "warrant", &mut script);
    std::io::stdout()
        .write_all(&script)
        .map_err(Failure::of_output)
}
