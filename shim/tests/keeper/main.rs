//! Keepers that are root, with accounts, PAM and control groups of their own.
//!
//! Each test runs itself again in a mount and process id name space where the
//! account files are copies with a few accounts more, so that nothing of the
//! machine is touched. Without root they say so and do nothing, unless
//! `WARRANT_REQUIRE_ROOT=1` is set. The numbers are those of the attack tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr
)]

mod directories;
mod environment;
mod files;
mod hardening;
mod house;
mod identity;
mod leavings;
mod output_files;
mod probe;
mod processes;
mod session;
mod speed;
