//! What may become of the file of a journal, and what must follow from it.
//!
//! Frames are written here once more, from what is known of their form.

use arbitrary::{Result, Unstructured};
use warrant_shim::warrant::sha256;

/// Where a file's salt is.
const SALT: std::ops::Range<usize> = 8..24;
const HEAD_BYTES: usize = 24;

/// What is in the file of a journal.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// Where frames end. The first is there before the file has its name.
    pub(super) ends: Vec<usize>,
}

/// What must become of a journal.
pub(super) enum Fate {
    /// It remembers what it did after this commit.
    Moment(usize),
    /// It is not opened.
    Refused,
    /// Either, but nothing panics.
    Unknown,
}

#[derive(Debug)]
pub(super) enum Damage {
    Nothing,
    /// The file ends here.
    Cut(usize),
    /// Bits of bytes: where, how.
    Flipped(Vec<(usize, u8)>),
    /// Bytes behind the end.
    Longer(Vec<u8>),
    /// The file is this.
    Replaced(Vec<u8>),
    /// A frame whose digest is right is behind the last one.
    Forged(Vec<u8>),
}

impl Content {
    fn push(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap();
        let salt = self.bytes[SALT].to_vec();
        let mask = u32::from_le_bytes(salt[..4].try_into().unwrap());
        let at = self.bytes.len() as u64;
        let digest = sha256(&[&salt, &at.to_le_bytes()[..], body].concat());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend((!length ^ mask).to_le_bytes());
        self.bytes.extend(&digest[..16]);
        self.bytes.extend(body);
        self.ends.push(self.bytes.len());
    }
}

impl Damage {
    pub(super) fn choose(choices: &mut Unstructured<'_>, content: &Content) -> Result<Self> {
        let Content { bytes, ends } = content;
        let some_bytes = |choices: &mut Unstructured<'_>| {
            let count = choices.int_in_range(0..=200)?;
            choices.bytes(count).map(<[u8]>::to_vec)
        };
        Ok(match choices.int_in_range(0..=11)? {
            0..=2 => Self::Cut(choices.int_in_range(0..=bytes.len())?),
            3..=5 => {
                let mut flips = Vec::new();
                for _ in 0..choices.int_in_range(1..=3)? {
                    let at = choices.int_in_range(0..=bytes.len() - 1)?;
                    flips.push((at, choices.int_in_range(1..=255)?));
                }
                Self::Flipped(flips)
            }
            6 => {
                let from = choices.int_in_range(0..=bytes.len())?;
                Self::Longer(bytes[from..].to_vec())
            }
            7 => Self::Longer(some_bytes(choices)?),
            8 => Self::Replaced(some_bytes(choices)?),
            9 if ends.len() > 1 => {
                // A body that was once good.
                let mut body = bytes[ends[ends.len() - 2] + HEAD_BYTES..].to_vec();
                for _ in 0..choices.int_in_range(0..=3)? {
                    let at = choices.int_in_range(0..=body.len() - 1)?;
                    body[at] = choices.arbitrary()?;
                }
                Self::Forged(body)
            }
            9 | 10 => Self::Forged(some_bytes(choices)?),
            _ => Self::Nothing,
        })
    }

    /// Does it, and answers what must follow.
    pub(super) fn strike(&self, content: &mut Content) -> Fate {
        let last = content.ends.len() - 1;
        match self {
            Self::Nothing => Fate::Moment(last),
            Self::Cut(end) => {
                content.bytes.truncate(*end);
                let whole = content.ends.iter().filter(|frame| *frame <= end).count();
                match whole {
                    0 => Fate::Refused,
                    whole => Fate::Moment(whole - 1),
                }
            }
            Self::Flipped(flips) => {
                let good = content.bytes.clone();
                for (at, mask) in flips {
                    content.bytes[*at] ^= mask;
                }
                damaged(content, &good)
            }
            Self::Longer(bytes) => {
                content.bytes.extend(bytes);
                Fate::Moment(last)
            }
            Self::Replaced(bytes) => {
                content.bytes.clone_from(bytes);
                Fate::Refused
            }
            Self::Forged(body) => {
                content.push(body);
                Fate::Unknown
            }
        }
    }
}

/// What follows from changed bytes: only a damaged end looks like a crash.
fn damaged(content: &Content, good: &[u8]) -> Fate {
    let is_good = |from: usize, to: usize| content.bytes[from..to] == good[from..to];
    if !is_good(0, content.ends[0]) {
        return Fate::Refused;
    }
    let frames = content.ends.windows(2);
    let frames: Vec<bool> = frames.map(|frame| is_good(frame[0], frame[1])).collect();
    match frames.iter().position(|is_good| !is_good) {
        None => Fate::Moment(frames.len()),
        Some(first_bad) if frames[first_bad..].contains(&true) => Fate::Refused,
        Some(first_bad) => Fate::Moment(first_bad),
    }
}
