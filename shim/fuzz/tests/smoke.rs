//! Each target for a moment: its corpus, mutations that are always the same,
//! and mutations that were never before. `WARRANT_FUZZ_SECONDS` makes the
//! moment longer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use warrant_fuzz::{FIXED_SEED, TARGETS, attacks, campaign, fresh_seed, outgrow_a_journal, target};

/// How many mutations are the same in every run.
const FIXED_COUNT: u64 = 300;
/// Where a machine is too busy for them.
const FIXED_TIME: Duration = Duration::from_secs(10);

#[track_caller]
fn smoke(name: &str) {
    let target = target(name).unwrap();
    assert!(campaign(target, FIXED_SEED, FIXED_COUNT, FIXED_TIME) > 0);
    let seconds = std::env::var("WARRANT_FUZZ_SECONDS").map_or(0.3, |text| {
        text.parse()
            .expect("WARRANT_FUZZ_SECONDS: must be a number")
    });
    let seed = fresh_seed();
    println!("{name}: seed {seed}");
    let count = campaign(target, seed, u64::MAX, Duration::from_secs_f64(seconds));
    println!("{name}: {count} inputs in {seconds} s");
    assert!(count > 0);
}

#[test]
fn each_target_is_smoked_here() {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    let here = include_str!("smoke.rs");
    for name in names {
        assert!(here.contains(&format!("smoke(\"{name}\")")), "{name}");
    }
}

#[test]
fn t5_any_stream_in_any_pieces_is_frames_or_refused() {
    smoke("frame");
}

#[test]
fn t5_t47_a_launch_has_one_form_and_one_meaning() {
    smoke("launch");
}

#[test]
fn t24_t30_claims_have_one_form_and_mean_the_same_to_everybody() {
    smoke("claims");
}

#[test]
fn t11_to_t25_a_warrant_that_passes_was_written_by_the_auth_service() {
    smoke("warrant");
}

#[test]
fn t11_to_t25_each_attack_is_refused() {
    let attacks = attacks();
    for number in [11, 13, 14, 16, 17, 19, 24, 25] {
        assert!(attacks.iter().any(|attack| attack.number == number));
    }
    for attack in attacks {
        let text = String::from_utf8_lossy(&attack.warrant);
        assert!(attack.is_refused(), "t{}: {text}", attack.number);
    }
}

#[test]
fn t26_a_file_of_keys_has_one_form() {
    smoke("keys");
}

#[test]
fn a_policy_that_is_read_means_what_is_written() {
    smoke("policy");
}

#[test]
fn records_and_indexes_have_one_form() {
    smoke("records");
}

#[test]
fn t47_t49_the_last_word_on_the_environment_is_ours() {
    smoke("environment");
}

#[test]
fn a_proof_that_passes_is_of_its_key_its_request_and_its_time() {
    smoke("proof");
}

#[test]
fn t21_t22_no_warrant_comes_back_whatever_becomes_of_the_journal() {
    smoke("journal");
}

#[test]
fn t21_no_warrant_comes_back_when_a_journal_is_written_anew() {
    assert!(outgrow_a_journal(FIXED_SEED));
    if std::env::var_os("WARRANT_FUZZ_SECONDS").is_some() {
        let seed = fresh_seed();
        println!("seed {seed}");
        let _ = outgrow_a_journal(seed);
    }
}
