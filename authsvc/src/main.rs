//! The auth service of Warrant: it alone holds the users, the hashes of their
//! passwords and the keys that sign access tokens and warrants.

#![forbid(unsafe_code)]

mod accounts;
mod api_keys;
mod audit;
mod certificates;
mod clock;
mod commands;
mod config;
mod directory;
mod dpop;
mod error;
mod handshake;
mod http;
mod keys;
mod lasting;
mod login;
mod oauth;
mod oidc;
mod opaque;
mod passwords;
mod peer;
mod prune;
mod rate;
mod secret;
mod sessions;
mod source;
mod store;
mod throttle;
mod token;
mod user_name;
mod warrants;
mod web;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// How long the end of the program waits for a look-up of an account that
/// hangs.
const FAREWELL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    let failure = cli.failure_code();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("AUTHSVC_LOG")
                .unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    // Databases, keys and sockets are made for this user alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    match run(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            // Nobody can be told that standard error is closed.
            let _ = writeln!(std::io::stderr(), "Error: {error:?}");
            failure.into()
        }
    }
}

fn run(cli: commands::Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(warrant_door::workers())
        .enable_all()
        .build()?;
    let done = runtime.block_on(cli.run());
    runtime.shutdown_timeout(FAREWELL);
    Ok(done?)
}
