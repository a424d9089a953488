//! Group commit: everything that waits while one transaction commits goes
//! into the next. One commit costs one flush to disk, however many jobs it
//! carries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use warrant_migrations::{Db, Driven, Reserve, Tx};
use warrant_trail::{Head, Row};

use super::changes::{Change, Done, Step};
use super::submit::{self, IdPool, IdSource};
use super::text::is_one_chunk;
use super::{audit, identity, keys, late, steps};
use crate::error::{Error, Kind, Result, Sort, Sorted};
use crate::metrics::Metrics;
use crate::vital;

/// The most changes in one transaction.
const BATCH: usize = 256;
/// The most changes that wait; more are refused.
const WAITING: usize = 8192;
/// How long the writer must have had nothing to do before the index of texts
/// takes the few that wait for it.
const IDLE: Duration = Duration::from_secs(1);

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
    pub(super) fn start(
        db: Db,
        reserve: Option<Arc<Reserve>>,
        ids: IdPool,
        metrics: Metrics,
    ) -> Self {
        let (queue, asks) = mpsc::channel(WAITING);
        let doubt = Arc::new(Notify::new());
        let pen = Pen {
            db,
            reserve,
            held: None,
            ids,
            head: None,
            // An earlier process may have left some.
            late: late::MOST,
            doubt: doubt.clone(),
            metrics,
        };
        vital::spawn("writer", run(pen, asks));
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

    /// Have a change written without waiting for it.
    ///
    /// Errors: too many changes wait.
    pub(super) fn leave(&self, change: Change) -> Result<()> {
        let (answer, _) = oneshot::channel();
        self.queue
            .try_send(Ask { change, answer })
            .map_err(|_| busy())
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

async fn run(mut pen: Pen, mut asks: mpsc::Receiver<Ask>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let some = tokio::select! {
            biased;
            some = asks.recv_many(&mut batch, 1) => some,
            () = pen.db.closing(), if pen.held.is_some() => {
                pen.held = None;
                continue;
            }
            () = tokio::time::sleep(IDLE), if pen.late > 0 => {
                pen.index().await;
                continue;
            }
        };
        if some == 0 {
            return;
        }
        // Whoever is about to ask as well gets the chance: what comes at the
        // same time then shares a commit.
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(ask) = asks.try_recv()
        {
            batch.push(ask);
        }
        let (changes, answers): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|ask| (ask.change, ask.answer)).unzip();
        match pen.commit(&changes).await {
            Ok(done) => {
                for (answer, done) in answers.into_iter().zip(done) {
                    // A caller that went away does not undo its change.
                    let _ = answer.send(Ok(done));
                }
            }
            Err(error) => pen.each_alone(changes, answers, error).await,
        }
        if pen.late >= late::MOST {
            pen.index().await;
        }
    }
}

/// What writes: one connection, kept from batch to batch. To take it from the
/// pool and give it back each time would cost another trip to the database.
struct Pen {
    db: Db,
    reserve: Option<Arc<Reserve>>,
    held: Option<Tx>,
    ids: IdPool,
    /// Behind the last row of the audit trail, where that is known.
    head: Option<Head>,
    /// About how many texts wait for their index.
    late: usize,
    doubt: Arc<Notify>,
    metrics: Metrics,
}

impl Pen {
    /// Have the index of texts take some that wait. If it cannot be now, it is
    /// tried again later; searches find them all the same.
    async fn index(&mut self) {
        // The index can wait: it does not take what is reserved.
        if self.reserve.as_ref().is_some_and(|it| it.is_needed()) {
            self.late = 1;
            return;
        }
        self.late = match self.try_index().await {
            Ok(late::MOST) => late::MOST,
            Ok(_) => 0,
            Err(error) => {
                tracing::warn!(%error, "texts wait for their index");
                1
            }
        };
    }

    async fn try_index(&mut self) -> warrant_migrations::Result<usize> {
        let mut tx = match self.held.take() {
            Some(tx) => tx,
            None => self.db.hold().await?,
        };
        let indexed = async {
            tx.open().await?;
            let taken = late::take(&mut tx).await?;
            tx.close().await?;
            Ok(taken)
        };
        let indexed = indexed.await;
        match &indexed {
            Ok(_) => self.held = Some(tx),
            Err(_) => tx.abandon(),
        }
        indexed
    }

    /// After a failed batch: where one change may be to blame, try each by itself.
    async fn each_alone(
        &mut self,
        changes: Vec<Change>,
        answers: Vec<oneshot::Sender<Result<Done>>>,
        error: warrant_migrations::Error,
    ) {
        tracing::warn!(error = %error, changes = changes.len(), "a batch was not committed");
        let shared = changes.len() == 1 || sort(&error) != Sort::Refused;
        let (kind, words) = sort(&error).words();
        for (change, answer) in changes.into_iter().zip(answers) {
            let done = if shared {
                Err(Error::caused(kind, words, error.to_string()))
            } else {
                let done = self.commit(std::slice::from_ref(&change)).await;
                done.map_err(Error::from)
                    .and_then(|done| done.first().copied().ok_or_else(busy))
            };
            if let (Change::Note(row), Err(error)) = (&change, &done) {
                self.metrics.lost_row();
                tracing::error!(%error, kind = row.kind, "a row of the audit trail is lost");
            }
            let _ = answer.send(done);
        }
    }

