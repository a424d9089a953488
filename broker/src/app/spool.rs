//! Bringing the job store and the spool together: each knows the other, and
//! no id that was used in the spool is given again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use warrant_migrations::Db;

use crate::config::{Config, Mode};
use crate::engine::local::{Bond, Local, OurStore, Spool, StoreId};
use crate::store::{self, Store};

/// How long to wait for the shim before the first request is heard.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// The store `db` as it is named to the shim, by the broker called `host`.
///
/// Errors: the database did not answer, or holds no identity.
pub(super) async fn our_store(db: &Db, host: &str) -> anyhow::Result<OurStore> {
    let store::Identity { id, has_jobs } = store::identity(db, host).await?;
    let id = StoreId::parse(&id).context("database: the identity in job_store is malformed")?;
    Ok(OurStore {
        id,
        adopts: has_jobs,
    })
}

/// A spool that is about to be used with a store.
pub(super) struct Joining {
    pub(super) engine: Arc<Local>,
    pub(super) store: Store,
    pub(super) id: StoreId,
    /// What an error tells to do.
    pub(super) advice: String,
}

impl Joining {
    /// Wait for what the spool says, and bring ids beyond those that were used
    /// there. A shim that is away holds up jobs alone: none is accepted before
    /// it has answered.
    ///
    /// Errors: the spool belongs to another store; the store did not answer; a
    /// shim of our own does not answer.
    pub(super) async fn begin(&self, config: &Config) -> anyhow::Result<()> {
        let mut spool = self.engine.spool();
        let answered = tokio::time::timeout(FIRST_ANSWER, spool.wait_for(Option::is_some));
        let answered = answered.await.map(|said| said.ok().and_then(|said| *said));
        match (answered, config.mode) {
            (Ok(said), _) => self.settle(said).await,
            (Err(_), Mode::MultiUser) => {
                tracing::warn!("the shim does not answer: no job is accepted until it does");
                Ok(())
            }
            (Err(_), Mode::SingleUser) => {
                anyhow::bail!("engine.shim: the shim does not answer")
            }
        }
    }

    /// Do the same each time that the shim is connected to; returns why the
    /// process must end.
    pub(super) async fn follow(self) -> anyhow::Error {
        let mut spool = self.engine.spool();
        loop {
            let said = *spool.borrow_and_update();
            if let Err(error) = self.settle(said).await {
                return error;
            }
            if spool.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn settle(&self, said: Option<Spool>) -> anyhow::Result<()> {
        let Some(Spool { bond, highest_job }) = said else {
            return Ok(());
        };
        let (id, advice) = (self.id, &self.advice);
        match bond {
            Bond::Ours => {}
            Bond::Unclaimed => anyhow::bail!(
                "the spool holds jobs of a broker whose name is in no job of this store ({id}): \
                 it belongs to another database. {advice}"
            ),
            Bond::Foreign(other) => anyhow::bail!(
                "the spool belongs to another job store ({other}; this one is {id}): the numbers \
                 of its jobs mean other jobs here. {advice}"
            ),
        }
        // Job numbers have 63 bits, here as there.
        let highest = i64::try_from(highest_job).unwrap_or(i64::MAX);
        let mut pause = Duration::from_millis(100);
        // A shim that is back while the database is away is no reason to end.
        while let Err(error) = self.store.go_beyond(highest).await {
            tracing::warn!(%error, "ids are not beyond those of the spool yet; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        self.engine.settle();
        Ok(())
    }
}

/// The store that a spool names as its own, where that can be read.
pub(super) fn named_store(spool: &Path) -> Option<String> {
    let text = std::fs::read_to_string(spool.join("store")).ok()?;
    let named = text.lines().find_map(|line| line.strip_prefix("store "))?;
    StoreId::parse(named).map(|id| id.to_string())
}

/// What to do about a spool that is not of the store.
pub(super) fn advice(config: &Config) -> String {
    let (other, forget) = match config.mode {
        Mode::SingleUser => (
            format!(
                "a spool of its own (spool.dir, now {})",
                config.spool.dir.display()
            ),
            format!(
                "`warrant-shim forget-store --spool {}`",
                config.spool.dir.display()
            ),
        ),
        Mode::MultiUser => (
            "a shim with a spool and state of its own".to_owned(),
            "as root, with the shim stopped, `warrant-shim forget-store --policy \
             /etc/warrant/shim.toml`"
                .to_owned(),
        ),
    };
    format!(
        "Go back to the database that belongs to it (database.url), or to a backup of that one; \
         or give this one {other}. To keep the spool and do without its jobs: {forget}, then \
         start again"
    )
}
