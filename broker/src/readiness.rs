//! Whether the broker can do its work now, and which part is the reason where it
//! cannot.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use warrant_door::Places;

use crate::authsvc::{self, AuthService};
use crate::metrics::Metrics;
use crate::service::Jobs;

/// How long what was found counts: many questions cost one look.
const FRESH: Duration = Duration::from_secs(1);
/// How long one part may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The least room that must be left on a disk, in bytes.
const LEAST: u64 = 16 << 20;

/// What the broker needs. Checked when it is asked for, at most once a second.
#[derive(Debug)]
pub struct Readiness {
    jobs: Jobs,
    /// `None` where authentication is off.
    authsvc: Option<AuthService>,
    /// Directories, and what they are for.
    disks: Vec<(&'static str, PathBuf)>,
    places: Places,
    metrics: Metrics,
    found: Mutex<Option<(Instant, Report)>>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether every part is there.
    pub ready: bool,
    /// Each part.
    pub parts: Vec<Part>,
}

/// One part, and what is the matter with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name: `store`, `authsvc`, `shim`, `disk` or `clock`.
    pub part: &'static str,
    /// Whether it is there.
    pub ok: bool,
    /// What is the matter, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

type Found = Result<(), String>;

impl Readiness {
    /// The readiness of a broker with these parts. `disks` are directories that must
    /// have room, each with what it is for.
    pub fn new(
        jobs: Jobs,
        authsvc: Option<AuthService>,
        disks: Vec<(&'static str, PathBuf)>,
        places: Places,
        metrics: Metrics,
    ) -> Self {
        Self {
            jobs,
            authsvc,
            disks,
            places,
            metrics,
            found: Mutex::default(),
        }
    }

    /// Look at every part, unless that was done within a second.
    pub async fn report(&self) -> Report {
        let mut found = self.found.lock().await;
        if let Some((at, report)) = &*found
            && at.elapsed() < FRESH
        {
            return report.clone();
        }
        let report = self.look().await;
        *found = Some((Instant::now(), report.clone()));
        report
    }

    /// Bring the metrics up to date that are read where the numbers are kept.
    pub async fn measure(&self) {
        self.report().await;
        let waiting = self.jobs.load();
        self.metrics.queued(waiting.jobs, waiting.bytes);
        self.metrics.connections(self.places.taken());
    }

    async fn look(&self) -> Report {
        let late = |what: &str| Err(format!("{what} does not answer"));
        let store = async { self.jobs.ready().await.map_err(|error| error.to_string()) };
        let (store, authsvc, disk, clock) = tokio::join!(
            timeout(PATIENCE, store),
            timeout(PATIENCE, self.authsvc()),
            timeout(PATIENCE, self.disk()),
            timeout(PATIENCE, self.jobs.check_clock()),
        );
        let parts = [
            ("store", store.unwrap_or_else(|_| late("the database"))),
            (
                "authsvc",
                authsvc.unwrap_or_else(|_| late("the auth service")),
            ),
            (
                "shim",
                self.jobs.check_engine().map_err(|error| error.to_string()),
            ),
            ("disk", disk.unwrap_or_else(|_| late("the disk"))),
            ("clock", clock.unwrap_or_else(|_| late("the database"))),
        ];
        let parts = parts.map(|(part, found)| {
            self.metrics.ready(part, found.is_ok());
            Part {
                part,
                ok: found.is_ok(),
                problem: found.err(),
            }
        });
        Report {
            ready: parts.iter().all(|part| part.ok),
            parts: parts.into(),
        }
    }

    async fn authsvc(&self) -> Found {
        match &self.authsvc {
            None => Ok(()),
            Some(authsvc) => match authsvc.check().await {
                Ok(()) => Ok(()),
                Err(error) => Err(format!("{} ({error})", authsvc::told(&error))),
            },
        }
    }

    async fn disk(&self) -> Found {
        let disks = self.disks.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let free = |(name, dir): (&'static str, PathBuf)| (name, free(&dir));
            disks.into_iter().map(free).collect::<Vec<_>>()
        });
        let looked = looked.await.map_err(|error| error.to_string())?;
        let mut problems = Vec::new();
        for (name, free) in looked {
            match free {
                Ok(bytes) => {
                    self.metrics.free(name, bytes);
                    if bytes < LEAST {
                        problems.push(format!("the disk of the {name} is full"));
                    }
                }
                Err(error) => problems.push(format!("the disk of the {name}: {error}")),
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems.join("; ")),
        }
    }
}

/// The bytes that are left on the disk of `dir`.
fn free(dir: &Path) -> nix::Result<u64> {
    let of = statvfs(dir)?;
    Ok(of.blocks_available().saturating_mul(of.fragment_size()))
}
