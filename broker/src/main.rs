//! The broker's command line.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use warrant_broker::config::Config;
use warrant_broker::{app, http};
use warrant_trail::AuditCommand;
use warrant_upkeep::{CheckConfig, role_in};

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
    Migrate {
        /// Do it with the URL in this file instead of
        /// `database.migrate_url_file` or the service's own.
        #[arg(long, value_name = "FILE")]
        url_file: Option<PathBuf>,
        /// On PostgreSQL: let this role do what the service does, and nothing
        /// else [default: the role in the service's own URL, where another one
        /// migrates]
        #[arg(long, value_name = "ROLE")]
        grant_to: Option<String>,
    },
    /// Check the configuration and all that can be seen of what it names: one
    /// line for each finding. Exits with 0 where it can be used, 2 where it
    /// cannot, and 1 where there are warnings and `--strict` is given.
    CheckConfig(CheckConfig),
    /// Copy the SQLite database into a new file while the service runs.
    Backup {
        /// The file to make: for its owner alone, and never one that is there.
        file: PathBuf,
    },
    /// Give no job any of the next ids. A broker that starts does so by itself
    /// with those that were used in its spool; this is for those that are known
    /// from elsewhere.
    SkipIds {
        /// How many; rounded up to a multiple of 64.
        #[arg(default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
        count: i64,
    },
    /// Let this broker have a database that belongs to another one, which is
    /// gone for good. What runs there on its record is looked for here, and
    /// lost if it is not found.
    TakeOver,
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
        Role::CheckConfig(_) => 2,
        Role::Serve { .. }
        | Role::Migrate { .. }
        | Role::Backup { .. }
        | Role::SkipIds { .. }
        | Role::TakeOver
        | Role::Routes
        | Role::Openapi { .. } => 1,
    };
    match run(arguments) {
        Ok(code) => code.into(),
        Err(error) => {
            tracing::error!("{error:#}");
            failure.into()
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(warrant_door::workers())
        .enable_all()
        .max_blocking_threads(64)
        .build()?;
    let config = Config::load(&arguments.config);
    if let Role::CheckConfig(options) = arguments.role {
        return runtime.block_on(app::check(config, options));
    }
    let config = config?;
    match arguments.role {
        Role::CheckConfig(_) => {}
        Role::Serve { migrate } => runtime.block_on(app::serve(config, migrate))?,
        Role::Migrate { url_file, grant_to } => {
            let (url, own) = (
                config.migrate_url(url_file.as_deref())?,
                config.database_url()?,
            );
            let role = match (&grant_to, url == own) {
                (Some(role), _) => Some(role.as_str()),
                (None, true) => None,
                (None, false) => role_in(&own),
            };
            runtime.block_on(app::migrate(&url, role))?;
        }
        Role::Audit(command) => return runtime.block_on(app::audit(&config, command)),
        Role::Backup { file } => {
            let bytes = runtime.block_on(app::backup(&config, &file))?;
            println!("{}: {bytes} bytes", file.display());
        }
        Role::SkipIds { count } => {
            let next = runtime.block_on(app::skip_ids(&config, count))?;
            println!("the next id is above {next}");
        }
        Role::TakeOver => {
            runtime.block_on(app::take_over(&config))?;
            println!("the database belongs to the next broker that is started");
        }
        Role::Routes => {
            for route in http::access::listed() {
                println!("{}", route.join(" "));
            }
        }
        Role::Openapi { .. } => {
            println!("{}", http::document().to_pretty_json()?);
        }
    }
    Ok(0)
}
