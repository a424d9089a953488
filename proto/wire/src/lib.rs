//! What crosses the boundary between the broker and the code that starts
//! jobs: frames on their socket, the launch description, and the files of the
//! spool. Little endian throughout.
//!
//! Every decoder is total: whatever the bytes, it answers a value or
//! [`Malformed`], and never allocates more than a small multiple of what it
//! was given. Unknown versions, unknown codes, oversize counts and trailing
//! bytes are refused.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod cursor;

pub mod account;
pub mod frame;
pub mod launch;
pub mod outcome;
pub mod output;
pub mod record;
pub mod refusal;
pub mod run;
pub mod stamp;
pub mod store;
pub mod template;
pub mod warrant;

pub use cursor::{Cursor, Malformed};
pub use frame::{Decoder, JobSignal, Report, Request, encode_report, encode_request};
pub use launch::{Launch, Limits, Placement};
pub use outcome::{Cause, Outcome, StartDir};
pub use refusal::Refusal;
pub use run::{RunFile, RunId};
pub use stamp::Stamp;
pub use store::{Bond, StoreId};
pub use warrant::Claims;
