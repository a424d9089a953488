//! What is free on the machine.

use std::collections::BTreeSet;

use crate::engine::Placement;
use crate::model::{Capacity, Footprint};

/// Cores, GPUs and memory that no job holds.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    capacity: Capacity,
    cores: BTreeSet<u16>,
    gpus: BTreeSet<u16>,
    held: Held,
}

/// What jobs hold, all told. A job from before a restart counts also where
/// nobody knows which cores it was given.
#[derive(Debug, Clone, Default)]
struct Held {
    cores: u64,
    gpus: u64,
    memory_bytes: u64,
    jobs: usize,
    exclusive: usize,
}

impl Pool {
    /// Everything free.
    pub(super) fn new(capacity: Capacity, cores: &[u16]) -> Self {
        Self {
            capacity,
            cores: cores.iter().copied().collect(),
            gpus: (0..capacity.gpus)
                .filter_map(|gpu| u16::try_from(gpu).ok())
                .collect(),
            held: Held::default(),
        }
    }

    /// Whether no job holds anything.
    pub(super) const fn is_idle(&self) -> bool {
        self.held.jobs == 0
    }

    /// Whether nothing can fit.
    pub(super) fn is_full(&self) -> bool {
        self.cores.is_empty() || self.held.exclusive > 0
    }

    /// Whether `need` fits what is free.
    pub(super) fn fits(&self, need: Footprint) -> bool {
        let some = |free: usize, need: u32| usize::try_from(need).is_ok_and(|need| need <= free);
        let enough = |all: u32, held: u64, need: u32| held + u64::from(need) <= u64::from(all);
        let held = &self.held;
        held.exclusive == 0
            && (!need.exclusive || held.jobs == 0)
            && some(self.cores.len(), need.cores())
            && enough(self.capacity.cores, held.cores, need.cores())
            && some(self.gpus.len(), need.gpus())
            && enough(self.capacity.gpus, held.gpus, need.gpus())
            && held.memory_bytes.saturating_add(need.memory_bytes) <= self.capacity.memory_bytes
    }

    /// Take what `need` asks for; `None` where it does not fit.
    pub(super) fn take(&mut self, need: Footprint) -> Option<Placement> {
        if !self.fits(need) {
            return None;
        }
        let first = |set: &mut BTreeSet<u16>, n: u32| -> Vec<u16> {
            (0..n).filter_map(|_| set.pop_first()).collect()
        };
        let placement = Placement {
            cores: first(&mut self.cores, need.cores()),
            gpus: first(&mut self.gpus, need.gpus()),
        };
        self.held.add(need);
        Some(placement)
    }

    /// Mark what a job from before a restart still holds.
    pub(super) fn hold(&mut self, need: Footprint, placement: &Placement) {
        self.cores.retain(|core| !placement.cores.contains(core));
        self.gpus.retain(|gpu| !placement.gpus.contains(gpu));
        self.held.add(need);
    }

    /// Give back what a job held.
    pub(super) fn put(&mut self, need: Footprint, placement: Placement) {
        self.cores.extend(placement.cores);
        self.gpus.extend(placement.gpus);
        self.held.subtract(need);
    }
}

impl Held {
    fn add(&mut self, need: Footprint) {
        self.cores += u64::from(need.cores());
        self.gpus += u64::from(need.gpus());
        self.memory_bytes = self.memory_bytes.saturating_add(need.memory_bytes);
        self.jobs += 1;
        self.exclusive += usize::from(need.exclusive);
    }

    fn subtract(&mut self, need: Footprint) {
        self.cores = self.cores.saturating_sub(u64::from(need.cores()));
        self.gpus = self.gpus.saturating_sub(u64::from(need.gpus()));
        self.memory_bytes = self.memory_bytes.saturating_sub(need.memory_bytes);
        self.jobs = self.jobs.saturating_sub(1);
        self.exclusive -= usize::from(need.exclusive).min(self.exclusive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(tasks: u32, exclusive: bool) -> Footprint {
        Footprint {
            tasks,
            cores_per_task: 1,
            gpus_per_task: 0,
            memory_bytes: 0,
            exclusive,
        }
    }

    fn pool() -> Pool {
        Pool::new(
            Capacity {
                cores: 4,
                gpus: 0,
                memory_bytes: 100,
            },
            &[0, 1, 2, 3],
        )
    }

    #[test]
    fn cores_are_given_once_and_come_back() {
        let mut pool = pool();
        let first = pool.take(need(3, false)).unwrap();
        assert_eq!(first.cores, [0, 1, 2]);
        assert!(pool.take(need(2, false)).is_none());
        pool.put(need(3, false), first);
        assert_eq!(pool.take(need(4, false)).unwrap().cores, [0, 1, 2, 3]);
    }

    #[test]
    fn an_exclusive_job_shares_with_nobody() {
        let mut pool = pool();
        let small = pool.take(need(1, false)).unwrap();
        assert!(!pool.fits(need(1, true)));
        pool.put(need(1, false), small);
        let alone = pool.take(need(1, true)).unwrap();
        assert!(!pool.fits(need(1, false)));
        pool.put(need(1, true), alone);
        assert!(pool.is_idle() && pool.fits(need(4, false)));
    }

    #[test]
    fn a_job_whose_cores_nobody_knows_counts_all_the_same() {
        let mut pool = pool();
        pool.hold(need(3, false), &Placement::default());
        assert!(!pool.fits(need(2, false)) && pool.fits(need(1, false)));
        pool.put(need(3, false), Placement::default());
        assert!(pool.fits(need(4, false)));
    }

    #[test]
    fn jobs_taken_up_beyond_what_there_is_leave_no_more_than_there_is() {
        let mut pool = pool();
        let large = Footprint {
            memory_bytes: 80,
            exclusive: true,
            ..need(1, true)
        };
        pool.hold(large, &Placement::default());
        pool.hold(large, &Placement::default());
        pool.put(large, Placement::default());
        assert!(!pool.fits(need(1, false)));
        pool.put(large, Placement::default());
        assert!(pool.is_idle() && pool.fits(large));
    }
}
