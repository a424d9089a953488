//! Who may do what with which job: one function, asked at every use.

use std::sync::PoisonError;

use warrant_api::token::Role;

use super::Jobs;
use crate::caller::{Caller, is_at_least};
use crate::error::{Error, Kind, Result};
use crate::model::{Job, JobId};
use crate::store::Whose;

impl Jobs {
    /// The job, where there is one and `caller` may see and control it.
    ///
    /// Errors: [`Kind::NotFound`]; somebody else's job is not found either
    /// where jobs run as users, and [`Kind::Denied`] where they do not, since
    /// the shared list shows it in any case; the store is away.
    pub async fn find(&self, caller: &Caller, id: JobId) -> Result<Job> {
        Ok(self.look(caller, id).await?.0)
    }

    /// What is to be known of a job that [`Jobs::find`] has found, in words.
    ///
    /// Errors: the store is away.
    pub async fn remarks(&self, job: &Job) -> Result<Vec<String>> {
        self.0.store.remarks(job.id).await
    }

    /// The job, where `caller` may read what it writes as well: operators see
    /// other people's jobs, and do not read their output.
    ///
    /// Errors: as [`Jobs::find`], and [`Kind::Denied`].
    pub(super) async fn find_to_read(&self, caller: &Caller, id: JobId) -> Result<Job> {
        let (job, own) = self.look(caller, id).await?;
        if own || caller.reads_all() {
            return Ok(job);
        }
        self.refused(caller, "read", Some(id), "role");
        let message = format!("{} may not read the output of job {id}", caller.name);
        Err(Error::new(Kind::Denied, message))
    }

    /// The job, and whether it is the caller's own.
    async fn look(&self, caller: &Caller, id: JobId) -> Result<(Job, bool)> {
        let missing = || Error::new(Kind::NotFound, format!("Job {id} not found"));
        let job = self.0.store.find(id).await?.ok_or_else(missing)?;
        let own = match &self.0.warrants {
            Some(_) => job.owner.uid.is_some() && job.owner.uid == caller.uid,
            None => job.owner.name == caller.name,
        };
        if caller.sees_all() || own {
            return Ok((job, own));
        }
        self.refused(caller, "job", Some(id), "foreign");
        if self.0.warrants.is_some() {
            Err(missing())
        } else {
            let message = format!("{} does not own job {id}", caller.name);
            Err(Error::new(Kind::Denied, message))
        }
    }

    /// Whose jobs `caller` sees with all their details.
    ///
    /// Errors: [`Kind::Denied`] where the jobs under this name are of another
    /// account; the store is away.
    pub(super) async fn visible<'a>(&self, caller: &'a Caller) -> Result<Whose<'a>> {
        if caller.sees_all() {
            return Ok(Whose::All);
        }
        self.check_account(caller).await?;
        Ok(Whose::Owner(&caller.name))
    }

    /// See that the jobs under the caller's name are of the caller's account.
    /// A name that was given to somebody else does not come with the jobs of
    /// who had it before.
    pub(super) async fn check_account(&self, caller: &Caller) -> Result<()> {
        let (Some(uid), Some(_)) = (caller.uid, &self.0.warrants) else {
            return Ok(());
        };
        let known = || {
            self.0
                .accounts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if known().get(&caller.name) == Some(&uid) {
            return Ok(());
        }
        match self.0.store.account(&caller.name).await? {
            Some(other) if other != uid => Err(Error::new(
                Kind::Denied,
                "The jobs under this name are of another account with the same name. \
                 An administrator must look into it.",
            )),
            Some(_) => {
                let mut known = known();
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(caller.name.clone(), uid);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// See that `caller` has the role `least` at least.
///
/// Errors: [`Kind::Denied`].
pub fn check_role(caller: &Caller, least: Role) -> Result<()> {
    let message = if is_at_least(caller.role, least) {
        return Ok(());
    } else if caller.anonymous {
        "This action requires a superuser, but the auth backend is 'none'."
    } else {
        "The user doesn't have enough privileges"
    };
    Err(Error::new(Kind::Denied, message))
}

/// The most accounts remembered.
const REMEMBERED: usize = 10_000;
