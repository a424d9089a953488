//! Processes of the shim are killed at any moment of the way from a warrant
//! to the end of its job; what is left in journal, records, control groups
//! and the process table must agree.
//!
//! `WARRANT_PROPERTY_SECONDS` says how long, `WARRANT_PROPERTY_SEED` which
//! moments; the seed of a run is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod groups;
#[allow(dead_code, unreachable_pub)]
#[path = "../shim/house.rs"]
mod house;
mod kills;
#[allow(dead_code, unreachable_pub)]
#[path = "../shim/serving/house.rs"]
mod machine;
mod processes;
