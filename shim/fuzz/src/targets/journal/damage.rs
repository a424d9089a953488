//! What may become of the files of a journal, and what must follow from it.
//!
//! Segments are written here once more, from what is known of their form.

use arbitrary::{Result, Unstructured};
use warrant_shim::warrant::sha256;

const HEADER_BYTES: usize = 56;
const FRAME_BYTES: usize = 24;

/// A file of the journal.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    /// Where frames end, the first being the end of the header.
    ends: Vec<usize>,
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
    /// The newest segment ends here.
    Cut(usize),
    /// Bits of bytes of a segment: which, where, how.
    Flipped(Vec<(usize, usize, u8)>),
    /// Bytes behind the end of a segment.
    Longer(usize, Vec<u8>),
    /// A segment is not there.
    Removed(usize),
    /// Two neighbours have each other's names.
    Swapped(usize),
    /// The newest segment is this.
    Replaced(Vec<u8>),
    /// A frame whose digest is right is behind the last one.
    Forged(Vec<u8>),
    /// The header of the newest has this high-water mark, in good order.
    Marked(u64),
}

impl Segment {
    fn begin(number: u64, high_water_s: u64, salt: [u8; 16]) -> Self {
        let fields = [
            &b"WRNJ\x01\0\0\0"[..],
            &number.to_le_bytes(),
            &high_water_s.to_le_bytes(),
            &salt,
        ]
        .concat();
        let digest = digest(&[0; 16], 0, &fields);
        Self {
            number,
            bytes: [fields, digest].concat(),
            ends: vec![HEADER_BYTES],
        }
    }

    fn push(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap();
        let at = self.bytes.len();
        let digest = digest(&self.bytes[24..40], at, body);
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend((!length).to_le_bytes());
        self.bytes.extend(digest);
        self.bytes.extend(body);
        self.ends.push(self.bytes.len());
    }

    /// One segment, which is `whole`, or its frames in some segments. Of each
    /// frame, and of the header, there is where it ends and the high-water
    /// mark there.
    pub(super) fn spread(
        whole: &[u8],
        ends: &[(usize, u64)],
        choices: &mut Unstructured<'_>,
    ) -> Result<Vec<Self>> {
        let first: u64 = choices.int_in_range(1..=3)?;
        if first == 1 {
            return Ok(vec![Self {
                number: 1,
                bytes: whole.to_vec(),
                ends: ends.iter().map(|(end, _)| *end).collect(),
            }]);
        }
        let mut segments = vec![Self::begin(first, 0, [1; 16])];
        for frame in ends.windows(2) {
            let ((begin, high_water_s), (end, _)) = (frame[0], frame[1]);
            let body = &whole[begin + FRAME_BYTES..end];
            if choices.ratio(1, 3)? {
                let number = first + segments.len() as u64;
                segments.push(Self::begin(number, high_water_s, choices.arbitrary()?));
            }
            segments.last_mut().unwrap().push(body);
        }
        Ok(segments)
    }

    /// How many frames it has.
    fn count(&self) -> usize {
        self.ends.len() - 1
    }
}

fn digest(salt: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let content = [salt, &(at as u64).to_le_bytes(), bytes].concat();
    sha256(&content)[..16].to_vec()
}

