//! What the auth service asks `warrant-pam`, and what it is answered: one
//! frame of a fixed size in, one byte out.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod frame;

pub use frame::{FRAME_BYTES, MAX_CODE_BYTES, MAX_PASSWORD_BYTES, Malformed, Question, Verdict};
