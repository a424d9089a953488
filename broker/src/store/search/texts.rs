//! A copy of the jobs' texts and states beside the database, because reading
//! them all from one file is faster than any index of pieces, unless the text
//! is rare. It is brought up to date before it is asked. Where it cannot be,
//! the database's own index is asked instead.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use warrant_migrations::{Db, Spelt, on};

use super::Ask;
use super::scan::{END, Needle, push};
use super::shelf::Shelf;
use super::walk::{self, Mark};
use crate::model::State;
use crate::store::counts::{self, Totals};
use crate::store::jobs::state;

/// The most blocks that a search itself brings up to date.
const FEW: usize = 16;
/// Searches that read at a time; others wait.
const READERS: usize = 4;
/// Ids whose texts are read in one statement.
const READ: i64 = 128;
/// Searches whose counts are kept.
const SEARCHES: usize = 32;
/// The most counts that are kept, over all searches.
const MARKS: usize = 256 * 1024;

/// The copy. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::store) struct Texts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    /// The number of jobs of which it is known that the copy has them all.
    covers: AtomicI64,
    /// Held by a search that brings blocks up to date.
    refreshing: tokio::sync::Mutex<()>,
    /// Whether the whole copy is being brought up to date.
    catching_up: AtomicBool,
    readers: Semaphore,
    /// Nothing after a failure.
    shelf: Mutex<Option<Shelf>>,
    searches: Mutex<VecDeque<Known>>,
}

#[derive(Debug)]
struct Known {
    owner: Option<String>,
    text: String,
    states: Vec<State>,
    marks: Arc<Vec<Mark>>,
}

impl Known {
    fn is_of(&self, ask: Ask<'_>) -> bool {
        self.text == ask.text
            && self.owner.as_deref() == ask.whose.name()
            && self.states == ask.states
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] warrant_migrations::Error),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    File(#[from] io::Error),
}

impl Texts {
    /// Begin to copy.
    pub(in crate::store) fn start(db: Db) -> Self {
        let shelf = Shelf::new().inspect_err(given_up).ok();
        let copy = Self(Arc::new(Inner {
            db,
            covers: AtomicI64::new(0),
            refreshing: tokio::sync::Mutex::default(),
            catching_up: AtomicBool::new(false),
            readers: Semaphore::new(READERS),
            shelf: Mutex::new(shelf),
            searches: Mutex::default(),
        }));
        copy.catch_up();
        copy
    }

