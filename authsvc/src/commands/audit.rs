//! Reading the audit trail.

use std::time::Duration;

use clap::Subcommand;
use warrant_migrations::Db;

use super::say;
use crate::clock;
use crate::error::{Error, Result};
use crate::store::audit::{self, Row};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Print the last rows: logins and warrants, granted and refused.
    List {
        /// Only rows of the last so many seconds, minutes, hours or days:
        /// 30s, 10m, 2h, 7d.
        #[arg(long, value_parser = ago)]
        since: Option<Duration>,
        /// Only rows of this user.
        #[arg(long)]
        user: Option<String>,
        /// One JSON object a line; times in microseconds since the Unix epoch.
        #[arg(long)]
        json: bool,
        /// The most rows.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
}

/// Errors: not a number and a unit.
fn ago(text: &str) -> Result<Duration, String> {
    let allowed = || "a number and s, m, h or d are allowed, such as 10m".to_owned();
    let unit_s = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        Some(_) | None => return Err(allowed()),
    };
    let number: u32 = text
        .get(..text.len().saturating_sub(1))
        .and_then(|number| number.parse().ok())
        .ok_or_else(allowed)?;
    Ok(Duration::from_secs(u64::from(number) * unit_s))
}

impl AuditCommand {
    /// Carry out the command.
    ///
    /// Errors: the database did not answer.
    pub(super) async fn run(self, db: &Db) -> Result<()> {
        let Self::List {
            since,
            user,
            json,
            limit,
        } = self;
        let ago_us = since.map(|ago| i64::try_from(ago.as_micros()).unwrap_or(i64::MAX));
        let since_us = ago_us.map_or(i64::MIN, |ago_us| clock::now_us().saturating_sub(ago_us));
        let mut conn = db.read().await?;
        for row in audit::list(&mut conn, since_us, user.as_deref(), limit.into()).await? {
            say(&if json { as_json(&row)? } else { as_line(&row) })?;
        }
        Ok(())
    }
}

fn as_json(row: &Row) -> Result<String> {
    serde_json::to_string(row)
        .map_err(|source| Error::unavailable("a row cannot be written down", source))
}

fn as_line(row: &Row) -> String {
    let absent = || "-".to_owned();
    let mut line = format!(
        "{} {:<10} {:<7} {:<16} {} from {}",
        clock::utc(row.time_us),
        row.kind,
        row.outcome,
        row.reason.clone().unwrap_or_else(absent),
        row.subject.clone().unwrap_or_else(absent),
        row.source,
    );
    let details = [
        ("uid", row.uid.map(|uid| uid.to_string())),
        ("audience", row.audience.clone()),
        ("jti", row.jti.clone()),
        ("job_sha256", row.job_sha256.clone()),
    ];
    for (name, value) in details {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ago_is_a_number_and_a_unit() {
        let seconds = |text| ago(text).map(|ago| ago.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("7d"), Ok(604_800));
        for text in ["", "s", "7", "-7d", "7 d", "7é", "1.5h"] {
            assert!(ago(text).is_err(), "{text}");
        }
    }
}
