//! Listing and finding.

use super::Jobs;
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::model::{Details, Job, JobId, State};
use crate::store::{Matches, Page, Query, Whose};

impl Jobs {
    /// Up to `limit` of the caller's jobs older than `below`, newest first; a
    /// part of them where all would take much memory ([`is_part`](super::is_part)).
    ///
    /// Errors: the store is away.
    pub async fn list(
        &self,
        caller: &Caller,
        below: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<Job>> {
        let whose = self.visible(caller).await?;
        self.0.store.list(whose, below, limit).await
    }

    /// The job, where `caller` may see it, with what lists leave out.
    ///
    /// Errors: as [`Jobs::find`].
    pub async fn details(&self, caller: &Caller, id: JobId) -> Result<(Job, Details)> {
        let job = self.find(caller, id).await?;
        let missing = || Error::new(Kind::NotFound, format!("Job {id} not found"));
        let details = self.0.store.details(id).await?.ok_or_else(missing)?;
        Ok((job, details))
    }

    /// The ids of the caller's jobs; of everybody's where jobs run as the
    /// server, as the Flux RESTful server has it.
    ///
    /// Errors: the store is away.
    pub async fn list_ids(
        &self,
        caller: &Caller,
        below: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<JobId>> {
        let whose = match &self.0.warrants {
            Some(_) => self.visible(caller).await?,
            None => Whose::All,
        };
        self.0.store.list_ids(whose, below, limit).await
    }

    /// The `limit` jobs behind the `start` newest of the caller's; a part of
    /// them as with [`Jobs::list`].
    ///
    /// Errors: the store is away.
    pub async fn page(&self, caller: &Caller, start: i64, limit: i64) -> Result<Page> {
        let whose = self.visible(caller).await?;
        self.0.store.page(whose, start, limit).await
    }

    /// The ids of the caller's jobs that hold `text`, or whose state is one of
    /// `states`, newest first: `limit` of them behind the `start` newest.
    ///
    /// Errors: the store is away.
    pub async fn search(
        &self,
        caller: &Caller,
        text: &str,
        states: &[State],
        start: i64,
        limit: i64,
    ) -> Result<Matches> {
        let whose = self.visible(caller).await?;
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

    /// The caller's jobs with these ids, newest first; a part of them where all
    /// would take much memory ([`is_part`](super::is_part)).
    ///
    /// Errors: the store is away.
    pub async fn found(&self, caller: &Caller, ids: &[JobId]) -> Result<Vec<Job>> {
        let whose = self.visible(caller).await?;
        self.0.store.found(whose, ids).await
    }
}
