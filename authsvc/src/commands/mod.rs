//! The commands of `warrant-authsvc`.

mod account;
mod check;
mod client;
mod database;
mod key;
mod keys;
mod password;
pub(crate) mod serve;
mod session;
pub(crate) mod user;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use warrant_migrations::{Db, ROLES, Schema};
use warrant_trail::{AuditCommand, Trail};
use warrant_upkeep::CheckConfig;

use crate::config::{Config, Environment, Settings};
use crate::error::Result;
use crate::secret::Secret;
use crate::store;

/// Users, passwords and access tokens of Warrant.
#[derive(Debug, Parser)]
#[command(name = "warrant-authsvc", version)]
pub(crate) struct Cli {
    /// The configuration file; it may be absent.
    #[arg(long, global = true, default_value = "/etc/warrant/authsvc.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer requests until told to stop.
    Serve {
        /// Bring the database up to date first.
        #[arg(long)]
        migrate: bool,
    },
    /// Bring the database up to date.
    Migrate(database::Migrate),
    /// Check the configuration and all that can be seen of what it names: one
    /// line for each finding. Exits with 0 where it can be used, 2 where it
    /// cannot, and 1 where there are warnings and `--strict` is given.
    CheckConfig(CheckConfig),
    /// Copy the SQLite database into a new file while the service runs.
    Backup(database::Backup),
    /// Print the SQL, for psql, that makes a database on PostgreSQL and the
    /// roles of its owner and of both services.
    DatabaseRoles,
    /// Add, change and list users.
    #[command(subcommand)]
    User(user::UserCommand),
    /// List and end sessions.
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// End what an account has: sessions, tokens, jobs that have not started.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Add, change and list the programs that may ask for tokens.
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Rotate and list the signing keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// List and revoke API keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Let this service have a database that belongs to another one, which is
    /// gone for good.
    TakeOver,
    /// Read, check and prune the audit trail.
    #[command(subcommand)]
    Audit(AuditCommand),
}

impl Cli {
    /// The exit code of the process where the command cannot be carried out.
    pub(crate) fn failure_code(&self) -> u8 {
        match &self.command {
            Command::Audit(command) => command.failure_code(),
            Command::CheckConfig(_) => 2,
            Command::Serve { .. }
            | Command::Migrate(_)
            | Command::Backup(_)
            | Command::DatabaseRoles
            | Command::Account(_)
            | Command::User(_)
            | Command::Session(_)
            | Command::Client(_)
            | Command::Keys(_)
            | Command::Key(_)
            | Command::TakeOver => 1,
        }
    }

    /// Carry out the command; the exit code of the process.
    ///
    /// Errors: for the operator; they name what was wrong.
    pub(crate) async fn run(self) -> Result<u8> {
        let serves = matches!(
            self.command,
            Command::Serve { .. } | Command::CheckConfig(_)
        );
        let read = || {
            let config = Config::load(&self.config)?;
            let text = |(name, value): (OsString, OsString)| {
                Some((name.into_string().ok()?, value.into_string().ok()?))
            };
            let environment = Environment::read(std::env::vars_os().filter_map(text));
            if serves {
                Settings::resolve(config, environment)
            } else {
                Settings::for_command(config, environment)
            }
        };
        if let Command::CheckConfig(options) = self.command {
            return check::run(read(), options).await;
        }
        if matches!(self.command, Command::DatabaseRoles) {
            ROLES.lines().try_for_each(say)?;
            return Ok(0);
        }
        let settings = read()?;
        match self.command {
            Command::CheckConfig(_) | Command::DatabaseRoles => {}
            Command::Serve { migrate } => serve::serve(settings, migrate).await?,
            Command::Migrate(command) => command.run(&settings).await?,
            Command::Backup(command) => {
                let db = open_current(&settings).await?;
                let done = command.run(&settings, &db).await;
                db.close().await;
                done?;
            }
            Command::Account(command) => {
                let db = open_current(&settings).await?;
                let done = command.run(&db).await;
                db.close().await;
                done?;
            }
            Command::User(command) => {
                let db = open_current(&settings).await?;
                let done = command.run(&settings, &db).await;
                db.close().await;
                done?;
            }
            Command::Session(command) => {
                let db = open_current(&settings).await?;
                let done = command.run(&db).await;
                db.close().await;
                done?;
            }
            Command::Client(command) => {
                let db = open_current(&settings).await?;
                let done = command.run(&db).await;
                db.close().await;
                done?;
            }
            Command::Keys(command) => command.run(&settings).await?,
            Command::TakeOver => {
                let url = settings.database_url()?;
                let db = open_at(&url).await?;
                let done = Schema::Auth.give_up(&db, url.expose()).await;
                db.close().await;
                done?;
                say("the database belongs to the next auth service that is started")?;
            }
            Command::Key(command) => {
                let db = open_current(&settings).await?;
                let done = command.run(&db).await;
                db.close().await;
                done?;
            }
            Command::Audit(command) => {
                let url = match &command {
                    AuditCommand::Prune { .. } => settings.migrate_url(None)?,
                    AuditCommand::List { .. }
                    | AuditCommand::Export { .. }
                    | AuditCommand::Verify { .. } => settings.database_url()?,
                };
                let db = open_at(&url).await?;
                let done = command
                    .run(&Trail::AUTHSVC, &db, &mut std::io::stdout())
                    .await;
                db.close().await;
                return Ok(done?.exit_code());
            }
        }
        Ok(0)
    }
}

/// Open the database, if it is up to date.
async fn open_current(settings: &Settings) -> Result<Db> {
    open_at(&settings.database_url()?).await
}

async fn open_at(url: &Secret) -> Result<Db> {
    let db = store::open(url).await?;
    Schema::Auth.check(&db).await?;
    store::audit::chain_old(&db).await?;
    Ok(db)
}

/// Print a line. Names may hold control characters, which a terminal would
/// obey: they are escaped as JSON escapes them.
///
/// Errors: nobody reads any longer.
fn say(line: &str) -> Result<()> {
    let plain = |c: char| match c {
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    let line: String = line.chars().map(plain).collect();
    writeln!(std::io::stdout(), "{line}")
        .map_err(|source| crate::error::Error::unavailable("cannot write the answer", source))
}
