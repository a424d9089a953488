//! What the journal says, in memory.

use std::collections::{HashMap, VecDeque};

use warrant_wire::{Cursor, RunId};

use super::entry::{Entry, Task, Warrant};
use super::segment::Segment;
use crate::identity::Identity;
use crate::warrant::LEEWAY_S;

/// How often, in seconds, warrants that have ended are looked for.
const PURGE_S: u64 = 30;

/// The sum of all entries.
#[derive(Default)]
pub(super) struct Index {
    pub(super) segments: VecDeque<Segment>,
    pub(super) admissions: HashMap<Task, Admission>,
    /// When the warrants end that must not come again.
    pub(super) used: HashMap<[u8; 16], u64>,
    pub(super) waiting: usize,
    pub(super) high_water_s: u64,
    purged_s: u64,
}

/// A job that was admitted.
#[derive(Debug, Clone)]
pub struct Admission {
    /// By which warrant.
    pub warrant: Warrant,
    /// For whom.
    pub identity: Identity,
    /// Whether it may be started.
    pub state: State,
    pub(super) place: Place,
    /// Whether its launch may still be read: it waits, or it was used and
    /// nobody knows yet whether its run began.
    pub(super) is_live: bool,
}

/// Where a launch is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

/// Whether an admission may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may.
    Waiting,
    /// It was used.
    Used {
        /// By which attempt.
        attempt: u32,
        /// In which boot of the machine.
        boot_id: [u8; 16],
    },
}

impl Index {
    /// Whether a run has used its task's admission, and nobody has said yet
    /// whether it began.
    pub(super) fn is_begin_open(&self, run: RunId) -> bool {
        self.admissions.get(&(run.job, run.task)).is_some_and(|admission| {
            admission.is_live
                && matches!(admission.state, State::Used { attempt, .. } if attempt == run.attempt)
        })
    }

    /// Applies the entries of a frame's body, which begins at `offset`.
    pub(super) fn apply_all(&mut self, body: &[u8], segment: u64, offset: u64) -> Option<()> {
        let mut from = Cursor::new(body);
        self.high_water_s = self.high_water_s.max(from.u64().ok()?);
        while from.left() > 0 {
            let entry = Entry::read(&mut from)?;
            let end = body.len() - from.left();
            self.apply(&entry, segment, offset + end as u64);
        }
        Some(())
    }

    /// `end` is where the entry ends, and with it the launch of an admission.
    pub(super) fn apply(&mut self, entry: &Entry<'_>, segment: u64, end: u64) {
        match entry {
            Entry::Admitted {
                task,
                warrant,
                identity,
                launch,
            } => {
                self.set_state(*task, None);
                self.release(*task);
                self.used.insert(warrant.jti, warrant.exp_s);
                let place = Place {
                    segment,
                    offset: end.saturating_sub(launch.len() as u64),
                    bytes: launch.len(),
                };
                if let Some(segment) = self.segment(segment) {
                    segment.last_exp_s = segment.last_exp_s.max(warrant.exp_s);
                    segment.live_bytes = segment.live_bytes.saturating_add(launch.len() as u64);
                }
                self.waiting = self.waiting.saturating_add(1);
                let admission = Admission {
                    warrant: *warrant,
                    identity: identity.clone(),
                    state: State::Waiting,
                    place,
                    is_live: true,
                };
                self.admissions.insert(*task, admission);
            }
            Entry::Started { run, boot_id } => {
                let (attempt, boot_id) = (run.attempt, *boot_id);
                self.set_state((run.job, run.task), Some(State::Used { attempt, boot_id }));
            }
            Entry::Dropped { task } => {
                self.set_state(*task, None);
                self.release(*task);
                self.admissions.remove(task);
            }
            Entry::NotBegun { task } => self.set_state(*task, Some(State::Waiting)),
        }
    }

    /// Changes the state of an admission, `None` if it is to go.
    fn set_state(&mut self, task: Task, state: Option<State>) {
        let Some(admission) = self.admissions.get_mut(&task) else {
            return;
        };
        let waited = admission.state == State::Waiting;
        let waits = state == Some(State::Waiting);
        admission.state = state.unwrap_or(admission.state);
        match (waited, waits) {
            (true, false) => self.waiting = self.waiting.saturating_sub(1),
            (false, true) => self.waiting = self.waiting.saturating_add(1),
            (true, true) | (false, false) => {}
        }
    }

    /// Lets the launch of an admission go.
    pub(super) fn release(&mut self, task: Task) {
        let Some(admission) = self.admissions.get_mut(&task).filter(|it| it.is_live) else {
            return;
        };
        admission.is_live = false;
        let place = admission.place;
        if let Some(segment) = self.segment(place.segment) {
            segment.live_bytes = segment.live_bytes.saturating_sub(place.bytes as u64);
        }
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        let oldest = self.segments.front()?.number;
        let at = usize::try_from(number.checked_sub(oldest)?).ok()?;
        self.segments.get_mut(at)
    }

    /// Whether a warrant that ends at `exp_s` can never count again.
    pub(super) fn is_over(&self, exp_s: u64) -> bool {
        self.high_water_s > exp_s.saturating_add(2 * LEEWAY_S)
    }

    /// Forgets warrants that have ended, from time to time.
    pub(super) fn purge(&mut self) {
        if self.high_water_s < self.purged_s.saturating_add(PURGE_S) {
            return;
        }
        self.purged_s = self.high_water_s;
        let mark = self.high_water_s.saturating_sub(2 * LEEWAY_S);
        self.used.retain(|_, exp_s| *exp_s >= mark);
        self.admissions
            .retain(|_, admission| admission.is_live || admission.warrant.exp_s >= mark);
    }

    /// Whether what counts is less than half of it all, some room aside.
    pub(super) fn is_mostly_dead(&self, room_bytes: u64) -> bool {
        let bytes: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        let live: u64 = self.segments.iter().map(|segment| segment.live_bytes).sum();
        bytes > live.saturating_mul(2).saturating_add(room_bytes)
    }
}
