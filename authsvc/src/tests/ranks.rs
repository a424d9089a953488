//! Whether two samples come from one distribution: the test of Mann and
//! Whitney, by ranks, so that a few outliers decide nothing.

use std::f64::consts::SQRT_2;

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Compared {
    /// How often a value of the first sample is the larger one of a pair; a
    /// tie counts half.
    pub(super) u: f64,
    /// How far that is from its expectation, in standard deviations. Positive
    /// where the values of the first sample are the larger ones.
    pub(super) z: f64,
    /// How probable it is to be as far off, or farther, by chance.
    pub(super) p: f64,
}

/// Compare two samples. The distribution of `u` is taken for normal, which it
/// is for more than some twenty values, with the corrections for ties and for
/// continuity.
///
/// Source: H. B. Mann and D. R. Whitney, "On a Test of Whether one of Two
/// Random Variables is Stochastically Larger than the Other", 1947; the
/// correction for ties is that of every textbook since.
pub(super) fn compare(first: &[u64], second: &[u64]) -> Compared {
    let mut all: Vec<(u64, bool)> = first
        .iter()
        .map(|value| (*value, true))
        .chain(second.iter().map(|value| (*value, false)))
        .collect();
    all.sort_unstable();
    let (mut rank_sum, mut ties, mut below) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let count = equal.len() as f64;
        let of_first = equal.iter().filter(|(_, is_first)| *is_first).count();
        rank_sum += of_first as f64 * (below + (count + 1.0) / 2.0);
        ties += count * (count * count - 1.0);
        below += count;
    }
    let (n, m, total) = (first.len() as f64, second.len() as f64, below);
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    let off = u - n * m / 2.0;
    if variance <= 0.0 || off == 0.0 {
        return Compared { u, z: 0.0, p: 1.0 };
    }
    let z = off.signum() * (off.abs() - 0.5).max(0.0) / variance.sqrt();
    let p = erfc(z.abs() / SQRT_2).min(1.0);
    Compared { u, z, p }
}

/// The complementary error function of what is not negative, to seven digits
/// behind the point. Source: M. Abramowitz and I. A. Stegun, 7.1.26.
fn erfc(x: f64) -> f64 {
    const A: [f64; 5] = [
        0.254_829_592,
        -0.284_496_736,
        1.421_413_741,
        -1.453_152_027,
        1.061_405_429,
    ];
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let sum = A.iter().rev().fold(0.0, |sum, a| (sum + a) * t);
    sum * (-x * x).exp()
}

/// Numbers that look random and are the same for the same seed. Source:
/// G. Marsaglia, "Xorshift RNGs", 2003.
pub(super) struct Numbers(u64);

impl Numbers {
    /// Numbers of this seed.
    pub(super) fn of(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    /// Bring `things` into another order, each as likely as any other.
    pub(super) fn shuffle<T>(&mut self, things: &mut [T]) {
        for end in (2..=things.len()).rev() {
            things.swap(end - 1, self.below(end));
        }
    }
}

fn close(value: f64, expected: f64) -> bool {
    (value - expected).abs() < 1e-4
}

#[test]
fn two_samples_compare_as_others_have_computed() {
    // Source: the example of SciPy's documentation of `mannwhitneyu`.
    let males = [19, 22, 16, 29, 24];
    let females = [20, 11, 17, 12];
    let compared = compare(&males, &females);
    assert_eq!(compared.u, 17.0);
    assert!(close(compared.p, 0.111_346_9), "{compared:?}");
    let turned = compare(&females, &males);
    assert_eq!((turned.u, turned.z), (3.0, -compared.z));
    assert_eq!(turned.p, compared.p);
    // With ties, by hand: of the sixteen pairs two are won and two are ties;
    // three values are 2 and three are 3.
    let compared = compare(&[1, 2, 2, 3], &[2, 3, 3, 4]);
    assert_eq!(compared.u, 3.0);
    let variance = 16.0 / 12.0 * (9.0 - (24.0 + 24.0) / 56.0);
    assert!(
        close(compared.z, -4.5 / f64::sqrt(variance)),
        "{compared:?}"
    );
    // Nothing speaks for a difference where there is none to see.
    assert_eq!(compare(&[5; 10], &[5; 20]).p, 1.0);
    assert_eq!(compare(&[1, 4], &[2, 3]).p, 1.0);
    assert!(close(erfc(0.0), 1.0) && close(erfc(1.0), 0.157_299_2) && close(erfc(3.0), 2.2e-5));
}
