//! What a monitor that is root does: nothing runs without a warrant that is
//! in the journal.

use warrant_wire::warrant::hex;
use warrant_wire::{Limits, Placement, Refusal, Report, RunId};

use super::Monitor;
use super::peers::PeerId;
use super::root::{Asked, Root, now_s, task_of};
use super::watch::Keeper;
use crate::identity::{Identity, OnBehalf};
use crate::journal::{State, Warrant};
use crate::warrant::{self, sha256};
use crate::{audit, hardening, sys};

/// How often, each half a second long, what is left of a lost run is ended.
const END_TRIES: u32 = 20;
/// Descriptors that runs must leave for connections and all else.
const SPARE_FILES: u64 = 128;

impl Monitor {
    /// Admits a warrant, or says why not.
    pub(super) fn admit(&mut self, peer: PeerId, run: RunId, warrant: &[u8], launch: &[u8]) {
        let refused = |refusal| Report::Refused { run, refusal };
        let Some(root) = &mut self.root else {
            return self.peers.answer(peer, &refused(Refusal::Mode));
        };
        let now_s = now_s();
        root.check_clock(now_s);
        let authentic = warrant::authentic(warrant, &sha256(launch), &root.keys, &root.policy);
        let claims = match authentic {
            Ok(claims) => claims,
            Err(refusal) => {
                audit_run("refused", run, &[("reason", refusal.word())]);
                return self.peers.answer(peer, &refused(refusal));
            }
        };
        let task = task_of(run);
        if root.journal.is_pending(task, Some(&claims.jti)) {
            self.commit();
        }
        let Some(root) = &mut self.root else { return };
        match root.judge(task, &claims, launch, now_s) {
            Ok(true) => {
                let warrant = Warrant {
                    jti: claims.jti,
                    sha256: claims.job_sha256,
                    iat_s: claims.iat,
                    exp_s: claims.exp,
                };
                let identity = Identity {
                    name: claims.sub,
                    uid: claims.uid,
                };
                root.journal.admit(task, warrant, identity, launch);
                root.asked.push(Asked::Admit { peer, run });
                if root.journal.is_batch_full() {
                    self.commit();
                }
            }
            Ok(false) => self.peers.answer(peer, &Report::Admitted { run }),
            Err(refusal) => {
                let (name, why) = (&claims.sub, [("reason", refusal.word())]);
                audit_user("refused", run, name, claims.uid, &claims.jti, &why);
                self.peers.answer(peer, &refused(refusal));
            }
        }
    }

    /// Starts a run whose job was admitted, unless that was used.
    pub(super) fn start(&mut self, peer: PeerId, run: RunId, placement: Placement) {
        if self.root.is_none() {
            return self.not_started(run, Refusal::Mode);
        }
        let task = task_of(run);
        let pending = |root: &Root| root.journal.is_pending(task, None);
        if self.root.as_ref().is_some_and(pending) {
            self.commit();
        }
        // What there is of the run says more than the journal does.
        match self.spool.open_record(run) {
            Ok(None) if !self.runs.contains_key(&run) => {}
            Ok(_) => return self.watch(peer, run, true),
            Err(_) => return self.not_started(run, Refusal::Unprepared),
        }
        let Some(root) = &mut self.root else { return };
        let refusal = match root.journal.find(task).map(|admission| admission.state) {
            Some(State::Waiting) => {
                root.journal.start(run, self.spool.boot_id());
                root.asked.push(Asked::Start { run, placement });
                if root.journal.is_batch_full() {
                    self.commit();
                }
                return;
            }
            Some(State::Used { attempt, boot_id }) if attempt == run.attempt => {
                // A crash of the machine may have taken the record.
                if boot_id != self.spool.boot_id() {
                    return self.peers.report(&Report::Lost { run });
                }
                Refusal::LostStart
            }
            Some(State::Used { .. }) => Refusal::AlreadyUsed,
            None => Refusal::NotAdmitted,
        };
        self.not_started(run, refusal);
    }

    pub(super) fn not_started(&mut self, run: RunId, refusal: Refusal) {
        audit_run("not-started", run, &[("reason", refusal.word())]);
        self.peers.report(&Report::NotStarted {
            run,
            errno: 0,
            refusal: Some(refusal),
        });
    }

    /// Forgets an admission that was not used.
    pub(super) fn revoke(&mut self, run: RunId) {
        let task = task_of(run);
        let pending = |root: &Root| root.journal.is_pending(task, None);
        if self.root.as_ref().is_some_and(pending) {
            self.commit();
        }
        let Some(root) = &mut self.root else { return };
        let found = root.journal.find(task);
        if found.is_some_and(|admission| admission.state == State::Waiting) {
            root.journal.drop_waiting(task);
            let _ = self.spool.revoke_missing(run);
            audit_run("revoked", run, &[]);
        }
    }