impl Damage {
    pub(super) fn choose(choices: &mut Unstructured<'_>, segments: &[Segment]) -> Result<Self> {
        let newest = segments.last().unwrap();
        let which = choices.int_in_range(0..=segments.len() - 1)?;
        let some_bytes = |choices: &mut Unstructured<'_>| {
            let count = choices.int_in_range(0..=200)?;
            choices.bytes(count).map(<[u8]>::to_vec)
        };
        Ok(match choices.int_in_range(0..=11)? {
            0..=2 => Self::Cut(choices.int_in_range(0..=newest.bytes.len())?),
            3..=5 => {
                let mut flips = Vec::new();
                for _ in 0..choices.int_in_range(1..=3)? {
                    let which = choices.int_in_range(0..=segments.len() - 1)?;
                    let at = choices.int_in_range(0..=segments[which].bytes.len() - 1)?;
                    flips.push((which, at, choices.int_in_range(1..=255)?));
                }
                Self::Flipped(flips)
            }
            6 if choices.ratio(1, 2)? => {
                let other = &segments[choices.int_in_range(0..=segments.len() - 1)?].bytes;
                let from = choices.int_in_range(0..=other.len())?;
                Self::Longer(which, other[from..].to_vec())
            }
            6 => Self::Longer(which, some_bytes(choices)?),
            7 => Self::Removed(which),
            8 => Self::Swapped(which),
            9 => Self::Replaced(some_bytes(choices)?),
            10 if choices.ratio(1, 2)? && newest.count() > 0 => {
                // A body that was once good.
                let mut body =
                    newest.bytes[newest.ends[newest.count() - 1] + FRAME_BYTES..].to_vec();
                for _ in 0..choices.int_in_range(0..=3)? {
                    let at = choices.int_in_range(0..=body.len() - 1)?;
                    body[at] = choices.arbitrary()?;
                }
                Self::Forged(body)
            }
            10 => Self::Forged(some_bytes(choices)?),
            _ if choices.ratio(1, 2)? => Self::Marked(choices.arbitrary()?),
            _ => Self::Nothing,
        })
    }

    /// Does it, and answers what must follow. `last` is the last commit.
    pub(super) fn strike(&self, segments: &mut Vec<Segment>, last: usize) -> Fate {
        let at_newest = segments.len() - 1;
        let newest = segments.last_mut().unwrap();
        // The commits before the newest segment's.
        let before = last - newest.count();
        match self {
            Self::Nothing => Fate::Moment(last),
            Self::Cut(end) => {
                newest.bytes.truncate(*end);
                let whole = newest.ends.iter().filter(|frame| *frame <= end).count();
                match whole {
                    0 => Fate::Refused,
                    whole => Fate::Moment(before + whole - 1),
                }
            }
            Self::Flipped(flips) => {
                let good: Vec<_> = segments.iter().map(|it| it.bytes.clone()).collect();
                for (which, at, mask) in flips {
                    segments[*which].bytes[*at] ^= mask;
                }
                damaged(segments, &good, before)
            }
            Self::Longer(which, bytes) => {
                segments[*which].bytes.extend(bytes);
                match bytes.is_empty() || *which == at_newest {
                    true => Fate::Moment(last),
                    false => Fate::Refused,
                }
            }
            Self::Removed(which) => {
                segments.remove(*which);
                match *which == 0 || *which == at_newest {
                    // The oldest are removed in time; and of the newest
                    // nothing is known without it.
                    true => Fate::Unknown,
                    false => Fate::Refused,
                }
            }
            Self::Swapped(which) if *which < at_newest => {
                let number = segments[*which].number;
                segments[*which].number += 1;
                segments[*which + 1].number = number;
                Fate::Refused
            }
            Self::Swapped(_) => Fate::Moment(last),
            Self::Replaced(bytes) => {
                newest.bytes.clone_from(bytes);
                Fate::Refused
            }
            Self::Forged(body) => {
                newest.push(body);
                Fate::Unknown
            }
            Self::Marked(high_water_s) => {
                let salt = newest.bytes[24..40].try_into().unwrap();
                let header = Segment::begin(newest.number, *high_water_s, salt).bytes;
                newest.bytes[..HEADER_BYTES].copy_from_slice(&header);
                Fate::Unknown
            }
        }
    }
}

/// What follows from changed bytes: only a damaged end of the newest segment
/// looks like a crash.
fn damaged(segments: &[Segment], good: &[Vec<u8>], before: usize) -> Fate {
    let mut fate = Fate::Moment(before + segments.last().map_or(0, Segment::count));
    for (at, (segment, good)) in segments.iter().zip(good).enumerate() {
        let is_good = |from: usize, to: usize| segment.bytes[from..to] == good[from..to];
        if !is_good(0, HEADER_BYTES) {
            return Fate::Refused;
        }
        let frames: Vec<bool> = segment
            .ends
            .windows(2)
            .map(|frame| is_good(frame[0], frame[1]))
            .collect();
        let Some(first_bad) = frames.iter().position(|is_good| !is_good) else {
            continue;
        };
        if at + 1 < segments.len() || frames[first_bad..].contains(&true) {
            return Fate::Refused;
        }
        fate = Fate::Moment(before + first_bad);
    }
    fate
}
