//! Listing and finding.

use super::Jobs;
use super::permission::visible;
use crate::caller::Caller;
use crate::error::Result;
use crate::model::{Job, JobId, State};
use crate::store::{Page, Query, Whose};

impl Jobs {
    /// Up to `limit` of the caller's jobs older than `below`, newest first.
    ///
    /// Errors: the store is away.
    pub async fn list(
        &self,
        caller: &Caller,
        below: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<Job>> {
        self.0.store.list(visible(caller), below, limit).await
    }

    /// The ids of jobs. The list of ids is shared: everybody sees everybody's,
    /// as the Flux RESTful server has it where jobs run as the server.
    ///
    /// Errors: the store is away.
    pub async fn list_ids(&self, below: Option<JobId>, limit: i64) -> Result<Vec<JobId>> {
        self.0.store.list_ids(Whose::All, below, limit).await
    }

    /// The `limit` jobs behind the `start` newest of the caller's.
    ///
    /// Errors: the store is away.
    pub async fn page(&self, caller: &Caller, start: i64, limit: i64) -> Result<Page> {
        self.0.store.page(visible(caller), start, limit).await
    }

    /// The caller's jobs that hold `text`, or whose state is one of `states`.
    ///
    /// Errors: the store is away.
    pub async fn search(
        &self,
        caller: &Caller,
        text: &str,
        states: &[State],
        start: i64,
        limit: i64,
    ) -> Result<Page> {
        let whose = visible(caller);
        self.0
            .store
            .search(Query {
                whose,
                text,
                states,
                start,
                limit,
            })
            .await
    }
}
