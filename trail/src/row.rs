//! A row, as it is handed in and as it is kept.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use warrant_audit::{Field, Head};

/// What happened. It holds no secret and no content of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct Row {
    /// When, in microseconds since the Unix epoch.
    pub time_us: i64,
    /// What it was about, in one word: `login`, `warrant`, `key`, `token`,
    /// `refresh`, `client`, `authorize`, `code`, `device`, `revoke`,
    /// `introspect`, `session`, `admin`; `submit`, `cancel`, `read`, `stop`,
    /// `job`, `access`; or `unrecorded`, where there were more refusals than
    /// rows for them.
    pub kind: String,
    /// What was done, in one word, where the kind does not say it.
    pub action: Option<String>,
    /// `granted` or `refused`.
    pub outcome: String,
    /// Why it was refused, in one word.
    pub reason: Option<String>,
    /// The user who asked; for acts of administrators, the user concerned.
    pub subject: Option<String>,
    /// The user id of the subject's account, where it is known.
    pub uid: Option<i64>,
    /// Where the request came from: an address, `local`, or who gave a
    /// command on this machine.
    pub source: String,
    /// Whom a token or warrant is for.
    pub audience: Option<String>,
    /// Its id.
    pub jti: Option<String>,
    /// The job.
    pub job_id: Option<i64>,
    /// The SHA-256 of what the job runs, in hexadecimal.
    pub job_sha256: Option<String>,
    /// More, in words.
    pub detail: Option<String>,
}

/// A row with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct Stored {
    /// Its number; the first row of a trail has number 1.
    pub seq: i64,
    /// What happened.
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub row: Row,
    /// Its hash, over the row and the hash before it.
    pub hash: String,
}

/// The columns of a trail's table, in the order of [`Stored`].
pub(crate) const COLUMNS: &str = "seq, time_us, kind, action, outcome, reason, subject, uid, \
    source, audience, jti, job_id, job_sha256, detail, hash";

impl Row {
    /// The fields in the order in which they are hashed, which never changes.
    pub(crate) fn fields(&self) -> [Field<'_>; 13] {
        [
            self.time_us.into(),
            self.kind.as_str().into(),
            self.action.as_deref().into(),
            self.outcome.as_str().into(),
            self.reason.as_deref().into(),
            self.subject.as_deref().into(),
            self.uid.into(),
            self.source.as_str().into(),
            self.audience.as_deref().into(),
            self.jti.as_deref().into(),
            self.job_id.into(),
            self.job_sha256.as_deref().into(),
            self.detail.as_deref().into(),
        ]
    }

    /// The row without what a database cannot hold: a NUL in a text, which
    /// would otherwise keep every row behind it from being written.
    fn writable(mut self) -> Self {
        let absent = [
            &mut self.action,
            &mut self.reason,
            &mut self.subject,
            &mut self.audience,
            &mut self.jti,
            &mut self.job_sha256,
            &mut self.detail,
        ];
        let present = [&mut self.kind, &mut self.outcome, &mut self.source];
        for text in absent.into_iter().flatten().chain(present) {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{fffd}");
            }
        }
        self
    }
}

/// Rows that have their places in the chain, and the head behind them.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The rows.
    pub rows: Vec<Stored>,
    /// The head once they are written.
    pub head: Head,
}

impl Sealed {
    /// Give `rows` the places behind `head`.
    pub fn behind(head: Head, rows: impl IntoIterator<Item = Row>) -> Self {
        let mut head = head;
        let rows = rows.into_iter().map(|row| {
            let row = row.writable();
            head = head.then(&row.fields());
            Stored {
                seq: head.count,
                row,
                hash: head.hash.to_string(),
            }
        });
        Self {
            rows: rows.collect(),
            head,
        }
    }
}