    /// Writes what waits for the journal, then does what waited for that.
    pub(super) fn commit(&mut self) {
        let Some(root) = &mut self.root else { return };
        let asked = std::mem::take(&mut root.asked);
        let written = root.journal.commit(now_s());
        if let Err(error) = &written {
            audit::line("journal-failed", &[("reason", &error.to_string())]);
        }
        let is_written = written.is_ok();
        for asked in asked {
            match asked {
                Asked::Admit { peer, run } if is_written => self.admitted(peer, run),
                Asked::Admit { peer, run } => {
                    let refusal = Refusal::Journal;
                    audit_run("refused", run, &[("reason", refusal.word())]);
                    self.peers.answer(peer, &Report::Refused { run, refusal });
                }
                Asked::Start { run, placement } if is_written => self.begin(run, &placement),
                Asked::Start { run, .. } => self.not_started(run, Refusal::Journal),
            }
        }
    }

    fn admitted(&mut self, peer: PeerId, run: RunId) {
        let found = self
            .root
            .as_ref()
            .and_then(|root| root.journal.find(task_of(run)));
        if let Some(admission) = found {
            let Identity { name, uid } = &admission.identity;
            audit_user("admitted", run, name, *uid, &admission.warrant.jti, &[]);
        }
        self.peers.answer(peer, &Report::Admitted { run });
    }

    /// Forks the keeper of a run whose start is in the journal.
    fn begin(&mut self, run: RunId, placement: &Placement) {
        match self.try_begin(run, placement) {
            Ok(keeper) => {
                audit_run("starting", run, &[]);
                self.begin_to_watch(run, keeper);
            }
            Err(refusal) => {
                if let Some(root) = &mut self.root {
                    match refusal.is_passing() {
                        true => root.journal.not_begun(run),
                        false => root.journal.begun(run),
                    }
                }
                self.not_started(run, refusal);
            }
        }
    }

    /// Errors: why there is no keeper, and never was.
    fn try_begin(&self, run: RunId, placement: &Placement) -> Result<Keeper, Refusal> {
        if self.runs.len() as u64 + SPARE_FILES >= self.open_files.1 {
            return Err(Refusal::Unprepared);
        }
        let root = self.root.as_ref().ok_or(Refusal::Mode)?;
        let admission = root
            .journal
            .find(task_of(run))
            .ok_or(Refusal::NotAdmitted)?;
        let launch = root
            .journal
            .launch(admission)
            .map_err(|_| Refusal::Journal)?;
        if sha256(&launch) != admission.warrant.sha256 {
            return Err(Refusal::Hash);
        }
        let limits = Limits::read(&launch).map_err(|_| Refusal::LaunchMalformed)?;
        let limits = root.policy.bound(limits)?;
        let on_behalf = OnBehalf {
            identity: &admission.identity,
            policy: &root.policy,
        };
        self.fork_keeper(run, limits, placement, &launch, Some(on_behalf))
            .map_err(|_| Refusal::Unprepared)
    }

    /// Notes the last report of a run. One that certainly never began, for a
    /// reason that passes, gives its admission back to a later attempt.
    pub(super) fn conclude(&mut self, last: &Report, is_witnessed: bool) {
        let (event, why) = match last {
            Report::Ended { outcome, .. } => (
                "ended",
                format!("{:?}:{}", outcome.cause, outcome.wait_status),
            ),
            Report::NotStarted { errno, refusal, .. } => (
                "not-started",
                refusal.map_or_else(|| errno.to_string(), |refusal| refusal.word().to_owned()),
            ),
            Report::Lost { .. } => {
                self.end_lost(last.run());
                ("lost", String::new())
            }
            Report::Started { .. } | Report::Admitted { .. } | Report::Refused { .. } => return,
        };
        let run = last.run();
        if is_witnessed {
            audit_run(event, run, &[("reason", &why)]);
        } else {
            // Asked for again, or what happened while nobody was here.
            audit_run("recalled", run, &[("as", event), ("reason", &why)]);
        }
        let Some(root) = &mut self.root else { return };
        if matches!(last, Report::NotStarted { refusal, .. } if refusal.is_none_or(Refusal::is_passing))
        {
            root.journal.not_begun(run);
        } else {
            root.journal.begun(run);
        }
    }

    /// Ends what is left of a run that has lost its keeper. That may take a
    /// while, so a process of its own does it, which nobody waits for.
    fn end_lost(&self, run: RunId) {
        let Some(cgroups) = &self.cgroups else { return };
        let tend = || {
            let is_apart = sys::fd::close_all_but(cgroups.raw_fds().collect()).is_ok()
                && hardening::preparing_keeper().is_ok();
            i32::from(!(is_apart && (0..END_TRIES).any(|_| cgroups.end(run).is_ok())))
        };
        let between = sys::process::fork(|| i32::from(sys::process::fork(tend).is_err()));
        if let Ok(between) = between {
            let _ = sys::process::wait_for(between);
        }
    }
}

pub(super) fn audit_run(event: &str, run: RunId, more: &[(&str, &str)]) {
    let run = run.to_string();
    let fields: Vec<_> = [("run", run.as_str())]
        .iter()
        .chain(more)
        .copied()
        .collect();
    audit::line(event, &fields);
}

fn audit_user(
    event: &str,
    run: RunId,
    name: &str,
    uid: u32,
    jti: &[u8; 16],
    more: &[(&str, &str)],
) {
    let (uid, jti) = (uid.to_string(), hex(jti));
    let user = [("user", name), ("uid", &uid), ("jti", &jti)];
    let fields: Vec<_> = user.iter().chain(more).copied().collect();
    audit_run(event, run, &fields);
}
