//! The broker's command line.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use warrant_broker::config::Config;
use warrant_broker::{app, http};
use warrant_migrations::{Db, Schema};

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
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(64)
        .build()?;
    match arguments.role {
        Role::Serve { migrate } => runtime.block_on(app::serve(config, migrate)),
        Role::Migrate => runtime.block_on(async {
            let db = Db::open(&config.database_url()?).await?;
            Schema::Broker.migrate(&db).await?;
            db.close().await;
            Ok(())
        }),
        Role::CheckConfig => {
            println!("the configuration can be used");
            Ok(())
        }
        Role::Openapi { .. } => {
            println!("{}", http::flux::document().to_pretty_json()?);
            Ok(())
        }
    }
}
