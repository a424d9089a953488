//! The built program, over a real socket, with real jobs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod adopting;
mod cancelling;
mod ending;
mod house;
mod journal;
mod output;
mod policy;
mod running;
mod serving;
mod size;
mod stores;
mod warrants;