    /// The ids on a page; `None` where the copy cannot tell.
    pub(super) async fn page(&self, ask: Ask<'_>, totals: Totals) -> Option<Vec<i64>> {
        match self.try_page(ask, totals).await {
            Ok(ids) => ids,
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    async fn try_page(&self, ask: Ask<'_>, totals: Totals) -> Result<Option<Vec<i64>>, Failure> {
        if locked(&self.0.shelf).is_none()
            || !self.covers(totals.all, !ask.states.is_empty()).await?
        {
            return Ok(None);
        }
        let Ok(_turn) = self.0.readers.acquire().await else {
            return Ok(None);
        };
        let Some(view) = locked(&self.0.shelf).as_ref().map(Shelf::view) else {
            return Ok(None);
        };
        let known = self.known(ask);
        let rare = totals.own.saturating_mul(8) < totals.all;
        let needle = Needle::new(ask, rare);
        let (start, limit) = (ask.start, ask.limit);
        let walk = move || walk::page(&view, &needle, &known, start, limit);
        let walked = tokio::task::spawn_blocking(walk).await;
        let (ids, marks) = walked.map_err(io::Error::other)??;
        self.remember(ask, marks);
        Ok(Some(ids))
    }

    /// Bring the copy up to date, if that is soon done. Says whether it has at
    /// least the `total` jobs that there were a moment ago, and the states they
    /// were in where `states` matter.
    async fn covers(&self, total: i64, states: bool) -> Result<bool, Failure> {
        let is_covered = || self.0.covers.load(Ordering::Acquire) >= total;
        if !states && is_covered() {
            return Ok(true);
        }
        let is_catching_up = || self.0.catching_up.load(Ordering::Acquire);
        if is_catching_up() {
            return Ok(false);
        }
        let _turn = self.0.refreshing.lock().await;
        // Whoever had the turn before may have begun it. One block is never
        // read by two at a time: the older text might come to stay.
        if is_catching_up() {
            return Ok(false);
        }
        let (now, mut stale) = if is_covered() {
            (total, Vec::new())
        } else {
            self.stale().await?
        };
        if states {
            stale.extend(self.unsettled());
            stale.sort_unstable();
            stale.dedup();
        }
        if stale.len() > FEW {
            self.catch_up();
            return Ok(false);
        }
        for block in stale {
            self.read(block).await?;
        }
        self.0.covers.fetch_max(now, Ordering::AcqRel);
        Ok(true)
    }

    /// Bring the copy up to date, however long it takes, unless that is being
    /// done. Called at the start, and by who has the turn to refresh.
    fn catch_up(&self) {
        if self.0.catching_up.swap(true, Ordering::AcqRel) {
            return;
        }
        let copy = self.clone();
        tokio::spawn(async move {
            if let Err(error) = copy.read_all().await {
                copy.fail(&error);
            }
            copy.0.catching_up.store(false, Ordering::Release);
        });
    }

    async fn read_all(&self) -> Result<(), Failure> {
        let (total, mut stale) = self.stale().await?;
        let mut over = self.unsettled();
        if !over.is_empty() {
            // Of a job that waits or runs there is nothing to be learnt yet.
            let busy = self.busy().await?;
            over.retain(|block| busy.binary_search(block).is_err());
        }
        stale.extend(over);
        for block in stale {
            self.read(block).await?;
        }
        self.0.covers.fetch_max(total, Ordering::AcqRel);
        Ok(())
    }

    /// Returns when the copy has all jobs there are.
    #[cfg(test)]
    pub(in crate::store) async fn wait(&self) {
        while self.0.catching_up.swap(true, Ordering::AcqRel) {
            tokio::task::yield_now().await;
        }
        self.read_all().await.unwrap();
        self.0.catching_up.store(false, Ordering::Release);
    }

    /// The blocks with jobs whose states may have changed.
    fn unsettled(&self) -> Vec<i64> {
        let shelf = locked(&self.0.shelf);
        shelf.as_ref().map(Shelf::unsettled).unwrap_or_default()
    }

    /// The blocks with jobs that are not over, in order.
    async fn busy(&self) -> Result<Vec<i64>, Failure> {
        const SQL: &str = "select distinct id / 1024 as block from jobs \
            where state in ('queued', 'starting', 'running') order by block";
        let mut conn = self.0.db.read().await?;
        let blocks = on!(&mut conn, |db| sqlx::query_scalar(SQL).fetch_all(db).await);
        Ok(blocks?)
    }

    /// How many jobs there are, and the blocks that have more of them than
    /// the copy.
    async fn stale(&self) -> Result<(i64, Vec<i64>), Failure> {
        let mut conn = self.0.db.read().await?;
        let blocks = counts::blocks(&mut conn, counts::EVERYBODY).await?;
        let total = blocks.iter().map(|(_, jobs)| jobs).sum();
        let shelf = locked(&self.0.shelf);
        let stale = blocks.into_iter().filter_map(|(block, jobs)| {
            let copied = shelf.as_ref().map_or(jobs, |shelf| shelf.jobs(block));
            (copied < jobs).then_some(block)
        });
        Ok((total, stale.collect()))
    }

    /// Copy a block from the database.
    async fn read(&self, block: i64) -> Result<(), Failure> {
        // The state, and then what `super::text` makes.
        const SQL: Spelt = Spelt {
            sqlite: "select count(*), coalesce(group_concat(state || char(10) || id || char(10) || \
                replace(replace(name || char(10) || command || char(10) || \
                coalesce(workdir, ''), char(2), ' '), char(3), ' ') || \
                char(10, 2) || owner || char(3, 10, 10), ''), '') \
                from jobs where id >= $1 and id < $2",
            postgres: "select count(*), coalesce(string_agg(state || chr(10) || id || chr(10) || \
                replace(replace(name || chr(10) || command || chr(10) || \
                coalesce(workdir, ''), chr(2), ' '), chr(3), ' ') || \
                chr(10) || chr(2) || owner || chr(3) || chr(10) || chr(10), ''), '') \
                from jobs where id >= $1 and id < $2",
        };
        let mut conn = self.0.db.read().await?;
        let sql = SQL.on(&conn);
        let (mut jobs, mut settled, mut records) = (0, true, Vec::new());
        let (mut from, end) = counts::ids(block);
        while from < end {
            let (n, text): (i64, String) = on!(&mut conn, |db| sqlx::query_as(sql)
                .bind(from)
                .bind(end.min(from + READ))
                .fetch_one(db)
                .await)?;
            jobs += n;
            for record in text.to_lowercase().split_inclusive(END) {
                let spelt = record.split_once('\n');
                let told = spelt.and_then(|(word, text)| Some((state(word)?, text)));
                let (state, text) = told.ok_or_else(|| io::Error::other("an unreadable job"))?;
                settled &= state.is_final();
                push(&mut records, state, text);
            }
            from += READ;
        }
        drop(conn);
        let copy = self.clone();
        let put = move || match locked(&copy.0.shelf).as_mut() {
            None => Ok(()),
            Some(shelf) => shelf.put(block, jobs, settled, &records),
        };
        let put = tokio::task::spawn_blocking(put).await;
        Ok(put.map_err(io::Error::other)??)
    }

    /// After a failure of the file the copy is of no more use; the database
    /// may be back soon.
    fn fail(&self, error: &Failure) {
        match error {
            Failure::File(error) => {
                *locked(&self.0.shelf) = None;
                given_up(error);
            }
            Failure::Database(error) => tracing::warn!(error = %error, "texts were not copied"),
            Failure::Sql(error) => tracing::warn!(error = %error, "texts were not copied"),
        }
    }

    fn known(&self, ask: Ask<'_>) -> Arc<Vec<Mark>> {
        let searches = locked(&self.0.searches);
        let known = searches.iter().find(|known| known.is_of(ask));
        known.map_or_else(Arc::default, |known| known.marks.clone())
    }

    fn remember(&self, ask: Ask<'_>, marks: Vec<Mark>) {
        let mut searches = locked(&self.0.searches);
        searches.retain(|known| !known.is_of(ask));
        searches.push_front(Known {
            owner: ask.whose.name().map(str::to_owned),
            text: ask.text.to_owned(),
            states: ask.states.to_vec(),
            marks: Arc::new(marks),
        });
        searches.truncate(SEARCHES);
        let mut kept = 0;
        searches.retain(|known| {
            kept += known.marks.len();
            kept <= MARKS
        });
    }
}

fn given_up(error: &io::Error) {
    tracing::warn!(error = %error, "there is no copy of the texts; searches take longer");
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
