//! Which proofs came before, in memory. Bounded as a whole and for each user,
//! who may have any number of keys: nobody uses up another's room. Where there
//! is no room, nothing is let in.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::{Proof, WINDOW_S};

/// For how long a half is filled, in seconds: as long as a proof can live from
/// the moment it is first seen.
const TURN_S: u64 = 2 * WINDOW_S + 2;

/// What is known of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It is seen for the first time.
    First,
    /// It came before.
    Again,
    /// There is no room to remember it.
    Full,
}

/// Remembers proofs for as long as they live.
#[derive(Debug)]
pub struct Seen {
    halves: Mutex<Halves>,
    most_of_one: usize,
    most: usize,
}

/// What came since the last turn, and in the turn before.
#[derive(Debug, Default)]
struct Halves {
    now: Half,
    before: Half,
    turned_s: u64,
}

#[derive(Debug, Default)]
struct Half {
    of: HashMap<Box<str>, HashSet<[u8; 16]>>,
    count: usize,
}

impl Half {
    fn has(&self, user: &str, mark: &[u8; 16]) -> bool {
        self.of.get(user).is_some_and(|marks| marks.contains(mark))
    }
}

impl Default for Seen {
    /// 131,072 of one user and 524,288 in all, in two minutes.
    fn default() -> Self {
        Self::new(1 << 17, 1 << 19)
    }
}

impl Seen {
    /// Of at most `most_of_one` proofs of a user, and `most` in all, in the
    /// time that a proof lives.
    pub fn new(most_of_one: usize, most: usize) -> Self {
        Self {
            halves: Mutex::default(),
            most_of_one,
            most,
        }
    }

    /// See the proof that `user` shows at `now_s`, in seconds since the Unix
    /// epoch.
    pub fn see(&self, user: &str, proof: &Proof, now_s: u64) -> Sight {
        let mut mark = [0; 16];
        for (to, from) in mark.iter_mut().zip(proof.mark()) {
            *to = *from;
        }
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let age_s = now_s.saturating_sub(halves.turned_s);
        if age_s >= TURN_S {
            let last = std::mem::take(&mut halves.now);
            // After two turns without anybody, both are over.
            halves.before = if age_s >= 2 * TURN_S {
                Half::default()
            } else {
                last
            };
            halves.turned_s = now_s;
        }
        if halves.now.has(user, &mark) || halves.before.has(user, &mark) {
            return Sight::Again;
        }
        let half = &mut halves.now;
        if half.count >= self.most {
            return Sight::Full;
        }
        if !half.of.contains_key(user) {
            half.of.insert(user.into(), HashSet::new());
        }
        let Some(marks) = half.of.get_mut(user) else {
            return Sight::Full;
        };
        if marks.len() >= self.most_of_one {
            return Sight::Full;
        }
        marks.insert(mark);
        half.count += 1;
        Sight::First
    }
}
