//! A target under libFuzzer: the one that `WARRANT_FUZZ` names.

#![no_main]
#![allow(clippy::expect_used, reason = "there is nobody to answer to")]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use warrant_fuzz::{Target, target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    std::env::var("WARRANT_FUZZ")
        .ok()
        .and_then(|name| target(&name))
        .expect("WARRANT_FUZZ must name a target")
});

fuzz_target!(|input: &[u8]| (TARGET.run)(input));
