//! Writes rows, many at a time. A row whose writing was cut off half-way is
//! written again, and may then be there twice; its `jti` tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use warrant_migrations::Db;
use warrant_trail::Trail;

use super::{Allowance, Message, Row};
use crate::clock;
use crate::error::{Error, Result};

/// How long a row waits for others to be written with it.
const GATHER: Duration = Duration::from_millis(20);
/// The most rows of one statement.
const BATCH: usize = 2048;
/// How long to wait after a batch could not be written.
const RETRY: Duration = Duration::from_millis(250);
/// How long one batch may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often refusals without a row are counted in one.
const COUNT_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    db: Db,
    writable: Arc<AtomicBool>,
    refusals: Arc<Allowance>,
    rows: Vec<Row>,
    flushes: Vec<oneshot::Sender<()>>,
    counted: Instant,
}

impl Writer {
    pub(super) fn new(db: Db, writable: Arc<AtomicBool>, refusals: Arc<Allowance>) -> Self {
        Self {
            db,
            writable,
            refusals,
            rows: Vec::new(),
            flushes: Vec::new(),
            counted: Instant::now(),
        }
    }

    /// Write what comes in, until nothing can come any more.
    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<Message>) {
        let mut open = true;
        while open {
            open = self.gather(&mut incoming).await;
            let flushing = !self.flushes.is_empty() || !open;
            if flushing || self.counted.elapsed() >= COUNT_EVERY {
                self.count();
            }
            let written = self.write().await;
            // Those who wait for the end wait for one attempt.
            for flush in self.flushes.drain(..) {
                let _ = flush.send(());
            }
            if !written && open {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Take in the next rows; false when none can come any more.
    async fn gather(&mut self, incoming: &mut mpsc::Receiver<Message>) -> bool {
        let mut messages = Vec::new();
        if self.rows.is_empty() {
            // Woken now and then for the refusals without a row.
            match tokio::time::timeout(COUNT_EVERY, incoming.recv()).await {
                Err(_) => return true,
                Ok(None) => return false,
                Ok(Some(message @ Message::Row(_))) => {
                    messages.push(message);
                    tokio::time::sleep(GATHER).await;
                }
                Ok(Some(message @ Message::Flush(_))) => messages.push(message),
            }
        }
        let mut open = true;
        while self.rows.len() + messages.len() < BATCH {
            match incoming.try_recv() {
                Ok(message) => messages.push(message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        for message in messages {
            match message {
                Message::Row(row) => self.rows.push(*row),
                Message::Flush(done) => self.flushes.push(done),
            }
        }
        open
    }

    /// Add a row that counts the refusals which got none.
    fn count(&mut self) {
        self.counted = Instant::now();
        let count = self.refusals.left_out();
        if count > 0 {
            self.rows.push(Row {
                time_us: clock::now_us(),
                kind: "unrecorded".into(),
                outcome: "refused".into(),
                reason: Some(count.to_string()),
                source: "any".into(),
                ..Row::default()
            });
        }
    }

    /// Write the rows at hand; those that could not be written are kept.
    async fn write(&mut self) -> bool {
        if self.rows.is_empty() {
            return true;
        }
        let written = match tokio::time::timeout(PATIENCE, insert(&self.db, &self.rows)).await {
            Ok(written) => written,
            Err(late) => Err(Error::unavailable("the database takes too long", late)),
        };
        match &written {
            Ok(()) => self.rows.clear(),
            Err(error) => {
                let cause = error.source.as_ref().map(tracing::field::display);
                tracing::error!(rows = self.rows.len(), %error, cause, "the audit trail is not written");
            }
        }
        self.writable.store(written.is_ok(), Ordering::Relaxed);
        written.is_ok()
    }
}

async fn insert(db: &Db, rows: &[Row]) -> Result<()> {
    let mut tx = db.begin().await?;
    Trail::AUTHSVC.append(&mut tx, rows.to_vec()).await?;
    Ok(tx.commit().await?)
}
