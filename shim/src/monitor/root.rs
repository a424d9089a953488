//! What a monitor that is root does: nothing runs without a warrant that is
//! in the journal.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use nix::unistd::{Gid, Uid};
use warrant_wire::record::Record;
use warrant_wire::warrant::hex;
use warrant_wire::{Claims, Placement, Refusal, Report, RunId, Stamp};

use super::Monitor;
use super::peers::PeerId;
use super::spare::Spare;
use crate::cgroup::Cgroups;
use crate::identity::Identity;
use crate::journal::{Journal, State, Task, Warrant};
use crate::keeper::Order;
use crate::keys::Keys;
use crate::policy::Policy;
use crate::self_check::Checked;
use crate::spool::{Spool, Standing};
use crate::warrant::{self, LEEWAY_S, sha256};
use crate::{audit, clock, hardening, sys};

/// A step of the clock of more than so many seconds is told.
const STEP_S: u64 = 60;
/// How often, each half a second long, what is left of a run is ended.
const END_TRIES: u32 = 20;
/// From how many tasks on those are looked for whose attempts count no more.
const MANY_RULED_OUT: usize = 1024;
/// Descriptors that runs must leave for connections and all else.
const SPARE_FILES: u64 = 128;

/// What it knows besides: whom to believe, and what is in the journal.
pub(super) struct Root {
    pub(super) policy: Policy,
    /// Who keepers are once they need not be root.
    pub(super) keeper: (Uid, Gid),
    pub(super) keys: Keys,
    pub(super) journal: Journal,
    /// What is answered once the journal is written, in order.
    asked: Vec<Asked>,
    /// Of admissions that wait: the latest attempt that was said never to
    /// begin.
    ruled_out: HashMap<Task, u32>,
    /// What the clock showed, and when that was.
    seen: (u64, Instant),
}

enum Asked {
    Admit(PeerId, RunId),
    Start(RunId, Spare),
}

fn now_s() -> u64 {
    clock::now_us() / 1_000_000
}

fn task_of(run: RunId) -> Task {
    (run.job, run.task)
}

impl Root {
    /// Errors: the journal cannot be used.
    pub(super) fn open(checked: Checked) -> io::Result<Self> {
        let (journal, cut_bytes) = Journal::open(&checked.policy.state)?;
        if cut_bytes > 0 {
            audit::line("journal-cut", &[("bytes", &cut_bytes.to_string())]);
        }
        Ok(Self {
            policy: checked.policy,
            keeper: checked.keeper,
            keys: checked.keys,
            journal,
            asked: Vec::new(),
            ruled_out: HashMap::new(),
            seen: (now_s(), Instant::now()),
        })
    }

    /// Finds the starts that were cut off between their mark and their
    /// keeper's record. Their runs are kept from beginning, and so the
    /// admissions may be used by later attempts.
    pub(super) fn rule_out_lost_starts(&mut self, spool: &Spool) {
        let all = self.journal.admissions();
        let used = all.filter_map(|(&(job, task), it)| match it.state {
            State::Used { attempt, boot_id } => Some((RunId { job, task, attempt }, boot_id)),
            State::Waiting => None,
        });
        for (run, boot_id) in used.collect::<Vec<_>>() {
            // After a crash of the machine, nobody knows whether a record is
            // missing because there never was one.
            if boot_id != spool.boot_id() {
                self.journal.begun(run);
                continue;
            }
            // Who makes the record, or changes an empty one, decides.
            let lost = Record::Refused(Refusal::LostStart);
            let cut_off = match spool.look(run) {
                Ok(Standing::Missing) => spool.rule_out(run, &lost).is_ok(),
                Ok(Standing::Free(file, Record::Empty)) => file.write(&lost).is_ok(),
                Ok(_) | Err(_) => false,
            };
            if cut_off {
                audit::of_run("lost-start", run, &[]);
            }
            match spool.look(run) {
                Ok(Standing::Free(_, record)) if record.is_passing() => {
                    self.journal.not_begun(run);
                }
                // Its keeper has not decided yet; it will be asked about.
                Ok(Standing::Unclear | Standing::Missing | Standing::Free(_, Record::Empty))
                | Err(_) => {}
                Ok(Standing::Free(..) | Standing::Kept(..)) => self.journal.begun(run),
            }
        }
    }

    /// Trusts the keys that are there now. Where there is any doubt about
    /// them, none is trusted.
    pub(super) fn reload_keys(&mut self) {
        let keys = Keys::load(&self.policy.keys);
        match &keys {
            Ok(keys) => audit::line("keys-loaded", &[("count", &keys.count().to_string())]),
            Err(doubt) => audit::line("keys-refused", &[("reason", &doubt.to_string())]),
        }
        self.keys = keys.unwrap_or_default();
    }

