//! Which job store the monitor serves. The monitor is the authority: a broker
//! names its store, and what the spool and the journal are of another store's
//! is never taken for this one's.

use std::io;
use std::path::Path;

use nix::sys::signal::SigSet;
use warrant_wire::{Bond, Refusal, Report, Request, RunId, Stamp, StoreId};

use super::Monitor;
use super::peers::PeerId;
use super::single_user::open_spool;
use crate::journal::Journal;
use crate::self_check::{self, about};
use crate::spool::Spool;
use crate::store_file::{Owner, StoreFile};
use crate::{audit, clock};

impl Monitor {
    /// The highest number of a job that was used here, or may have been.
    fn highest_job(&self) -> u64 {
        let journal = self.root.as_ref().map(|root| root.journal.highest_job());
        self.store.highest_job().max(journal.unwrap_or_default())
    }

    /// The stores that spool and journal belong to.
    pub(super) fn owners(&self) -> [Option<StoreId>; 2] {
        let spool = match self.store.owner() {
            Owner::Store(store) => Some(store),
            Owner::New | Owner::Nobody | Owner::Unknown => None,
        };
        let journal = self.root.as_ref().and_then(|root| root.journal.store());
        [spool, journal]
    }

    /// What the spool and the journal are to a store.
    fn bond(&self, store: StoreId, adopt: bool) -> Bond {
        let mut owners = self.owners().into_iter().flatten().peekable();
        if owners.peek().is_some() {
            let other = owners.find(|owner| *owner != store);
            return other.map_or(Bond::Ours, Bond::Foreign);
        }
        let has_jobs = match self.store.owner() {
            Owner::Unknown => true,
            // A broker or a journal of an earlier version may have had some.
            Owner::New => self.highest_job() > 0,
            Owner::Nobody | Owner::Store(_) => false,
        };
        match has_jobs && !adopt {
            true => Bond::Unclaimed,
            false => Bond::Ours,
        }
    }

    /// Notes that a run's number is used. Nothing waits for it: the files of the
    /// run say so too, and what was admitted is in the journal.
    pub(super) fn note_used(&mut self, run: RunId) {
        if let Err(error) = self.store.use_job(run.job) {
            audit::line("number-not-noted", &[("reason", &error.to_string())]);
        }
    }

    /// Takes the name of a broker's store, and answers what is here to it.
    pub(super) fn name_store(&mut self, peer: PeerId, store: StoreId, adopt: bool) {
        let bond = self.bond(store, adopt);
        if bond == Bond::Ours
            && self.owners().contains(&None)
            && let Err(error) = self.give_to(store)
        {
            audit::line("store-not-noted", &[("reason", &error.to_string())]);
            return self.peers.close(peer, "the store could not be noted");
        }
        if self.owners() != [None, None] {
            self.peers.serve_named_only();
        }
        let word = match bond {
            Bond::Ours => "ours",
            Bond::Unclaimed => "unclaimed",
            Bond::Foreign(_) => "foreign",
        };
        let named = [("store", store.to_string()), ("bond", word.to_owned())];
        audit::line(
            "store",
            &named.each_ref().map(|(key, value)| (*key, &**value)),
        );
        self.peers.set_served(peer, bond == Bond::Ours);
        let highest_job = self.highest_job();
        self.peers
            .answer(peer, &Report::Store { bond, highest_job });
    }

    fn give_to(&mut self, store: StoreId) -> io::Result<()> {
        if let Some(root) = &mut self.root
            && root.journal.store().is_none()
        {
            root.journal.give_to(Some(store));
            root.journal.commit(clock::now_us() / 1_000_000)?;
        }
        match self.store.owner() {
            Owner::Store(_) => Ok(()),
            Owner::New | Owner::Nobody | Owner::Unknown => {
                self.store.give_to(Owner::Store(store), &self.spool)
            }
        }
    }

