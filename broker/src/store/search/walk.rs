//! From a page's place among the matches to its ids: matches are counted per
//! block, and a count once made is kept.

use std::io;
use std::num::NonZero;
use std::thread;

use super::scan::Needle;
use super::shelf::{Slot, View};

/// The most blocks counted before it is seen whether they are enough.
const WAVE: usize = 128;
/// The fewest blocks that are worth another thread.
const SHARE: usize = 8;
/// The most threads for one search.
const THREADS: usize = 4;

/// How many matches a block with so many jobs has. Texts never change, nor do
/// the states of jobs that are over, so it holds until another job comes into
/// the block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    block: i64,
    jobs: i16,
    matches: i16,
}

/// The ids on a page, newest first, and the marks for the next page.
pub(super) fn page(
    view: &View,
    needle: &Needle,
    known: &[Mark],
    start: i64,
    limit: i64,
) -> io::Result<(Vec<i64>, Vec<Mark>)> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let mut marks = Vec::with_capacity(view.slots.len());
    let (mut skip, mut ids) = (start, Vec::new());
    let (mut slots, mut wave) = (view.slots.as_slice(), 1);
    while ids.len() < limit && !slots.is_empty() {
        let (now, later) = slots.split_at(wave.min(slots.len()));
        let counted = count(view, needle, known, now)?;
        for (slot, mark) in now.iter().zip(&counted) {
            let matches = i64::from(mark.matches);
            if ids.len() < limit && skip < matches {
                let found = list(view, needle, slot)?;
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX);
                let missing = limit - ids.len();
                ids.extend(found.into_iter().skip(skipped).take(missing));
            }
            skip = skip.saturating_sub(matches).max(0);
        }
        marks.extend(counted);
        (slots, wave) = (later, WAVE.min(2 * wave));
    }
    // What was known of older blocks is still so.
    let oldest = marks.last().map_or(i64::MAX, |mark| mark.block);
    marks.extend(known.iter().filter(|mark| mark.block < oldest));
    Ok((ids, marks))
}

/// Count the matches in `slots`, unless they are `known`.
fn count(view: &View, needle: &Needle, known: &[Mark], slots: &[Slot]) -> io::Result<Vec<Mark>> {
    let one = |slot: &Slot| {
        let known = known
            .binary_search_by(|mark| slot.block.cmp(&mark.block))
            .ok()
            .and_then(|at| known.get(at))
            .filter(|mark| i64::from(mark.jobs) == slot.jobs);
        if let Some(mark) = known {
            return Ok(*mark);
        }
        let mut matches = 0;
        view.read(slot, |records| {
            matches += needle.count(records);
            Ok(())
        })?;
        // Where a state may change the count holds for no number of jobs.
        let holds = slot.settled || !needle.minds_states();
        let jobs = if holds { slot.jobs } else { -1 };
        Ok(Mark {
            block: slot.block,
            jobs: i16::try_from(jobs).map_err(io::Error::other)?,
            matches: i16::try_from(matches).map_err(io::Error::other)?,
        })
    };
    let several = |slots: &[Slot]| slots.iter().map(one).collect::<io::Result<Vec<_>>>();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(THREADS).min(slots.len() / SHARE);
    // Known blocks come first: where the last is known, all are.
    let is_known = slots
        .last()
        .zip(known.last())
        .is_some_and(|(slot, mark)| slot.block >= mark.block);
    if threads < 2 || is_known {
        return several(slots);
    }
    thread::scope(|scope| {
        let shares = slots.chunks(slots.len().div_ceil(threads));
        let counting: Vec<_> = shares
            .map(|share| scope.spawn(move || several(share)))
            .collect();
        let mut marks = Vec::with_capacity(slots.len());
        for share in counting {
            let counted = share
                .join()
                .map_err(|_| io::Error::other("counting failed"))?;
            marks.extend(counted?);
        }
        Ok(marks)
    })
}

/// The ids of a block's matches, newest first.
fn list(view: &View, needle: &Needle, slot: &Slot) -> io::Result<Vec<i64>> {
    let mut ids = Vec::new();
    view.read(slot, |records| {
        needle.collect(records, &mut ids);
        Ok(())
    })?;
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ids)
}
