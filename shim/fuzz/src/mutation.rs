//! New inputs from old ones.

/// Most bytes of an input that is made here.
const MOST_BYTES: usize = 64 * 1024;
/// Numbers at which decoders go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX - 1,
    u64::MAX,
];

/// Numbers that look random and are the same for the same seed.
/// Source: `SplitMix64` by Sebastiano Vigna.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which must not be 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Some random bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

/// An input that some of the corpus has become, by a few changes.
pub(crate) fn mutate(random: &mut Random, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = match random.below(20) {
        0 => {
            let count = random.below(600);
            random.bytes(count)
        }
        _ => random.pick(corpus).clone(),
    };
    for _ in 0..=random.below(6) {
        change(random, &mut input, corpus, words);
    }
    input.truncate(MOST_BYTES);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
    let at = random.below(input.len() + 1);
    let is_end = at == input.len();
    let range = at..at + random.below((input.len() - at).min(64) + 1);
    match random.below(11) {
        0 if !is_end => input[at] ^= 1 << random.below(8),
        1 if !is_end => input[at] = random.byte(),
        2 => input.insert(at, random.byte()),
        3 => drop(input.drain(range)),
        4 => {
            let copy = input[range].to_vec();
            let to = random.below(input.len() + 1);
            insert(input, to, &copy);
        }
        5 => input.truncate(at),
        6 => {
            let number = random.pick(&NUMBERS).to_le_bytes();
            let count = 1 << random.below(4);
            overwrite(input, at, &number[..count]);
        }
        7 => {
            let number = random.pick(&NUMBERS).to_string();
            insert(input, at, number.as_bytes());
        }
        8 if !words.is_empty() => {
            let word = random.pick(words).as_bytes();
            match random.below(2) {
                0 => insert(input, at, word),
                _ => overwrite(input, at, word),
            }
        }
        9 => {
            let other = random.pick(corpus);
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend(&other[from..]);
        }
        _ => {
            let count = random.below(40);
            let bytes = random.bytes(count);
            insert(input, at, &bytes);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in input.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// Rows of choices to begin with, where no encoder makes any.
pub(crate) fn random_inputs(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    (0..count).map(|_| random.bytes(bytes)).collect()
}