    /// Whether a request is to be done.
    ///
    /// Errors: why not.
    pub(super) fn may_serve(&self, peer: PeerId, request: &Request) -> Result<(), Refusal> {
        if matches!(request, Request::Store { .. } | Request::Ping { .. }) {
            return Ok(());
        }
        if !self.peers.is_served(peer) {
            return Err(Refusal::OtherStore);
        }
        let is_bound = match request {
            Request::Launch { .. }
            | Request::Admit { .. }
            | Request::Start { .. }
            | Request::Watch { .. } => true,
            // They make nothing.
            Request::Signal { .. }
            | Request::Revoke { .. }
            | Request::Ping { .. }
            | Request::Of { .. }
            | Request::Store { .. } => false,
        };
        match is_bound && !StoreFile::is_in_reach(request.run().job, self.highest_job()) {
            true => Err(Refusal::JobNumber),
            false => Ok(()),
        }
    }

    /// Answers a request that is not done. Of a run of another store there is
    /// nothing to say.
    pub(super) fn decline(&mut self, peer: PeerId, request: &Request, refusal: Refusal) {
        let run = request.run();
        match request {
            Request::Admit { .. } => self.refuse(peer, run, refusal, None),
            Request::Watch { .. } if refusal == Refusal::OtherStore => {}
            Request::Launch { .. } | Request::Start { .. } | Request::Watch { .. } => {
                audit::of_run("not-started", run, &[("reason", refusal.word())]);
                self.peers.answer(peer, &not_started(run, refusal));
            }
            Request::Signal { .. }
            | Request::Revoke { .. }
            | Request::Ping { .. }
            | Request::Of { .. }
            | Request::Store { .. } => {}
        }
    }

    /// Whose a run must be that a broker asks about: what was admitted says
    /// more than the broker does.
    ///
    /// Errors: the two do not agree.
    pub(super) fn whose(&self, run: RunId, said: Option<Stamp>) -> Result<Option<Stamp>, Refusal> {
        let task = (run.job, run.task);
        let journal = self.root.as_ref().map(|root| &root.journal);
        let admitted = journal.and_then(|journal| journal.find(task));
        match (admitted.map(|it| it.stamp()), said) {
            (Some(admitted), Some(said)) if !admitted.agrees_with(&said) => Err(Refusal::OtherJob),
            (Some(admitted), _) => Ok(Some(admitted)),
            (None, said) => Ok(said),
        }
    }
}

fn not_started(run: RunId, refusal: Refusal) -> Report {
    let (errno, refusal) = (0, Some(refusal));
    Report::NotStarted {
        run,
        errno,
        refusal,
    }
}

/// Makes the spool and the journal of a policy nobody's, so that the next
/// store that a broker names becomes theirs. Jobs that waited are forgotten;
/// those that run go on, and no number that was used is used again. Answers the
/// highest number.
///
/// Errors: as [`super::open`]; a monitor serves them.
pub fn release(policy_file: &Path) -> io::Result<u64> {
    let policy = self_check::check(policy_file, &[])?.policy;
    let mut journal = Journal::open(&policy.state)?.0;
    let used = release_in(Spool::open(&policy.spool), &policy.spool, |spool, store| {
        journal.give_to(None);
        journal.commit(clock::now_us() / 1_000_000)?;
        store.give_to(Owner::Nobody, spool)
    })?;
    Ok(used.max(journal.highest_job()))
}

/// The same for the spool of a broker that starts its own monitor.
///
/// Errors: the spool is another user's; a monitor serves it; it cannot be
/// written.
pub fn release_spool(path: &Path) -> io::Result<u64> {
    release_in(open_spool(path), path, |spool, store| {
        store.give_to(Owner::Nobody, spool)
    })
}

fn release_in(
    spool: io::Result<Spool>,
    path: &Path,
    release: impl FnOnce(&Spool, &mut StoreFile) -> io::Result<()>,
) -> io::Result<u64> {
    let about = about(path);
    let spool = spool.map_err(&about)?;
    // Half of it done is worse than late.
    SigSet::all().thread_block()?;
    let mut store = StoreFile::open(&spool).map_err(&about)?;
    release(&spool, &mut store).map_err(&about)?;
    Ok(store.highest_job())
}
