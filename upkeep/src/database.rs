//! What can be said of a database and of the clock without serving.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;
use warrant_migrations::{Db, Schema, Standing};
use warrant_trail::{Filter, Trail, now_us, utc};

use crate::{Findings, check_database_writable};

/// Before this program was written: 2026-01-01, in microseconds.
const EARLIEST_US: i64 = 1_767_225_600_000_000;
/// What a clock may be off, in microseconds.
const SKEW_US: i64 = 60_000_000;

/// Look at the database of `url`: that it is there, its owner and mode, that it
/// is up to date, what its role may do, and that it takes what is written, which
/// is taken back. Returns it open, where it can be used.
pub async fn check_database(schema: Schema, url: &str, findings: &mut Findings) -> Option<Db> {
    const KEY: &str = "database.url";
    if let Some(path) = url.strip_prefix("sqlite:")
        && !check_file(Path::new(path), schema, findings)
    {
        return None;
    }
    let db = match Db::open(url).await {
        Ok(db) => db,
        Err(error) => {
            findings.error(KEY, format!("the database cannot be opened: {error}"));
            return None;
        }
    };
    if let Err(error) = schema.check(&db).await {
        findings.error(KEY, error.to_string());
        db.close().await;
        return None;
    }
    match schema.standing(&db).await {
        Ok(Standing {
            role,
            lacking,
            excess,
        }) => {
            if !lacking.is_empty() {
                let service = schema.service();
                let lacking = lacking.join(", ");
                findings.error(
                    KEY,
                    format!("the role {role} lacks: {lacking}; run `{service} migrate --grant-to {role}` with the owner's URL"),
                );
            }
            if !excess.is_empty() {
                let excess = excess.join(", ");
                findings.warning(
                    KEY,
                    format!("the role {role} may do more than the service needs: {excess}; see `warrant-authsvc database-roles`"),
                );
            }
        }
        Err(error) => findings.error(KEY, format!("what the role may do cannot be seen: {error}")),
    }
    findings.writable(KEY, check_database_writable(schema, &db, url).await);
    Some(db)
}

/// Look at a file of SQLite; whether it can be opened without leaving files
/// that its owner cannot write.
fn check_file(path: &Path, schema: Schema, findings: &mut Findings) -> bool {
    const KEY: &str = "database.url";
    let service = schema.service();
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) => {
            findings.error(
                KEY,
                format!("{}: {error}; `{service} migrate` makes it", path.display()),
            );
            return false;
        }
    };
    let (own, owner) = (geteuid().as_raw(), found.uid());
    if owner != own {
        findings.error(
            KEY,
            format!(
                "{} belongs to uid {owner}, but this is uid {own}; only its owner may use it",
                path.display()
            ),
        );
        return false;
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        findings.error(
            KEY,
            format!("{} has mode {mode:04o}; allowed is 0600", path.display()),
        );
    }
    let parent = path.parent().filter(|parent| parent.as_os_str() != "");
    if let Some(parent) = parent
        && let Ok(found) = std::fs::metadata(parent)
        && found.mode() & 0o022 != 0
        && found.mode() & 0o1000 == 0
    {
        findings.error(
            KEY,
            format!(
                "{} has mode {:04o}: others could put another database there",
                parent.display(),
                found.mode() & 0o7777
            ),
        );
    }
    true
}

/// See that the clock can be right: it is not before this program, nor before
/// the last row of the audit trail in `db`, nor far from PostgreSQL's clock.
pub async fn check_clock(trail: &Trail, db: Option<&Db>, findings: &mut Findings) {
    const KEY: &str = "clock";
    let now = now_us();
    if now < EARLIEST_US {
        findings.error(KEY, format!("it is {}, which cannot be", utc(now)));
    }
    let Some(db) = db else { return };
    if let Ok(mut conn) = db.read().await
        && let Ok(rows) = trail.last(&mut conn, &Filter::default(), 1).await
        && let Some(last) = rows.last()
        && last.row.time_us.saturating_sub(now) > SKEW_US
    {
        findings.error(
            KEY,
            format!(
                "it is {}, and the last row of the audit trail is of {}: the clock went back",
                utc(now),
                utc(last.row.time_us)
            ),
        );
    }
    if let Db::Postgres { readers, .. } = db {
        const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let theirs: Result<i64, _> = sqlx::query_scalar(NOW).fetch_one(readers).await;
        if let Ok(theirs) = theirs
            && theirs.saturating_sub(now_us()).abs() > SKEW_US
        {
            findings.warning(
                KEY,
                format!(
                    "it is {} here and {} at the database",
                    utc(now),
                    utc(theirs)
                ),
            );
        }
    }
}
