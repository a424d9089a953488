//! Group commit: everything that waits while one transaction commits goes
//! into the next. One commit costs one flush to disk, however many jobs it
//! carries.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use warrant_migrations::{Db, Tx};

use super::changes::{Change, Done, Step};
use super::steps;
use super::submit::{self, Ids};
use super::text::is_one_chunk;
use crate::error::{Error, Kind, Result, Sort, Sorted};
use crate::vital;

/// The most changes in one transaction.
const BATCH: usize = 256;
/// The most changes that wait; more are refused.
const WAITING: usize = 8192;

/// A handle to the task that writes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Ask>,
    doubt: Arc<Notify>,
}

#[derive(Debug)]
struct Ask {
    change: Change,
    answer: oneshot::Sender<Result<Done>>,
}

impl Writer {
    /// Start the task. It ends when the last handle is dropped.
    pub(super) fn start(db: Db) -> Self {
        let (queue, asks) = mpsc::channel(WAITING);
        let doubt = Arc::new(Notify::new());
        vital::spawn("writer", run(db, asks, doubt.clone()));
        Self { queue, doubt }
    }

    /// Write one change; returns when it is durable.
    ///
    /// Errors: too many changes wait; the database refused or is away. After
    /// an error the change has not happened, unless the connection broke
    /// during the commit: then [`Writer::in_doubt`] fires.
    pub(super) async fn write(&self, change: Change) -> Result<Done> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Ask { change, answer })
            .map_err(|_| busy())?;
        answered.await.map_err(|_| busy())?
    }

    /// Write a change that must not be turned away for want of room.
    ///
    /// Errors: as [`Writer::write`].
    pub(super) async fn insist(&self, change: Change) -> Result<Done> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .send(Ask { change, answer })
            .await
            .map_err(|_| busy())?;
        answered.await.map_err(|_| busy())?
    }

    /// Returns when a commit's outcome could not be learnt.
    pub(super) async fn in_doubt(&self) {
        self.doubt.notified().await;
    }
}

fn busy() -> Error {
    Error::new(
        Kind::Unavailable,
        "The job store is too busy. Try again soon.",
    )
}

async fn run(db: Db, mut asks: mpsc::Receiver<Ask>, doubt: Arc<Notify>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut ids = Ids::default();
    while asks.recv_many(&mut batch, 1).await > 0 {
        // Whoever is about to ask as well gets the chance: a job's end and the
        // next job's claim then share a commit.
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(ask) = asks.try_recv()
        {
            batch.push(ask);
        }
        let (changes, answers): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|ask| (ask.change, ask.answer)).unzip();
        match commit(&db, &changes, &mut ids, &doubt).await {
            Ok(done) => {
                for (answer, done) in answers.into_iter().zip(done) {
                    // A caller that went away does not undo its change.
                    let _ = answer.send(Ok(done));
                }
            }
            Err(error) => {
                each_alone(&db, changes, answers, error, &mut ids, &doubt).await;
            }
        }
    }
}

/// After a failed batch: where one change may be to blame, try each by itself.
async fn each_alone(
    db: &Db,
    changes: Vec<Change>,
    answers: Vec<oneshot::Sender<Result<Done>>>,
    error: warrant_migrations::Error,
    ids: &mut Ids,
    doubt: &Notify,
) {
    tracing::warn!(error = %error, changes = changes.len(), "a batch was not committed");
    let shared = changes.len() == 1 || sort(&error) != Sort::Refused;
    let (kind, words) = sort(&error).words();
    for (change, answer) in changes.into_iter().zip(answers) {
        let done = if shared {
            Err(Error::caused(kind, words, error.to_string()))
        } else {
            let done = commit(db, std::slice::from_ref(&change), ids, doubt).await;
            done.map_err(Error::from)
                .and_then(|done| done.first().copied().ok_or_else(busy))
        };
        let _ = answer.send(done);
    }
}

fn sort(error: &warrant_migrations::Error) -> Sort {
    match error {
        warrant_migrations::Error::Sql(sql) => sql.sort(),
        warrant_migrations::Error::Url
        | warrant_migrations::Error::Migrate(_)
        | warrant_migrations::Error::Outdated(_) => Sort::Refused,
    }
}

async fn commit(
    db: &Db,
    changes: &[Change],
    ids: &mut Ids,
    doubt: &Notify,
) -> warrant_migrations::Result<Vec<Done>> {
    let committed = if is_one_statement(changes, ids) {
        commit_alone(db, changes, ids, doubt).await
    } else {
        commit_together(db, changes, ids, doubt).await
    };
    if committed.is_err() {
        // They may have been taken in the transaction that is undone.
        *ids = Ids::default();
    }
    committed
}

async fn commit_together(
    db: &Db,
    changes: &[Change],
    ids: &mut Ids,
    doubt: &Notify,
) -> warrant_migrations::Result<Vec<Done>> {
    let mut tx = db.begin().await?;
    let done = apply(&mut tx, ids, changes).await?;
    tx.commit().await.inspect_err(|_| doubt.notify_one())?;
    Ok(done)
}

/// What is one statement, or one text, needs no transaction around it.
async fn commit_alone(
    db: &Db,
    changes: &[Change],
    ids: &mut Ids,
    doubt: &Notify,
) -> warrant_migrations::Result<Vec<Done>> {
    let mut tx = db.alone().await?;
    match apply(&mut tx, ids, changes).await {
        Ok(done) => Ok(done),
        Err(error) => {
            if error.sort() == Sort::Away {
                doubt.notify_one();
            }
            tx.abandon();
            Err(error.into())
        }
    }
}

/// Whether all changes are of one sort and few enough for one statement.
fn is_one_statement(changes: &[Change], ids: &Ids) -> bool {
    let one_sort = changes
        .iter()
        .all(|change| matches!(change, Change::Submit(_)))
        && ids.has(changes.len())
        || changes
            .iter()
            .all(|change| matches!(change, Change::Claim(_)))
        || changes
            .iter()
            .all(|change| matches!(change, Change::Step(Step::Started { .. })))
        || changes
            .iter()
            .all(|change| matches!(change, Change::Step(Step::Ended { .. })));
    one_sort && is_one_chunk(changes.len())
}

/// Apply all changes, sort by sort; the answers come in the changes' order.
async fn apply(tx: &mut Tx, ids: &mut Ids, changes: &[Change]) -> sqlx::Result<Vec<Done>> {
    let mut done = vec![Done::Stepped(false); changes.len()];
    let mut new = Vec::new();
    let mut cancels = Vec::new();
    let mut claims = Vec::new();
    let mut taken = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        match change {
            Change::Submit(job) => new.push((at, job)),
            Change::Cancel(cancel) => cancels.push((at, cancel)),
            Change::Claim(claim) => claims.push((at, claim)),
            Change::Step(step) => taken.push((at, step)),
        }
    }
    submit::insert(tx, ids, &new, &mut done).await?;
    steps::cancel(tx, &cancels, &mut done).await?;
    steps::claim(tx, &claims, &mut done).await?;
    steps::step(tx, &taken, &mut done).await?;
    Ok(done)
}
