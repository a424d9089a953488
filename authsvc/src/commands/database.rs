//! Bringing the database up to date, and copying it.

use std::path::PathBuf;

use clap::Args;
use warrant_migrations::{Db, Schema};
use warrant_trail::Trail;
use warrant_upkeep::role_in;

use super::say;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::store;

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Do it with the URL in this file instead of `database.migrate_url_file`
    /// or the service's own.
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// On PostgreSQL: let this role do what the service does, and nothing else
    /// [default: the role in the service's own URL, where another one migrates]
    #[arg(long, value_name = "ROLE")]
    grant_to: Option<String>,
}

impl Migrate {
    /// Carry out the command.
    ///
    /// Errors: the role may not change the schema; a migration fails; there is
    /// no such role.
    pub(super) async fn run(self, settings: &Settings) -> Result<()> {
        let url = settings.migrate_url(self.url_file.as_deref())?;
        let db = store::open(&url).await?;
        let own = settings.database_url()?;
        let role = match (&self.grant_to, url == own) {
            (Some(role), _) => Some(role.as_str()),
            (None, true) => None,
            (None, false) => role_in(own.expose()),
        };
        let done = carry_out(&db, role).await;
        db.close().await;
        done
    }
}

async fn carry_out(db: &Db, role: Option<&str>) -> Result<()> {
    Schema::Auth.migrate(db).await?;
    store::audit::chain_old(db).await?;
    if let Some(role) = role {
        Schema::Auth.grant(db, role).await?;
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to make: for its owner alone, and never one that is there.
    file: PathBuf,
}

impl Backup {
    /// Carry out the command.
    ///
    /// Errors: the file is there already or cannot be made; the database is on
    /// PostgreSQL or did not answer.
    pub(super) async fn run(self, settings: &Settings, db: &Db) -> Result<()> {
        let url = settings.database_url()?;
        let bytes = warrant_upkeep::backup(&Trail::AUTHSVC, db, url.expose(), &self.file)
            .await
            .map_err(|error| Error::invalid(error.to_string()))?;
        say(&format!("{}: {bytes} bytes", self.file.display()))
    }
}
