//! What holds of any input: made up at random, the same at each run.

use warrant_dpop::At;

use super::{claims, header, judged, sign};

/// Random numbers (xorshift64*), always the same ones.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }
}

#[test]
fn no_change_of_a_proof_is_taken() {
    let proof = sign(&header(), &claims());
    let good = judged(&proof).unwrap();
    let mut random = Random::new(1);
    for round in 0..20_000 {
        let mut bytes = proof.clone().into_bytes();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"AQgw-_.=~ {\""[random.below(12)]),
            }
        }
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        if text != proof {
            let judged = judged(&text);
            assert!(
                judged.is_err(),
                "round {round}: {text} is {judged:?} beside {good:?}"
            );
        }
    }
}

#[test]
fn an_address_that_is_read_is_read_again_as_itself() {
    const PIECES: [&str; 24] = [
        "http", "https", "HTTP", "://", ":", "/", "//", ".", "..", "%2e", "%2F", "%41", "%zz", "a",
        "A.test", "[::1]", "@", ":80", ":443", "?", "#", "\\", " ", "é",
    ];
    let mut random = Random::new(2);
    let mut read = 0;
    for _ in 0..200_000 {
        let mut text = String::new();
        if random.below(4) > 0 {
            text.push_str(["http://a", "https://B:443", "HTTPS://[::1]"][random.below(3)]);
        }
        for _ in 0..random.below(10) {
            text.push_str(PIECES[random.below(PIECES.len())]);
        }
        let Some(at) = At::parse(&text) else { continue };
        read += 1;
        let plain = at.to_string();
        assert_eq!(At::parse(&plain), Some(at), "{text}");
        for never in ["?", "#", "\\", " ", "/./", "/../"] {
            let path = plain.splitn(4, '/').nth(3).unwrap();
            assert!(!format!("/{path}").contains(never), "{text} is {plain}");
        }
    }
    assert!(read > 20_000, "{read}");
}
