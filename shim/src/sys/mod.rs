//! System calls that have no safe wrapper elsewhere: one function, one call.
//! This is the only place with unsafe code.

pub mod fd;
pub mod process;
pub mod signal;
