//! The broker's command line.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use warrant_broker::config::Config;
use warrant_broker::{app, http};
use warrant_migrations::{Db, Schema};
use warrant_trail::{AuditCommand, Outcome};

/// The job broker of Warrant.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file; it need not exist.
    #[arg(long, global = true, default_value = "/etc/warrant/broker.toml")]
    config: PathBuf,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serve until stopped.
    Serve {
        /// Bring the database up to date first.
        #[arg(long)]
        migrate: bool,
    },
    /// Bring the database up to date, and end.
    Migrate,
    /// Read the configuration, and say whether it can be used.
    CheckConfig,
    /// Read, check and prune the audit trail.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print who may use which route: method, path, scope of the token, least
    /// role.
    Routes,
    /// Print the OpenAPI document of a dialect.
    Openapi {
        /// Which.
        #[arg(value_parser = ["flux"])]
        dialect: String,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("WARRANT_LOG")
                .unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let arguments = Arguments::parse();
    let failure = match &arguments.role {
        Role::Audit(command) => command.failure_code(),
        Role::Serve { .. }
        | Role::Migrate
        | Role::CheckConfig
        | Role::Routes
        | Role::Openapi { .. } => 1,
    };
    match run(arguments) {
        Ok(outcome) => outcome.exit_code().into(),
        Err(error) => {
            tracing::error!("{error:#}");
            failure.into()
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let config = Config::load(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(64)
        .build()?;
    match arguments.role {
        Role::Serve { migrate } => runtime.block_on(app::serve(config, migrate))?,
        Role::Migrate => runtime.block_on(async {
            let db = Db::open(&config.database_url()?).await?;
            Schema::Broker.migrate(&db).await?;
            db.close().await;
            anyhow::Ok(())
        })?,
        Role::Audit(command) => return runtime.block_on(app::audit(&config, command)),
        Role::CheckConfig => {
            println!("the configuration can be used");
        }
        Role::Routes => {
            for route in http::access::listed() {
                println!("{}", route.join(" "));
            }
        }
        Role::Openapi { .. } => {
            println!("{}", http::flux::document().to_pretty_json()?);
        }
    }
    Ok(Outcome::Done)
}
