//! Whom a run is for, as its warrant says.

use crate::policy::Policy;

/// The account that a warrant names. Both must agree with the system's
/// account database before anything is done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
}

/// What a keeper needs to run a job as another user.
#[derive(Debug, Clone, Copy)]
pub struct OnBehalf<'a> {
    /// Whom the run is for.
    pub identity: &'a Identity,
    /// What the machine's administrator allows.
    pub policy: &'a Policy,
}
