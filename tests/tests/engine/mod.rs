//! The embedded engine, as jobs live it.

mod directories;
mod environment;
mod limits;
mod queue;
mod ranks;
mod writing;
