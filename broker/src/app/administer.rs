//! What an administrator has done to the database, by commands.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use warrant_migrations::{Db, Schema};
use warrant_trail::{AuditCommand, Trail};

use crate::config::Config;
use crate::store;

/// Bring the database at `url` up to date, and let `role` do what the service
/// does.
///
/// Errors: the role may not change the schema; a migration fails; there is no
/// such role; it is another user's SQLite file.
pub async fn migrate(url: &str, role: Option<&str>) -> anyhow::Result<()> {
    check_owner(url)?;
    let db = Db::open(url).await.context("database")?;
    let done = async {
        Schema::Broker.migrate(&db).await?;
        match role {
            Some(role) => Schema::Broker.grant(&db, role).await,
            None => Ok(()),
        }
    };
    let done = done.await;
    db.close().await;
    Ok(done?)
}

/// Carry out a command over the audit trail; the exit code of the process.
///
/// Errors: the database cannot be reached or is not up to date, or is another
/// user's SQLite file.
pub async fn audit(config: &Config, command: AuditCommand) -> anyhow::Result<u8> {
    let url = match &command {
        AuditCommand::Prune { .. } => config.migrate_url(None)?,
        AuditCommand::List { .. } | AuditCommand::Export { .. } | AuditCommand::Verify { .. } => {
            config.database_url()?
        }
    };
    let db = open(&url).await?;
    let done = command
        .run(&Trail::BROKER, &db, &mut std::io::stdout())
        .await;
    db.close().await;
    Ok(done?.exit_code())
}

/// Copy the SQLite database into `file` while the service runs; returns the
/// copy's size in bytes.
///
/// Errors: the file is there already or cannot be made; the database is on
/// PostgreSQL or did not answer.
pub async fn backup(config: &Config, file: &Path) -> anyhow::Result<u64> {
    let url = config.database_url()?;
    let db = open(&url).await?;
    let done = warrant_upkeep::backup(&Trail::BROKER, &db, &url, file).await;
    db.close().await;
    Ok(done?)
}

/// Let the next broker have the database, whichever that is.
///
/// Errors: a broker serves it; it cannot be reached.
pub async fn take_over(config: &Config) -> anyhow::Result<()> {
    let url = config.database_url()?;
    let db = open(&url).await?;
    let done = Schema::Broker.give_up(&db, &url).await;
    db.close().await;
    Ok(done?)
}

/// Never give the next `count` ids to jobs; returns the last one skipped.
///
/// Errors: the database did not answer.
pub async fn skip_ids(config: &Config, count: i64) -> anyhow::Result<i64> {
    let db = open(&config.database_url()?).await?;
    let done = store::skip_ids(&db, count).await;
    db.close().await;
    Ok(done?)
}

/// Open the database, if it is there and up to date.
async fn open(url: &str) -> anyhow::Result<Db> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        std::fs::metadata(path).context("database")?;
    }
    check_owner(url)?;
    let db = Db::open(url).await.context("database")?;
    Schema::Broker.check(&db).await?;
    Ok(db)
}

/// Next to another user's SQLite file, this one would leave files that its
/// owner cannot write.
fn check_owner(url: &str) -> anyhow::Result<()> {
    let found = url
        .strip_prefix("sqlite:")
        .and_then(|path| std::fs::metadata(path).ok());
    let own = nix::unistd::geteuid().as_raw();
    if let Some(owner) = found.map(|found| found.uid()) {
        anyhow::ensure!(
            owner == own,
            "database: the file belongs to uid {owner}, but this is uid {own}; only its owner may use it"
        );
    }
    Ok(())
}
