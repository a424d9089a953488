//! Telling those who watch a job that something changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::model::JobId;

/// Who watches which job. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Live {
    watched: Arc<Mutex<HashMap<JobId, Weak<Notify>>>>,
}

/// One watcher's end. Dropped, it costs nothing more.
#[derive(Debug)]
pub struct Watch {
    job: JobId,
    notify: Arc<Notify>,
    live: Live,
}

impl Live {
    /// Watch a job. Look at the job after this call, and nothing is missed.
    pub fn watch(&self, job: JobId) -> Watch {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let notify = watched
            .get(&job)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                let notify = Arc::new(Notify::new());
                watched.insert(job, Arc::downgrade(&notify));
                notify
            });
        Watch {
            job,
            notify,
            live: self.clone(),
        }
    }

    /// Something changed about `job`, and the store knows it.
    pub fn announce(&self, job: JobId) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = watched.get(&job).and_then(Weak::upgrade) {
            notify.notify_waiters();
        }
    }
}

impl Watch {
    /// A future that ends at the next change after this call, even where it
    /// is first polled later. Source: `Notify::notified_owned`, which counts
    /// `notify_waiters` from its making on.
    pub fn changed(&self) -> OwnedNotified {
        self.notify.clone().notified_owned()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self
            .live
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(&self.notify) == 1 {
            watched.remove(&self.job);
        }
    }
}
