//! The chain under an audit trail: each row is sealed by a hash over its own
//! bytes and the hash of the row before it, so that the last hash stands for
//! every row. Whoever keeps it elsewhere can tell later whether anything was
//! changed, added between, or taken away.
//!
//! Pure: no input, no output. Where rows are kept is not known here.

#![forbid(unsafe_code)]

mod chain;
mod walk;

pub use chain::{Field, Hash, Head, NotAHash, VERSION};
pub use walk::{Broken, Walk, Why};
