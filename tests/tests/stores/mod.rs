//! A job store and what was made with it: spools, and the one service that may
//! use it. What users could see of each other is in `village`.

pub(crate) mod earlier;
pub(crate) mod spools;
mod two;