    /// Apply all changes and make them durable, or none.
    async fn commit(&mut self, changes: &[Change]) -> warrant_migrations::Result<Vec<Done>> {
        let known = self.head.is_some() && changes.iter().any(Change::is_audited);
        let begun = Instant::now();
        let committed = match self.try_commit(changes).await {
            // A command that prunes may have added a row to the audit trail.
            // Now that the head is not known any more, it is read anew.
            Err(error) if known && sort(&error) == Sort::Refused => self.try_commit(changes).await,
            committed => committed,
        };
        self.metrics
            .committed(changes.len(), begun.elapsed(), committed.is_ok());
        committed
    }

    /// After an error the connection is replaced, and with it goes whatever
    /// was left open.
    async fn try_commit(&mut self, changes: &[Change]) -> warrant_migrations::Result<Vec<Done>> {
        let mut tx = match self.held.take() {
            Some(tx) => tx,
            None => self.db.hold().await?,
        };
        let unknown = self.head.is_none() && changes.iter().any(Change::is_audited);
        let mut ids = IdSource::new(&self.ids);
        let committed = if !unknown && is_one_statement(changes, &self.ids) {
            self.commit_alone(&mut tx, changes, &mut ids).await
        } else {
            self.commit_together(&mut tx, changes, &mut ids).await
        };
        match &committed {
            Ok(_) => {
                let new = changes.iter().filter(|it| matches!(it, Change::Submit(_)));
                self.late += if tx.is_sqlite() { new.count() } else { 0 };
                self.held = Some(tx);
                ids.settle();
            }
            Err(_) => {
                tx.abandon();
                self.head = None;
            }
        }
        committed
    }

    async fn commit_together(
        &mut self,
        tx: &mut Tx,
        changes: &[Change],
        ids: &mut IdSource,
    ) -> warrant_migrations::Result<Vec<Done>> {
        tx.open().await?;
        if self.head.is_none() && changes.iter().any(Change::is_audited) {
            self.head = Some(audit::head(tx).await?);
        }
        let done = self.apply(tx, changes, ids).await?;
        tx.close().await.inspect_err(|_| self.doubt.notify_one())?;
        Ok(done)
    }

    /// What is one statement, or one text, needs no transaction around it.
    async fn commit_alone(
        &mut self,
        tx: &mut Tx,
        changes: &[Change],
        ids: &mut IdSource,
    ) -> warrant_migrations::Result<Vec<Done>> {
        let done = self.apply(tx, changes, ids).await;
        Ok(done.inspect_err(|error| {
            if error.sort() == Sort::Away {
                self.doubt.notify_one();
            }
        })?)
    }

    /// Apply all changes, sort by sort; the answers come in the changes' order.
    async fn apply(
        &mut self,
        tx: &mut Tx,
        changes: &[Change],
        ids: &mut IdSource,
    ) -> sqlx::Result<Vec<Done>> {
        let mut done = vec![Done::Stepped(false); changes.len()];
        let mut new = Vec::new();
        let mut cancels = Vec::new();
        let mut claims = Vec::new();
        let mut taken = Vec::new();
        let (mut reserves, mut beyond) = (false, None);
        let mut rows = Vec::new();
        let mut expired = Vec::new();
        for (at, change) in changes.iter().enumerate() {
            let noted = matches!(
                change,
                Change::Reserve | Change::GoBeyond(_) | Change::Note(_)
            );
            if let Some(slot) = done.get_mut(at).filter(|_| noted) {
                *slot = Done::Noted;
            }
            match change {
                Change::Reserve => reserves = true,
                Change::GoBeyond(highest) => beyond = beyond.max(Some(*highest)),
                Change::Submit(job) => new.push((at, job)),
                Change::Cancel(cancel) => cancels.push((at, cancel)),
                Change::Claim(claim) => claims.push((at, claim)),
                Change::Step(step) => taken.push((at, step)),
                Change::Note(row) => rows.push(Row::clone(row)),
                Change::RemoveKeys(before_us) => expired.push((at, *before_us)),
            }
        }
        if let Some(highest) = beyond {
            ids.forget_up_to(highest);
            identity::go_beyond(tx, highest).await?;
        }
        if let Some(head) = &mut self.head {
            submit::insert(tx, ids, head, &new, &mut done).await?;
            rows.extend(steps::cancel(tx, &cancels, &mut done).await?);
            audit::append(tx, head, rows).await?;
        }
        if reserves {
            ids.provide(tx).await?;
        }
        steps::claim(tx, &claims, &mut done).await?;
        steps::step(tx, &taken, &mut done).await?;
        for (at, before_us) in expired {
            let removed = keys::remove(tx, before_us).await?;
            if let Some(slot) = done.get_mut(at) {
                *slot = Done::Removed(i64::try_from(removed).unwrap_or(i64::MAX));
            }
        }
        Ok(done)
    }
}

fn sort(error: &warrant_migrations::Error) -> Sort {
    match error {
        warrant_migrations::Error::Sql(sql) => sql.sort(),
        warrant_migrations::Error::Url
        | warrant_migrations::Error::Migrate(_)
        | warrant_migrations::Error::Outdated(_)
        | warrant_migrations::Error::Role(_)
        | warrant_migrations::Error::Lacking { .. }
        | warrant_migrations::Error::MayNotMigrate(_)
        | warrant_migrations::Error::Held(_) => Sort::Refused,
    }
}

/// Whether all changes are of one sort and few enough for one statement.
fn is_one_statement(changes: &[Change], ids: &IdPool) -> bool {
    let nameless = |change: &&Change| matches!(change, Change::Submit(job) if job.id.is_none());
    let one_sort = changes
        .iter()
        .all(|change| matches!(change, Change::Submit(_)))
        && ids.has(changes.iter().filter(nameless).count())
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
