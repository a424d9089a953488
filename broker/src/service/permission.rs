//! Who may do what with which job: one function, asked at every use.

use super::Jobs;
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::model::{Job, JobId};
use crate::store::Whose;

impl Jobs {
    /// The job, where there is one and `caller` may see and control it.
    ///
    /// Errors: [`Kind::NotFound`]; [`Kind::Denied`] for somebody else's job,
    /// whose existence the shared list shows in any case; the store is away.
    pub async fn find(&self, caller: &Caller, id: JobId) -> Result<Job> {
        let missing = || Error::new(Kind::NotFound, format!("Job {id} not found"));
        let job = self.0.store.find(id).await?.ok_or_else(missing)?;
        if caller.sees_all() || job.owner.name == caller.name {
            Ok(job)
        } else {
            let message = format!("{} does not own job {id}", caller.name);
            Err(Error::new(Kind::Denied, message))
        }
    }
}

/// Whose jobs `caller` sees with all their details.
pub(super) fn visible(caller: &Caller) -> Whose<'_> {
    if caller.sees_all() {
        Whose::All
    } else {
        Whose::Owner(&caller.name)
    }
}