    /// Tells of a step of the clock. Running jobs do not care about it, and a
    /// warrant is judged by what the clock shows now.
    fn check_clock(&mut self, now_s: u64) {
        let (before_s, then) = self.seen;
        let expected_s = before_s.saturating_add(then.elapsed().as_secs());
        if now_s.abs_diff(expected_s) > STEP_S {
            let (now, expected) = (now_s.to_string(), expected_s.to_string());
            audit::line("clock-step", &[("now", &now), ("expected", &expected)]);
        }
        self.seen = (now_s, Instant::now());
    }

    fn is_ruled_out(&self, run: RunId) -> bool {
        let latest = self.ruled_out.get(&task_of(run));
        latest.is_some_and(|attempt| run.attempt <= *attempt)
    }

    /// Keeps this attempt, and those before it, from beginning while this
    /// monitor lives. No later one can be asked for what was asked of it.
    fn rule_out(&mut self, run: RunId) {
        let waiting = usize::try_from(self.journal.waiting().jobs).unwrap_or(usize::MAX);
        if self.ruled_out.len() >= MANY_RULED_OUT.max(waiting.saturating_mul(2)) {
            let journal = &self.journal;
            let waits = |task| {
                journal
                    .find(task)
                    .is_some_and(|it| it.state == State::Waiting)
            };
            self.ruled_out.retain(|task, _| waits(*task));
        }
        let latest = self.ruled_out.entry(task_of(run)).or_default();
        *latest = run.attempt.max(*latest);
    }

    /// Judges a warrant whose signature is right. Answers whether it is new:
    /// it may have been admitted for this task before.
    ///
    /// Errors: why it is refused.
    fn judge(&mut self, task: Task, claims: &Claims, launch: &[u8]) -> Result<bool, Refusal> {
        let now_s = now_s();
        self.check_clock(now_s);
        let is_pending = self.journal.is_pending(task, Some(&claims.jti));
        if is_pending || self.journal.is_used(&claims.jti) {
            let same = self.journal.find(task).is_some_and(|admission| {
                admission.state == State::Waiting
                    && admission.warrant.jti == claims.jti
                    && admission.warrant.sha256 == claims.job_sha256
            });
            return same.then_some(false).ok_or(Refusal::AlreadyUsed);
        }
        if now_s.saturating_add(LEEWAY_S) < self.journal.high_water_s() {
            return Err(Refusal::Clock);
        }
        warrant::in_time(claims, now_s)?;
        warrant::within_policy(claims, launch, &self.policy)?;
        self.check_share(claims.uid, launch.len() as u64)?;
        Ok(true)
    }

    /// See that one more admission of a user, with so many bytes, leaves room
    /// for others: each may have half of what the others leave.
    fn check_share(&self, uid: u32, bytes: u64) -> Result<(), Refusal> {
        let (all, own) = (self.journal.waiting(), self.journal.waiting_of(uid));
        let share = |most: u64, all: u64, own: u64| {
            most.saturating_sub(all.saturating_sub(own)).div_ceil(2)
        };
        let (most, most_bytes) = (self.policy.max_admitted, self.policy.max_admitted_bytes);
        if all.jobs >= most || all.bytes.saturating_add(bytes) > most_bytes {
            return Err(Refusal::Full);
        }
        if own.jobs >= share(most, all.jobs, own.jobs)
            || own.bytes.saturating_add(bytes) > share(most_bytes, all.bytes, own.bytes)
        {
            return Err(Refusal::Share);
        }
        Ok(())
    }
}

impl Monitor {
    /// Has the journal written if the next request about this run depends on
    /// it, or if enough waits.
    pub(super) fn settle(&mut self, run: RunId) {
        let is_due = |root: &Root| {
            root.journal.is_pending(task_of(run), None) || root.journal.is_batch_full()
        };
        if self.root.as_ref().is_some_and(is_due) {
            self.commit();
        }
    }

