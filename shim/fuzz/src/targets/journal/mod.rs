//! The journal: a model of what it must remember, and all that may happen to
//! it: crashes, torn and damaged segments, forged ones, clocks that jump.
//!
//! The input is a row of choices. First a journal is used as the monitor uses
//! it; then its files are damaged, and it is opened again.

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

/// Most things that are done before the damage, and again after it.
const MOST_STEPS: usize = 24;

fn run(input: &[u8]) {
    // An input that is too short ends earlier.
    let _ = live(&mut Unstructured::new(input));
}

fn live(choices: &mut Unstructured<'_>) -> Result<()> {
    let mut house = House::new();
    for _ in 0..choices.int_in_range(0..=MOST_STEPS)? {
        house.step(choices)?;
    }
    house.crash();
    let segments = house.segments(choices)?;
    let damage = Damage::choose(choices, &segments)?;
    if !house.suffer(&damage, segments) {
        return Ok(());
    }
    for _ in 0..choices.int_in_range(0..=MOST_STEPS)? {
        house.step(choices)?;
    }
    house.crash();
    Ok(())
}
