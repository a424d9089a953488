//! The journal: a model of what it must remember, and all that may happen to
//! it: crashes, a torn or damaged file, forged frames, clocks that jump.
//!
//! The input is a row of choices. First a journal is used as the monitor uses
//! it; then its file is damaged, and it is opened again.

mod damage;
mod house;
mod model;

use arbitrary::{Result, Unstructured};

use self::damage::Damage;
use self::house::House;
use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "journal",
    run,
    seeds: || crate::mutation::random_inputs(40, 400),
    words: &["WRNJ", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"],
};

/// Times the up to 40 bytes of an input's launches: up to 2 MiB.
const LARGE: usize = 50_000;
/// Most things that are done before the damage, and again after it.
const MOST_STEPS: usize = 24;

fn run(input: &[u8]) {
    // An input that is too short ends earlier.
    let _ = live(&mut Unstructured::new(input));
}

fn live(choices: &mut Unstructured<'_>) -> Result<()> {
    let mut house = House::new(1);
    for _ in 0..choices.int_in_range(0..=MOST_STEPS)? {
        house.step(choices)?;
    }
    house.crash();
    let content = house.content();
    let damage = Damage::choose(choices, &content)?;
    if !house.suffer(&damage, content) {
        return Ok(());
    }
    for _ in 0..choices.int_in_range(0..=MOST_STEPS)? {
        house.step(choices)?;
    }
    house.crash();
    Ok(())
}

/// Uses a journal with launches so large that it is written anew, more than
/// once. Answers whether it was.
pub(crate) fn outgrow(seed: &[u8]) -> bool {
    let mut choices = Unstructured::new(seed);
    let mut house = House::new(LARGE);
    while !choices.is_empty() {
        if house.step(&mut choices).is_err() {
            break;
        }
    }
    house.crash();
    house.has_shrunk
}
