//! What is fuzzed, a file for each kind of input.

pub(crate) mod claims;
pub(crate) mod environment;
pub(crate) mod frame;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod launch;
pub(crate) mod policy;
pub(crate) mod proof;
pub(crate) mod records;
pub(crate) mod warrant;
