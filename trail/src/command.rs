//! The commands over a trail, which both services have.

use std::io::Write;

use clap::{Args, Subcommand};
use warrant_audit::{Hash, Head};
use warrant_migrations::Db;

use crate::read::Filter;
use crate::when::{moment, utc};
use crate::{Result, Stored, Trail, Verified, operator};

/// Rows read at a time.
const PAGE: i64 = 1000;

/// What to do with the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print the last rows.
    List {
        /// Which rows.
        #[command(flatten)]
        which: Which,
        /// One JSON object a line; times in microseconds since the Unix epoch.
        #[arg(long)]
        json: bool,
        /// The most rows.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// Print all rows with their numbers and hashes, one JSON object a line.
    Export {
        /// Which rows.
        #[command(flatten)]
        which: Which,
    },
    /// See that no row was changed, added between or taken away. Exits with 0
    /// where the trail holds, 1 where it does not, 2 where it cannot be read.
    Verify {
        /// A hash that an earlier `verify` printed and that was kept elsewhere.
        #[arg(long, value_name = "HASH", requires = "count")]
        head: Option<Hash>,
        /// The count that was printed with it.
        #[arg(long, value_name = "N", requires = "head", value_parser = clap::value_parser!(i64).range(0..))]
        count: Option<i64>,
    },
    /// Take away the oldest rows. The trail tells who did it, and still holds.
    Prune {
        /// Those from before this moment: 90d (ago), or a date in UTC.
        #[arg(long, value_name = "WHEN", value_parser = moment)]
        before: i64,
    },
}

/// Which rows.
#[derive(Debug, Args)]
pub struct Which {
    /// From this moment on: 30s, 10m, 2h, 7d (ago), or a date or time in UTC,
    /// such as 2026-11-22 or 2026-11-22T02:52:35Z.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<i64>,
    /// Before this moment.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<i64>,
    /// Of this user.
    #[arg(long, value_name = "NAME", alias = "user")]
    subject: Option<String>,
    /// Of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// With this outcome.
    #[arg(long, value_parser = ["granted", "refused"])]
    outcome: Option<String>,
}

impl From<Which> for Filter {
    fn from(which: Which) -> Self {
        Self {
            since_us: which.since,
            until_us: which.until,
            subject: which.subject,
            kind: which.kind,
            outcome: which.outcome,
        }
    }
}

/// How a command ended that could be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should. Exit code 0.
    Done,
    /// The trail does not hold. Exit code 1.
    Broken,
}

impl Outcome {
    /// The exit code of the process.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Broken => 1,
        }
    }
}

impl AuditCommand {
    /// The exit code of the process where the command cannot be carried out.
    pub const fn failure_code(&self) -> u8 {
        match self {
            Self::Verify { .. } => 2,
            Self::List { .. } | Self::Export { .. } | Self::Prune { .. } => 1,
        }
    }

    /// Carry out the command; what there is to say goes to `out`.
    ///
    /// Errors: the database did not answer; nobody reads what is said.
    pub async fn run(self, trail: &Trail, db: &Db, out: &mut impl Write) -> Result<Outcome> {
        match self {
            Self::List { which, json, limit } => {
                let mut conn = db.read().await?;
                for row in trail.last(&mut conn, &which.into(), limit.into()).await? {
                    let line = if json {
                        serde_json::to_string(&row)?
                    } else {
                        as_line(&row)
                    };
                    writeln!(out, "{line}")?;
                }
            }
            Self::Export { which } => export(trail, db, &which.into(), out).await?,
            Self::Verify { head, count } => {
                let kept = head.zip(count).map(|(hash, count)| Head { count, hash });
                return verify(trail, db, kept, out).await;
            }
            Self::Prune { before } => {
                let pruned = trail.prune(db, before, &operator()).await?;
                writeln!(out, "{pruned} rows are pruned")?;
            }
        }
        Ok(Outcome::Done)
    }
}

async fn export(trail: &Trail, db: &Db, filter: &Filter, out: &mut impl Write) -> Result<()> {
    let mut conn = db.read().await?;
    let mut last = i64::MIN;
    loop {
        let rows = trail.page(&mut conn, filter, last, PAGE).await?;
        let Some(end) = rows.last() else {
            return Ok(());
        };
        last = end.seq;
        for row in &rows {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
        }
    }
}

async fn verify(
    trail: &Trail,
    db: &Db,
    kept: Option<Head>,
    out: &mut impl Write,
) -> Result<Outcome> {
    let mut conn = db.read().await?;
    match trail.verify(&mut conn, kept).await? {
        Verified::Holds { head, pruned } => {
            writeln!(out, "holds: count {} head {}", head.count, head.hash)?;
            if pruned > 0 {
                writeln!(out, "the rows up to {pruned} are pruned")?;
            }
            Ok(Outcome::Done)
        }
        Verified::Broken(broken) => {
            writeln!(out, "broken: {broken}")?;
            Ok(Outcome::Broken)
        }
    }
}

fn as_line(stored: &Stored) -> String {
    let row = &stored.row;
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let what = match &row.action {
        Some(action) => format!("{} {action}", row.kind),
        None => row.kind.clone(),
    };
    let mut line = format!(
        "{} {what:<10} {:<7} {:<16} {} from {}",
        utc(row.time_us),
        row.outcome,
        or_dash(&row.reason),
        or_dash(&row.subject),
        row.source,
    );
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    let details = [
        ("uid", number(row.uid)),
        ("audience", row.audience.clone()),
        ("jti", row.jti.clone()),
        ("job", number(row.job_id)),
        ("job_sha256", row.job_sha256.clone()),
        ("detail", row.detail.clone()),
    ];
    for (name, value) in details {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    // Names come from users: a line stays one line, and moves no cursor.
    let shown = line
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    shown.collect()
}
