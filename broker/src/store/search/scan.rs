//! Looking for a text in records, one job after another. A record is a byte
//! for the job's state, which is in no text, and the job's text.

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::{Ask, OWNER, marked};
use crate::model::State;

/// Ends every text and no other piece of it.
const MARK: u8 = OWNER[1] as u8;
/// What ends a record.
pub(super) const END: &str = "\u{3}\n\n";
/// The byte for the first state. UTF-8 has neither this nor a higher one.
const STATES: u8 = 0xf8;

/// The byte that stands for a state.
fn byte(state: State) -> u8 {
    (STATES..)
        .zip(State::ALL)
        .find_map(|(byte, known)| (known == state).then_some(byte))
        .unwrap_or(u8::MAX)
}

/// Add a record.
pub(super) fn push(records: &mut Vec<u8>, state: State, text: &str) {
    records.push(byte(state));
    records.extend_from_slice(text.as_bytes());
}

/// What a record must hold.
#[derive(Debug)]
pub(super) struct Needle {
    /// Looked for everywhere.
    first: Finder<'static>,
    /// Looked for where the first was found.
    then: Option<Finder<'static>>,
    /// States that do as well as what is looked for then.
    states: Vec<u8>,
}

impl Needle {
    /// What `ask` asks for. The owner is looked for first where that is
    /// rarer than the text.
    pub(super) fn new(ask: Ask<'_>, owner_is_rare: bool) -> Self {
        let finder = |text: &str| Finder::new(text).into_owned();
        let text = finder(ask.text);
        let owner = ask.whose.name().map(|owner| finder(&marked(owner)));
        let (first, then) = match owner {
            None if ask.states.is_empty() => (text, None),
            None => (finder(END), Some(text)),
            Some(owner) if owner_is_rare || !ask.states.is_empty() => (owner, Some(text)),
            Some(owner) => (text, Some(owner)),
        };
        let states = ask.states.iter().copied().map(byte).collect();
        Self {
            first,
            then,
            states,
        }
    }

    /// Whether the answer depends on the jobs' states.
    pub(super) fn minds_states(&self) -> bool {
        !self.states.is_empty()
    }

    /// How many of `records` hold it.
    pub(super) fn count(&self, records: &[u8]) -> i64 {
        let mut count = 0;
        self.each(records, |_| count += 1);
        count
    }

    /// Add the ids of those that hold it.
    pub(super) fn collect(&self, records: &[u8], ids: &mut Vec<i64>) {
        self.each(records, |found| ids.extend(id(last(found))));
    }

    /// Tell of each record that holds it; what is told of may begin with
    /// other records, for cutting it out is left to whoever needs it.
    fn each(&self, records: &[u8], mut found: impl FnMut(&[u8])) {
        let mut rest = records;
        while let Some(at) = self.first.find(rest) {
            let Some((up_to, after)) = end_of(rest, at).and_then(|end| rest.split_at_checked(end))
            else {
                return;
            };
            if self.then.as_ref().is_none_or(|then| {
                let record = last(up_to);
                let state = record.first();
                state.is_some_and(|state| self.states.contains(state))
                    || then.find(record).is_some()
            }) {
                found(up_to);
            }
            rest = after;
        }
    }
}

/// Where the record that has its byte `at` ends.
fn end_of(records: &[u8], at: usize) -> Option<usize> {
    // `at` may be one of the line feeds behind the mark.
    let from = at.saturating_sub(END.len() - 1);
    let mark = memchr(MARK, records.get(from..)?)?;
    Some(from + mark + END.len())
}

/// The last of some records.
fn last(records: &[u8]) -> &[u8] {
    let body = records.len().saturating_sub(END.len());
    let before = records.get(..body).and_then(|body| memrchr(MARK, body));
    let start = before.map_or(0, |before| before + END.len());
    records.get(start..).unwrap_or_default()
}

/// The id in a record.
fn id(record: &[u8]) -> Option<i64> {
    let (_, text) = record.split_first()?;
    let digits = text.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// How many bytes of `bytes` are whole records.
pub(super) fn whole(bytes: &[u8]) -> usize {
    let body = bytes.len().saturating_sub(END.len() - 1);
    let mark = bytes.get(..body).and_then(|body| memrchr(MARK, body));
    mark.map_or(0, |mark| mark + END.len())
}
