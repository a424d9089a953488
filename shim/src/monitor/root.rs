//! What a monitor that is root knows besides: whom to believe, and what is in
//! the journal.

use std::time::Instant;

use warrant_wire::record::Record;
use warrant_wire::{Claims, Placement, Refusal, RunId};

use super::admission::audit_run;
use super::peers::PeerId;
use crate::journal::{Journal, State, Task};
use crate::keys::Keys;
use crate::policy::Policy;
use crate::self_check::Doubt;
use crate::spool::{Spool, Standing};
use crate::warrant::{self, LEEWAY_S};
use crate::{audit, clock};

/// A step of the clock of more than so many seconds is told.
const STEP_S: u64 = 60;

/// What it knows for that.
pub(super) struct Root {
    pub(super) policy: Policy,
    pub(super) keys: Keys,
    pub(super) journal: Journal,
    /// What waits for the journal's disk, in order.
    pub(super) asked: Vec<Asked>,
    /// What the clock showed, and when that was.
    seen: (u64, Instant),
}

/// What is answered once the journal is written.
pub(super) enum Asked {
    Admit { peer: PeerId, run: RunId },
    Start { run: RunId, placement: Placement },
}

pub(super) fn now_s() -> u64 {
    clock::now_us() / 1_000_000
}

pub(super) fn task_of(run: RunId) -> Task {
    (run.job, run.task)
}

impl Root {
    /// Errors: the journal cannot be used.
    pub(super) fn open(policy: Policy, keys: Keys) -> Result<Self, Doubt> {
        let (journal, cut_bytes) = Journal::open(&policy.state)?;
        if cut_bytes > 0 {
            audit::line("journal-cut", &[("bytes", &cut_bytes.to_string())]);
        }
        Ok(Self {
            policy,
            keys,
            journal,
            asked: Vec::new(),
            seen: (now_s(), Instant::now()),
        })
    }

    /// Sees to it that a start that was cut off between its mark and its
    /// keeper is known as that: it is not tried again.
    pub(super) fn rule_out_lost_starts(&mut self, spool: &Spool) {
        let used = self.journal.admissions().filter_map(|(task, admission)| {
            let (job, task) = *task;
            match admission.state {
                State::Waiting => None,
                State::Used { attempt, boot_id } => Some((RunId { job, task, attempt }, boot_id)),
            }
        });
        for (run, boot_id) in used.collect::<Vec<_>>() {
            let lost = Record::Refused(Refusal::LostStart);
            let is_lost = match spool.look(run) {
                // After a crash of the machine, nobody knows whether a record
                // is missing because there never was one.
                _ if boot_id != spool.boot_id() => false,
                Ok(Standing::Missing) => spool.rule_out(run, &lost).is_ok(),
                Ok(Standing::Free(file, Record::Empty)) => file.write(&lost).is_ok(),
                Ok(Standing::Free(_, Record::Refused(refusal))) if refusal.is_passing() => continue,
                Ok(Standing::Unclear) | Err(_) => continue,
                Ok(Standing::Free(..) | Standing::Kept(..)) => false,
            };
            self.journal.begun(run);
            if is_lost {
                audit_run("lost-start", run, &[]);
            }
        }
    }

    /// Trusts the keys that are there now. Where there is any doubt about
    /// them, none is trusted.
    pub(super) fn reload_keys(&mut self) {
        match Keys::load(&self.policy.keys) {
            Ok(keys) => {
                audit::line("keys-loaded", &[("count", &keys.count().to_string())]);
                self.keys = keys;
            }
            Err(doubt) => {
                audit::line("keys-refused", &[("reason", &doubt.to_string())]);
                self.keys = Keys::default();
            }
        }
    }

    /// Tells of a step of the clock. Running jobs do not care about it, and a
    /// warrant is judged by what the clock shows now.
    pub(super) fn check_clock(&mut self, now_s: u64) {
        let (before_s, then) = self.seen;
        let expected_s = before_s.saturating_add(then.elapsed().as_secs());
        if now_s.abs_diff(expected_s) > STEP_S {
            let (now, expected) = (now_s.to_string(), expected_s.to_string());
            audit::line("clock-step", &[("now", &now), ("expected", &expected)]);
        }
        self.seen = (now_s, Instant::now());
    }

    /// Judges a warrant whose signature is right.
    ///
    /// Errors: why it is refused. `Ok(false)` if it was admitted before.
    pub(super) fn judge(
        &mut self,
        task: Task,
        claims: &Claims,
        launch: &[u8],
        now_s: u64,
    ) -> Result<bool, Refusal> {
        if self.journal.is_used(&claims.jti) {
            let same = self.journal.find(task).is_some_and(|admission| {
                admission.state == State::Waiting
                    && admission.warrant.jti == claims.jti
                    && admission.warrant.sha256 == claims.job_sha256
            });
            return if same {
                Ok(false)
            } else {
                Err(Refusal::AlreadyUsed)
            };
        }
        if now_s.saturating_add(LEEWAY_S) < self.journal.high_water_s() {
            return Err(Refusal::Clock);
        }
        warrant::in_time(claims, now_s)?;
        warrant::within_policy(claims, launch, &self.policy)?;
        if self.journal.waiting() as u64 >= self.policy.max_admitted {
            return Err(Refusal::Full);
        }
        Ok(true)
    }
}
