//! What a journal must remember.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use warrant_shim::identity::Identity;
use warrant_shim::journal::{Journal, State, Task, Warrant};
use warrant_shim::warrant::LEEWAY_S;
use warrant_wire::RunId;

pub(super) const BOOT_ID: [u8; 16] = [9; 16];

/// All that is known at one moment.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) admissions: BTreeMap<Task, Known>,
    /// When each warrant ends that was ever admitted.
    pub(super) ends: BTreeMap<[u8; 16], u64>,
    pub(super) high_water_s: u64,
}

/// A job that was admitted.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) warrant: Warrant,
    pub(super) identity: Identity,
    pub(super) launch: Rc<[u8]>,
    /// The attempt that used it.
    pub(super) used_by: Option<u32>,
}

/// What is written together.
pub(super) enum Entry {
    Admitted(Task, Known),
    Started(RunId),
}

impl Model {
    pub(super) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Admitted(task, known) => {
                self.ends.insert(known.warrant.jti, known.warrant.exp_s);
                self.admissions.insert(task, known);
            }
            Entry::Started(run) => {
                let known = self.admissions.get_mut(&(run.job, run.task));
                known.expect("only what waits is started").used_by = Some(run.attempt);
            }
        }
    }

    /// Fails unless the journal says the same. `begun` are the runs of which
    /// it has heard, at some time, that they have begun.
    pub(super) fn assert_is(&self, journal: &Journal, begun: &BTreeSet<RunId>) {
        for (task, known) in &self.admissions {
            let (job, number) = *task;
            let found = journal.find(*task);
            let expected = match known.used_by {
                None => State::Waiting,
                Some(attempt) => State::Used {
                    attempt,
                    boot_id: BOOT_ID,
                },
            };
            let Some(found) = found else {
                // What has begun is forgotten once its warrant is over.
                let attempt = known.used_by.expect("what waits is remembered");
                let run = RunId {
                    job,
                    task: number,
                    attempt,
                };
                assert!(begun.contains(&run) && self.is_over(known.warrant.exp_s));
                continue;
            };
            assert_eq!(found.state, expected, "{task:?}");
            assert_eq!(found.warrant, known.warrant);
            assert_eq!(found.identity, known.identity);
            if found.state == State::Waiting {
                let launch = journal.launch(found).unwrap();
                assert!(*launch == *known.launch, "{task:?}: another launch");
            }
        }
        for (task, _) in journal.admissions() {
            assert!(self.admissions.contains_key(task), "{task:?} is back");
        }
        assert_eq!(journal.high_water_s(), self.high_water_s);
        for (jti, exp_s) in &self.ends {
            let is_remembered = journal.is_used(jti);
            assert!(is_remembered || self.is_over(*exp_s), "a warrant is back");
        }
    }

    /// How many wait to be started.
    pub(super) fn waiting(&self) -> usize {
        let waits = |known: &&Known| known.used_by.is_none();
        self.admissions.values().filter(waits).count()
    }

    /// Whether nobody admits a warrant that ends then any more: the monitor
    /// admits none while its clock is so far behind the mark.
    fn is_over(&self, exp_s: u64) -> bool {
        self.high_water_s >= exp_s.saturating_add(LEEWAY_S)
    }
}
