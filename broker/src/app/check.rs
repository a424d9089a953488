//! `check-config`: everything that can be seen of the configuration without
//! serving. What is written to see that it can be is taken back, and no secret
//! is printed.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use warrant_door::tls::Tls;
use warrant_migrations::{Db, Schema};
use warrant_trail::Trail;
use warrant_upkeep::{
    CheckConfig, Findings, check_clock, check_database, check_directory_writable, check_public_url,
    has_password,
};

use super::spool;
use crate::config::{Config, Listen, Mode};
use crate::store;

/// Look at everything, and tell what was found; the exit code.
///
/// Errors: nobody reads it.
pub async fn check(config: anyhow::Result<Config>, options: CheckConfig) -> anyhow::Result<u8> {
    let mut findings = Findings::default();
    let what = match &config {
        Ok(config) => {
            look(config, &mut findings).await;
            let mode = match config.mode {
                Mode::SingleUser => "single-user",
                Mode::MultiUser => "multi-user",
            };
            format!("{mode}, listening on {}", config.listen.http)
        }
        // The configuration cannot even be read: there is nothing else to see.
        Err(error) => {
            findings.error("configuration", format!("{error:#}"));
            "nothing".to_owned()
        }
    };
    Ok(findings.tell(options, &what, &mut std::io::stdout())?)
}

async fn look(config: &Config, findings: &mut Findings) {
    if !config.auth.required {
        findings.warning(
            "auth.required",
            "false: whoever can connect may run anything as the broker's account",
        );
    }
    let loopback = config.listen.http.ip().is_loopback();
    let tls = config.listen.tls.files();
    let plain = tls.is_none();
    if let Some(Err(error)) = tls.map(Tls::open) {
        findings.error("listen.tls", error.to_string());
    }
    match &config.listen.public_url {
        Some(url) => check_public_url("listen.public_url", url, findings),
        None if plain && !loopback => findings.warning(
            "listen.http",
            "plain HTTP beyond this machine: passwords and tokens can be read on the way; put a \
             proxy that speaks TLS before it, and name its address as listen.public_url",
        ),
        None => {}
    }
    if config.listen.proxies != Listen::default().proxies
        && let Ok(proxies) = config.listen.trusted()
    {
        for name in proxies.missing() {
            findings.warning("listen.proxies", format!("there is no account {name:?}"));
        }
    }
    if std::env::var_os("PGPASSWORD").is_some_and(|value| !value.is_empty()) {
        findings.warning(
            "PGPASSWORD",
            "a secret in the environment: put the URL into a file, and name that as database.url_file",
        );
    }
    if config.database.url_file.is_none() && has_password(&config.database.url) {
        findings.warning(
            "database.url",
            "a password in the environment: put the URL into a file, and name that as database.url_file",
        );
    }
    socket("auth.socket", &config.auth.socket, findings);
    private("spool.dir", &config.spool.dir, findings);
    match config.mode {
        Mode::SingleUser => program("engine.shim", &config.engine.shim, findings),
        Mode::MultiUser => {
            socket("shim.socket", &config.shim.socket, findings);
            if let Err(error) = std::fs::read_dir(&config.shim.spool) {
                findings.error(
                    "shim.spool",
                    format!("{}: {error}", config.shim.spool.display()),
                );
            }
        }
    }
    let db = match config.database_url() {
        Ok(url) => {
            let db = check_database(Schema::Broker, &url, findings).await;
            if let Some(db) = &db {
                whose(config, &url, db, findings).await;
            }
            db
        }
        Err(error) => {
            findings.error("database.url_file", format!("{error:#}"));
            None
        }
    };
    check_clock(&Trail::BROKER, db.as_ref(), findings).await;
    if let Some(db) = db {
        db.close().await;
    }
}

/// Whose the database and the spool are: a start refuses those of others.
async fn whose(config: &Config, url: &str, db: &Db, findings: &mut Findings) {
    let holder = super::known_holder(&config.spool.dir);
    if let Err(error) = Schema::Broker.check_holder(db, url, &holder).await {
        findings.error("database.url", error.to_string());
    }
    let (key, spool) = match config.mode {
        Mode::SingleUser => ("spool.dir", &config.spool.dir),
        Mode::MultiUser => ("shim.spool", &config.shim.spool),
    };
    match store::identity(db, &holder.name).await {
        Ok(ours) => {
            if let Some(other) = spool::named_store(spool).filter(|id| *id != ours.id) {
                let advice = spool::advice(config);
                findings.error(
                    key,
                    format!(
                        "it belongs to another job store ({other}; this one is {}). {advice}",
                        ours.id
                    ),
                );
            }
        }
        Err(error) => findings.error("database.url", error.to_string()),
    }
}

/// A socket that another service makes: it may come later.
fn socket(key: &str, path: &Path, findings: &mut Findings) {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => findings.error(key, format!("{} is no socket", path.display())),
        Err(error) => findings.warning(key, format!("{}: {error}", path.display())),
    }
}

/// A directory of the broker's own; the first start makes it.
fn private(key: &str, path: &Path, findings: &mut Findings) {
    let Ok(found) = std::fs::metadata(path) else {
        return;
    };
    let own = nix::unistd::geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    if !found.is_dir() || found.uid() != own || mode & 0o022 != 0 {
        findings.error(
            key,
            format!(
                "{} must be a directory of uid {own} that nobody else writes to, not one of uid {} with mode {mode:04o}",
                path.display(),
                found.uid()
            ),
        );
        return;
    }
    findings.writable(key, check_directory_writable(path));
}

fn program(key: &str, path: &Path, findings: &mut Findings) {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {}
        Ok(_) => findings.error(key, format!("{} is no program", path.display())),
        Err(error) => findings.error(key, format!("{}: {error}", path.display())),
    }
}
