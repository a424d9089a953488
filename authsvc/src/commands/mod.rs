//! The commands of `warrant-authsvc`.

mod client;
mod key;
mod keys;
mod password;
pub(crate) mod serve;
mod session;
pub(crate) mod user;

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use warrant_migrations::{Db, Schema};
use warrant_trail::{AuditCommand, Outcome, Trail};

use crate::config::{Config, Environment, Settings};
use crate::error::Result;
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
    Migrate,
    /// Check the configuration and the files it names.
    CheckConfig,
    /// Add, change and list users.
    #[command(subcommand)]
    User(user::UserCommand),
    /// List and end sessions.
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Add, change and list the programs that may ask for tokens.
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Rotate and list the signing keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// List and revoke API keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Read, check and prune the audit trail.
    #[command(subcommand)]
    Audit(AuditCommand),
}

impl Cli {
    /// The exit code of the process where the command cannot be carried out.
    pub(crate) fn failure_code(&self) -> u8 {
        match &self.command {
            Command::Audit(command) => command.failure_code(),
            Command::Serve { .. }
            | Command::Migrate
            | Command::CheckConfig
            | Command::User(_)
            | Command::Session(_)
            | Command::Client(_)
            | Command::Keys(_)
            | Command::Key(_) => 1,
        }
    }

    /// Carry out the command; how it ended.
    ///
    /// Errors: for the operator; they name what was wrong.
    pub(crate) async fn run(self) -> Result<Outcome> {
        let config = Config::load(&self.config)?;
        let environment = Environment::read(|name| std::env::var(name).ok());
        let settings = Settings::resolve(config, environment)?;
        match self.command {
            Command::Serve { migrate } => serve::serve(settings, migrate).await?,
            Command::Migrate => {
                let db = store::open(&settings.database_url).await?;
                Schema::Auth.migrate(&db).await?;
                store::audit::chain_old(&db).await?;
                db.close().await;
            }
            Command::CheckConfig => check_config(&settings)?,
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
            Command::Key(command) => {
                let db = open_current(&settings).await?;
                let done = command.run(&db).await;
                db.close().await;
                done?;
            }
            Command::Audit(command) => {
                let db = open_current(&settings).await?;
                let done = command
                    .run(&Trail::AUTHSVC, &db, &mut std::io::stdout())
                    .await;
                db.close().await;
                return Ok(done?);
            }
        }
        Ok(Outcome::Done)
    }
}

/// Open the database, if it is up to date.
async fn open_current(settings: &Settings) -> Result<Db> {
    let db = store::open(&settings.database_url).await?;
    Schema::Auth.check(&db).await?;
    store::audit::chain_old(&db).await?;
    Ok(db)
}

fn check_config(settings: &Settings) -> Result<()> {
    let listen = &settings.config.listen;
    let tcp = listen
        .tcp
        .map(|tcp| format!(" and {tcp}"))
        .unwrap_or_default();
    say(&format!(
        "The configuration is good: {}, backend {}, token handshake {}, listening on {}{tcp}.",
        settings.config.mode.name(),
        settings.backends.names(),
        if settings.handshake_secret().is_some() {
            "on"
        } else {
            "off"
        },
        listen.socket.display(),
    ))
}

/// Print a line.
///
/// Errors: nobody reads any longer.
fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}")
        .map_err(|source| crate::error::Error::unavailable("cannot write the answer", source))
}
