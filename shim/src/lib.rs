//! The code that starts jobs: small and without threads. As the broker's own
//! user it has no opinion about who may run what; as root it runs nothing
//! without a warrant, and nothing that its policy does not allow.
//!
//! Three kinds of process share this code. The [`monitor`] takes requests
//! from the broker and reports back. For each run it forks a [`keeper`], which
//! stays until the last process of the run is gone (which is no work for root)
//! and writes down how it ended; for each process of the run the keeper forks a [`runner`], which
//! becomes the program that the user asked for. What the three know of a run
//! is in the [`spool`], so that any of them, and the broker, may be killed at
//! any time without a run being started twice or ending unnoticed.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod account;
pub mod audit;
pub mod become_user;
pub mod cgroup;
pub mod clock;
pub mod hardening;
pub mod identity;
pub mod journal;
pub mod keeper;
pub mod keys;
pub mod line;
pub mod monitor;
pub mod policy;
mod proof;
pub mod runner;
pub mod self_check;
pub mod service_manager;
pub mod session;
pub mod spool;
pub mod store_file;
#[allow(unsafe_code)]
pub mod sys;
mod tend;
pub mod warrant;
