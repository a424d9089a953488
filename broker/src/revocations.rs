//! What counts no more, as the auth service says: read every few seconds.
//! Where it was not read for a while nobody is let in: a revocation arrives,
//! or nothing does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use warrant_api::revocation::{MOST_REVOCATIONS, Revocation, RevocationKind, Revocations as Page};

use crate::authsvc::AuthService;
use crate::caller::Bearer;
use crate::model::Micros;

/// How often the feed is read.
const EVERY: Duration = Duration::from_secs(5);
/// How soon again after it could not be.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest one piece may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long what was read last counts as all there is.
const FRESH: Duration = Duration::from_secs(25);
/// The most entries that are kept. With more, nobody is let in.
const LARGEST: usize = 1_000_000;

/// An account that was disabled or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// Its name.
    pub account: String,
    /// What it did up to this time, in seconds since the Unix epoch, is of
    /// the account as it was.
    pub before_s: u64,
}

/// Whether a token still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Counts,
    /// It was revoked.
    Revoked,
    /// Nobody can tell now.
    Unknown,
}

/// What counts no more. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Revocations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    authsvc: AuthService,
    lists: RwLock<Lists>,
    started: Instant,
    /// When the feed was last read to its end: milliseconds after `started`,
    /// and one; 0 where it never was.
    read_ms: AtomicU64,
    changed: watch::Sender<()>,
    disabled: mpsc::UnboundedSender<Disabled>,
}

#[derive(Debug, Default)]
struct Lists {
    next: u64,
    /// Sessions and tokens, and until when they must be remembered.
    sessions: HashMap<Box<str>, u64>,
    tokens: HashMap<Box<str>, u64>,
    accounts: HashMap<Box<str>, Account>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    before_s: u64,
    until_s: u64,
}

impl Revocations {
    /// What `authsvc` says, not yet read. Accounts that it names are also sent
    /// to `disabled`, once each.
    pub fn new(authsvc: AuthService, disabled: mpsc::UnboundedSender<Disabled>) -> Self {
        Self(Arc::new(Inner {
            authsvc,
            lists: RwLock::default(),
            started: Instant::now(),
            read_ms: AtomicU64::new(0),
            changed: watch::Sender::new(()),
            disabled,
        }))
    }

    /// Read the feed now and then, for ever.
    pub async fn follow(self) {
        loop {
            tokio::time::sleep(match self.read().await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "what was revoked cannot be read");
                    AGAIN
                }
            })
            .await;
        }
    }

    /// Read what is new of the feed, to its end.
    ///
    /// Errors: the auth service is away, refuses, or says senseless things.
    pub async fn read(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let after = self.lists(|lists| lists.next);
            let path = format!("/internal/revocations?after={after}");
            let page: Page =
                tokio::time::timeout(PATIENCE, self.0.authsvc.get_json(&path)).await??;
            let more = page.entries.len() >= MOST_REVOCATIONS;
            anyhow::ensure!(
                page.next > after || (page.next == after && !more),
                "the list of what was revoked goes backwards"
            );
            self.take_in(page)?;
            if !more {
                break;
            }
        }
        let since = began.saturating_duration_since(self.0.started).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1);
        self.0.read_ms.store(since, Ordering::Release);
        Ok(())
    }

    fn take_in(&self, page: Page) -> anyhow::Result<()> {
        let now_s = now_s();
        let news = !page.entries.is_empty();
        let mut lists = self.0.lists.write().unwrap_or_else(PoisonError::into_inner);
        lists.forget(now_s);
        for entry in page.entries {
            if let Some(disabled) = lists.add(entry) {
                // The receiver lives as long as the process.
                let _ = self.0.disabled.send(disabled);
            }
        }
        anyhow::ensure!(lists.len() <= LARGEST, "too much is revoked to be kept");
        lists.next = page.next;
        drop(lists);
        if news {
            self.0.changed.send_replace(());
        }
        Ok(())
    }

    fn lists<T>(&self, look: impl FnOnce(&Lists) -> T) -> T {
        look(&self.0.lists.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_fresh(&self) -> bool {
        let read_ms = self.0.read_ms.load(Ordering::Acquire);
        let age = |read_ms| {
            let at = Duration::from_millis(read_ms);
            self.0.started.elapsed().saturating_sub(at)
        };
        read_ms.checked_sub(1).is_some_and(|at| age(at) < FRESH)
    }

    /// Whether a verified token still counts.
    pub fn judge(&self, bearer: &Bearer) -> Standing {
        if self.lists(|lists| lists.hold(bearer)) {
            Standing::Revoked
        } else if self.is_fresh() {
            Standing::Counts
        } else {
            Standing::Unknown
        }
    }

    /// Returns once a token that counted does so no more, or nobody can tell.
    pub async fn over(&self, bearer: &Bearer) {
        let mut changed = self.0.changed.subscribe();
        while self.judge(bearer) == Standing::Counts {
            // Also where there is no news, it may be too long since any.
            let _ = tokio::time::timeout(AGAIN, changed.changed()).await;
        }
    }
}

impl Lists {
    fn len(&self) -> usize {
        self.sessions.len() + self.tokens.len() + self.accounts.len()
    }

    fn forget(&mut self, now_s: u64) {
        self.sessions.retain(|_, until_s| *until_s >= now_s);
        self.tokens.retain(|_, until_s| *until_s >= now_s);
        self.accounts.retain(|_, account| account.until_s >= now_s);
    }

    /// Add an entry; returns an account that is newly named.
    fn add(&mut self, entry: Revocation) -> Option<Disabled> {
        let Revocation {
            kind,
            value,
            before_s,
            until_s,
        } = entry;
        match kind {
            RevocationKind::Session => {
                self.sessions.insert(value.into(), until_s);
                None
            }
            RevocationKind::Token => {
                self.tokens.insert(value.into(), until_s);
                None
            }
            RevocationKind::Account => {
                // Without a time, all up to now is meant.
                let before_s = before_s.unwrap_or_else(now_s);
                let account = Account { before_s, until_s };
                match self.accounts.entry(value.as_str().into()) {
                    Entry::Occupied(known) if known.get().before_s >= before_s => return None,
                    Entry::Occupied(mut known) => {
                        known.insert(account);
                    }
                    Entry::Vacant(empty) => {
                        empty.insert(account);
                    }
                }
                Some(Disabled {
                    account: value,
                    before_s,
                })
            }
        }
    }

    fn hold(&self, bearer: &Bearer) -> bool {
        let marks = bearer.marks();
        let account = || self.accounts.get(&marks.sub);
        self.sessions.contains_key(&marks.sid)
            || self.tokens.contains_key(&marks.jti)
            || account().is_some_and(|account| marks.iat < account.before_s)
    }
}

fn now_s() -> u64 {
    u64::try_from(Micros::now().get() / 1_000_000).unwrap_or_default()
}