    /// Admits a warrant, or says why not.
    pub(super) fn admit(&mut self, peer: PeerId, run: RunId, warrant: &[u8], launch: &[u8]) {
        let Some(root) = &mut self.root else {
            return self.refuse(peer, run, Refusal::Mode, None);
        };
        let claims = warrant::authentic(warrant, &sha256(launch), &root.keys, &root.policy);
        let claims = match claims {
            Ok(claims) => claims,
            Err(refusal) => return self.refuse(peer, run, refusal, None),
        };
        match root.judge(task_of(run), &claims, launch) {
            Ok(false) => self.peers.answer(peer, &Report::Admitted { run }),
            Err(refusal) => self.refuse(peer, run, refusal, Some(&claims)),
            Ok(true) => {
                let warrant = Warrant {
                    jti: claims.jti,
                    sha256: claims.job_sha256,
                    iat_s: claims.iat,
                    exp_s: claims.exp,
                };
                let (name, uid) = (claims.sub, claims.uid);
                let identity = Identity { name, uid };
                root.journal.admit(task_of(run), warrant, identity, launch);
                root.asked.push(Asked::Admit(peer, run));
            }
        }
    }

    /// Refuses a warrant, whose claims are given if it is authentic.
    pub(super) fn refuse(
        &mut self,
        peer: PeerId,
        run: RunId,
        refusal: Refusal,
        claims: Option<&Claims>,
    ) {
        let why = ("reason", refusal.word());
        match claims {
            Some(it) => audit_user("refused", run, (&it.sub, it.uid, &it.jti), &[why]),
            None => audit::of_run("refused", run, &[why]),
        }
        self.peers.answer(peer, &Report::Refused { run, refusal });
    }

    /// Starts a run whose job was admitted, unless that was used.
    pub(super) fn start(
        &mut self,
        peer: PeerId,
        run: RunId,
        placement: Placement,
        stamp: Option<Stamp>,
    ) {
        if let Err(refusal) = self.whose(run, stamp) {
            return self.not_started(run, refusal);
        }
        let Some(root) = &mut self.root else {
            return self.not_started(run, Refusal::Mode);
        };
        // What there is of the run says more than the journal does.
        match self.spool.open_record(run) {
            Ok(None) if !self.runs.contains_key(&run) => {}
            Ok(_) => return self.watch(peer, run, true, stamp),
            Err(_) => return self.not_started(run, Refusal::Unprepared),
        }
        let refusal = match root.journal.find(task_of(run)).map(|it| it.state) {
            Some(State::Waiting) if root.is_ruled_out(run) => Refusal::LostStart,
            Some(State::Waiting) => match self.prepare(run, placement) {
                Ok(()) => return,
                Err(refusal) => refusal,
            },
            // A crash of the machine may have taken the record.
            Some(State::Used { attempt, boot_id })
                if attempt == run.attempt && boot_id != self.spool.boot_id() =>
            {
                return self.peers.report(&Report::Lost { run });
            }
            Some(State::Used { .. }) => Refusal::AlreadyUsed,
            None => Refusal::NotAdmitted,
        };
        self.not_started(run, refusal);
    }

    /// What there is to say of a run that never began, as the journal shows
    /// without a file being made: a broker may ask about any number of them.
    pub(super) fn never_began(&mut self, run: RunId, same_boot: bool) -> Option<Report> {
        let root = self.root.as_mut()?;
        let is_known = self.runs.contains_key(&run);
        if is_known || !matches!(self.spool.open_record(run), Ok(None)) {
            return None;
        }
        let refusal = match root.journal.find(task_of(run)).map(|it| it.state) {
            Some(State::Used { attempt, .. }) if attempt == run.attempt => return None,
            Some(State::Used { .. }) => Some(Refusal::AlreadyUsed),
            Some(State::Waiting) => {
                root.rule_out(run);
                None
            }
            // To start it is refused.
            None => None,
        };
        // A crash of the machine may have taken the record.
        Some(match same_boot {
            true => Report::NotStarted {
                run,
                errno: 0,
                refusal,
            },
            false => Report::Lost { run },
        })
    }

    pub(super) fn not_started(&mut self, run: RunId, refusal: Refusal) {
        audit::of_run("not-started", run, &[("reason", refusal.word())]);
        self.peers.report(&Report::NotStarted {
            run,
            errno: 0,
            refusal: Some(refusal),
        });
    }

