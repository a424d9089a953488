//! The audit trail: what is granted and what is refused, as a row and as a
//! line of the log (target `audit`).
//!
//! Each row is sealed in a hash chain (`warrant_audit`), and is never changed.
//!
//! Rows are written in batches beside the requests. Nothing is granted that
//! has no place for its row: while the queue is full or the database is away,
//! requests are answered 503. Refusals cost an attacker nothing, so that their
//! rows are limited, and those beyond are counted in one row.

mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use warrant_migrations::{Db, Tx};
use warrant_trail::{Allowance, Row, Trail};

use crate::clock;
use crate::error::{Error, Kind, Part, Result};
use crate::source::Source;

/// Rows that wait to be written.
const QUEUE: usize = 8192;
/// How long the end of the service waits for the last rows.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// An access token, for a password.
    Login,
    /// A warrant, for an access token.
    Warrant,
    /// An API key: made, revoked, exchanged for an access token.
    Key,
    /// Something that `POST /oauth/token` does not give.
    Token,
    /// The next access token of a session.
    Refresh,
    /// An access token for a client that acts by itself.
    Client,
    /// A user's word that a client may have tokens.
    Authorize,
    /// Tokens for a code.
    Code,
    /// Codes, or tokens, for a device.
    Device,
    /// The end of a token.
    Revoke,
    /// What is known of a token.
    Introspect,
    /// The end of a session that nobody asked for.
    Session,
    /// What somebody does who is signed in with a browser.
    Web,
    /// An act of an administrator.
    Admin,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Warrant => "warrant",
            Self::Key => "key",
            Self::Token => "token",
            Self::Refresh => "refresh",
            Self::Client => "client",
            Self::Authorize => "authorize",
            Self::Code => "code",
            Self::Device => "device",
            Self::Revoke => "revoke",
            Self::Introspect => "introspect",
            Self::Session => "session",
            Self::Web => "web",
            Self::Admin => "admin",
        }
    }
}

/// What is known of a request, as far as it went.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// What is asked for.
    pub(crate) sort: Sort,
    /// What is done, in one stable word, where its sort does not say.
    pub(crate) action: Option<&'static str>,
    /// Where it came from.
    pub(crate) source: Source,
    /// The user's name, where it can be one.
    pub(crate) subject: Option<String>,
    /// The account's user id.
    pub(crate) uid: Option<u32>,
    /// Whom the token or warrant is for.
    pub(crate) audience: Option<String>,
    /// Its id.
    pub(crate) jti: Option<String>,
    /// The job that a warrant is for, in hexadecimal.
    pub(crate) job_sha256: Option<String>,
    /// More, in words; no secret.
    pub(crate) detail: Option<String>,
}

impl Event {
    /// An event of which no more is known.
    pub(crate) fn new(sort: Sort, source: Source) -> Self {
        Self {
            sort,
            action: None,
            source,
            subject: None,
            uid: None,
            audience: None,
            jti: None,
            job_sha256: None,
            detail: None,
        }
    }

    fn row(self, outcome: &str, reason: Option<&str>) -> Row {
        Row {
            time_us: clock::now_us(),
            kind: self.sort.name().to_owned(),
            action: self.action.map(str::to_owned),
            outcome: outcome.to_owned(),
            reason: reason.map(str::to_owned),
            subject: self.subject,
            uid: self.uid.map(i64::from),
            source: self.source.to_string(),
            audience: self.audience,
            jti: self.jti,
            job_id: None,
            job_sha256: self.job_sha256,
            detail: self.detail,
        }
    }

    fn logged(self, outcome: &str, reason: Option<&str>) -> Row {
        let row = self.row(outcome, reason);
        tracing::info!(
            target: "audit",
            kind = row.kind,
            action = row.action,
            outcome = row.outcome,
            reason = row.reason,
            subject = row.subject,
            uid = row.uid,
            source = row.source,
            audience = row.audience,
            jti = row.jti,
            job_sha256 = row.job_sha256,
            detail = row.detail,
        );
        row
    }
}

/// Record an act of an administrator, or of the service itself, in the
/// transaction that carries it out: neither happens without the other.
///
/// Errors: the database did not answer.
pub(crate) async fn act(tx: &mut Tx, event: Event) -> Result<()> {
    let row = event.row("granted", None);
    Trail::AUTHSVC.append(tx, vec![row]).await?;
    Ok(())
}

enum Message {
    Row(Box<Row>),
    Flush(oneshot::Sender<()>),
}

/// The way to the audit trail.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    queue: mpsc::Sender<Message>,
    /// Whether the last batch was written.
    writable: Arc<AtomicBool>,
    refusals: Arc<Allowance>,
}

/// A place in the queue, to be used once something was granted.
pub(crate) struct Place<'a>(mpsc::Permit<'a, Message>);

impl Audit {
    /// A trail into `db`, written by a task of its own.
    pub(crate) fn start(db: Db) -> Self {
        Self::with_queue(db, QUEUE)
    }

    fn with_queue(db: Db, rows: usize) -> Self {
        let (queue, incoming) = mpsc::channel(rows);
        let writable = Arc::new(AtomicBool::new(true));
        let refusals = Arc::new(Allowance::new(Instant::now()));
        let writer = writer::Writer::new(db, writable.clone(), refusals.clone());
        tokio::spawn(writer.run(incoming));
        Self {
            queue,
            writable,
            refusals,
        }
    }

    /// A place for the row of something about to be granted.
    ///
    /// Errors: there is none, or the database is away: do not grant it.
    pub(crate) fn place(&self) -> Result<Place<'_>> {
        let full = || {
            Error::new(Kind::Unavailable, "the audit trail cannot be written now")
                .of(Part::Database)
        };
        if !self.writable.load(Ordering::Relaxed) {
            return Err(full());
        }
        self.queue.try_reserve().map(Place).map_err(|_| full())
    }

    /// Record that something was refused, for `reason`: one stable word.
    pub(crate) fn refused(&self, event: Event, reason: &str) {
        let row = event.logged("refused", Some(reason));
        let queued = self.refusals.take(Instant::now())
            && self.queue.try_send(Message::Row(Box::new(row))).is_ok();
        if !queued {
            self.refusals.leave_out();
        }
    }

    /// Wait until what was recorded so far is written, or cannot be.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        if tokio::time::timeout(FAREWELL, flushed).await.is_err() {
            tracing::error!("the last rows of the audit trail are not written");
        }
    }
}

impl Place<'_> {
    /// Record that it was granted.
    pub(crate) fn granted(self, event: Event) {
        let row = event.logged("granted", None);
        self.0.send(Message::Row(Box::new(row)));
    }
}
