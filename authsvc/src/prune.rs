//! What is done beside the requests: forgetting what is over, a little at a
//! time, and looking again at roles that came from groups.

use std::sync::Arc;
use std::time::Duration;

use warrant_migrations::{Db, Result};

use crate::clock;
use crate::error;
use crate::sessions::Sessions;
use crate::store::expired::{self, Kept};
use crate::store::sessions;

/// How often that is done.
const EVERY: Duration = Duration::from_secs(60);
/// The rest between two steps, so that logins come in between.
const REST: Duration = Duration::from_millis(50);
/// The most rows of one step.
const STEP: i64 = 500;
/// How long what was used up or revoked is remembered after it is over: a
/// clock that was ahead and is set right must bring nothing back.
const MARGIN_US: i64 = 86_400_000_000;
/// The same, of proofs of possession: a clock that is further ahead takes none of
/// those whose clock is right.
const PROOFS_US: i64 = 120_000_000;
/// How long a code that was used is remembered: as long as anybody can be
/// expected to try it again.
const CODES_US: i64 = 86_400_000_000;
/// How long a device is told that its codes expired.
const DEVICES_US: i64 = 600_000_000;
/// How long each is kept after it is over.
const MARGINS: [(Kept, i64); 8] = [
    (Kept::Payloads, MARGIN_US),
    (Kept::Proofs, PROOFS_US),
    (Kept::IdTokens, MARGIN_US),
    (Kept::SignIns, 0),
    (Kept::Sessions, 0),
    (Kept::Codes, CODES_US),
    (Kept::Devices, DEVICES_US),
    (Kept::Revocations, MARGIN_US),
];
/// How often groups are looked at again.
const GROUPS_EVERY: Duration = Duration::from_secs(10);

/// Forget what is over, until the database is closed.
pub(crate) async fn prune(db: Db) {
    loop {
        if let Err(error) = prune_once(&db, clock::now_us()).await {
            tracing::warn!(%error, "what is over could not be forgotten");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Forget what was over at `now_us`, some of it a day later, each step a transaction of its own.
///
/// Errors: the database did not answer.
pub(crate) async fn prune_once(db: &Db, now_us: i64) -> Result<()> {
    loop {
        let mut tx = db.begin().await?;
        let mut more = false;
        for (kept, margin_us) in MARGINS {
            let before_us = now_us.saturating_sub(margin_us);
            more |= expired::forget(&mut tx, kept, before_us, STEP).await? == STEP as u64;
        }
        tx.commit().await?;
        if !more {
            return Ok(());
        }
        tokio::time::sleep(REST).await;
    }
}

/// End the sessions whose user has left the group that gave the role, within
/// seconds and without being asked.
pub(crate) async fn end_left_groups(all: Arc<Sessions>) {
    if !all.directory.roles.has_groups() {
        return;
    }
    loop {
        tokio::time::sleep(GROUPS_EVERY).await;
        if let Err(error) = look_at_groups(&all).await {
            tracing::warn!(%error, cause = ?error.source, "groups could not be looked at");
        }
    }
}

/// As [`end_left_groups`], once.
///
/// Errors: the database or the name service did not answer.
pub(crate) async fn look_at_groups(all: &Sessions) -> error::Result<()> {
    let mut after = String::new();
    loop {
        let mut conn = all.db.read().await?;
        let now_us = clock::now_us();
        let step = sessions::list_by_group(&mut conn, &after, now_us, STEP).await?;
        drop(conn);
        let Some(last) = step.last() else {
            return Ok(());
        };
        after.clone_from(&last.id);
        for session in &step {
            all.keeps_role(session).await?;
        }
    }
}