    /// Forgets an admission that was not used.
    pub(super) fn revoke(&mut self, run: RunId, stamp: Option<Stamp>) {
        if self.whose(run, stamp).is_err() {
            return;
        }
        let Some(root) = &mut self.root else { return };
        let found = root.journal.find(task_of(run));
        if found.is_some_and(|admission| admission.state == State::Waiting) {
            root.journal.drop_waiting(task_of(run));
            let _ = self.spool.rule_out(run, &Record::Revoked);
            audit::of_run("revoked", run, &[]);
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
        for asked in asked {
            match (asked, &written) {
                (Asked::Admit(peer, run), Ok(())) => self.admitted(peer, run),
                (Asked::Admit(peer, run), Err(_)) => {
                    self.refuse(peer, run, Refusal::Journal, None);
                }
                (Asked::Start(run, spare), written) => {
                    if written.is_ok() {
                        audit::of_run("starting", run, &[]);
                    }
                    self.begin_to_watch(run, spare.release(written.is_ok()));
                    self.note_used(run);
                }
            }
        }
    }

    fn admitted(&mut self, peer: PeerId, run: RunId) {
        let journal = self.root.as_ref().map(|root| &root.journal);
        if let Some(it) = journal.and_then(|journal| journal.find(task_of(run))) {
            let who = (&*it.identity.name, it.identity.uid, &it.warrant.jti);
            audit_user("admitted", run, who, &[]);
        }
        self.peers.answer(peer, &Report::Admitted { run });
    }

    /// Gives a keeper a run whose admission waits. It may begin once its start
    /// is in the journal.
    ///
    /// Errors: why there is no keeper, and never was.
    fn prepare(&mut self, run: RunId, placement: Placement) -> Result<(), Refusal> {
        if self.runs.len() as u64 + SPARE_FILES >= self.open_files.1 {
            return Err(Refusal::Unprepared);
        }
        let journal = &self.root.as_ref().ok_or(Refusal::Mode)?.journal;
        let admission = journal.find(task_of(run)).ok_or(Refusal::NotAdmitted)?;
        let launch = journal.launch(admission).map_err(|_| Refusal::Journal)?;
        if sha256(&launch) != admission.warrant.sha256 {
            return Err(Refusal::Hash);
        }
        let identity = Some(admission.identity.clone());
        let stamp = admission.stamp();
        let order = Order {
            run,
            placement,
            launch,
            identity,
            stamp,
        };
        let spare = self.hire(order).map_err(|_| Refusal::Unprepared)?;
        if let Some(root) = &mut self.root {
            root.journal.start(run, self.spool.boot_id());
            root.asked.push(Asked::Start(run, spare));
        }
        Ok(())
    }

    /// Notes the last report of a run.
    pub(super) fn conclude(&mut self, last: &Report, is_witnessed: bool) {
        let run = last.run();
        let (event, why) = match last {
            Report::Ended { outcome, .. } => (
                "ended",
                format!("{:?}:{}", outcome.cause, outcome.wait_status),
            ),
            Report::NotStarted {
                refusal: Some(refusal),
                ..
            } => ("not-started", refusal.word().to_owned()),
            Report::NotStarted { errno, .. } => ("not-started", errno.to_string()),
            Report::Lost { .. } => ("lost", String::new()),
            Report::Started { .. }
            | Report::Admitted { .. }
            | Report::Refused { .. }
            | Report::Store { .. }
            | Report::Pong { .. } => return,
        };
        if is_witnessed {
            audit::of_run(event, run, &[("reason", &why)]);
        } else {
            // Asked for again, or what happened while nobody was here.
            audit::of_run("recalled", run, &[("as", event), ("reason", &why)]);
        }
        // Its keeper is not root any more; and it may have died too early.
        if let Some(cgroups) = &self.cgroups
            && !cgroups.remove(run)
        {
            end_left(cgroups, run);
        }
        // For a reason that passes: a later attempt may use its admission.
        let never_began = matches!(last, Report::NotStarted { refusal, .. } if refusal.is_none_or(Refusal::is_passing));
        match &mut self.root {
            Some(root) if never_began => root.journal.not_begun(run),
            Some(root) => root.journal.begun(run),
            None => {}
        }
    }
}

/// Ends what is left of a run whose keeper has. That may take a while, so a
/// process of its own does it, which nobody waits for.
fn end_left(cgroups: &Cgroups, run: RunId) {
    let tend = || {
        let is_apart =
            sys::fd::close_all_but(cgroups.dirs()).is_ok() && hardening::preparing_keeper().is_ok();
        i32::from(!(is_apart && (0..END_TRIES).any(|_| cgroups.end(run).is_ok())))
    };
    let between = sys::process::fork(|| i32::from(sys::process::fork(tend).is_err()));
    if let Ok(between) = between {
        let _ = sys::process::wait_for(between);
    }
}

/// Notes what became of a warrant: for whom it is, and its id.
fn audit_user(event: &str, run: RunId, who: (&str, u32, &[u8; 16]), more: &[(&str, &str)]) {
    let (user, uid, jti) = (who.0, who.1.to_string(), hex(who.2));
    let who = [("user", user), ("uid", &uid), ("jti", &jti)];
    audit::of_run(event, run, &[&who, more].concat());
}
