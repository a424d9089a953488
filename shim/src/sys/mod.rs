//! System calls that have no safe wrapper elsewhere: one function, one call.
//! This is the only place with unsafe code.

pub mod capability;
pub mod confine;
pub mod fd;
pub mod pam;
pub mod process;
pub mod shadow;
pub mod signal;
pub mod socket;
