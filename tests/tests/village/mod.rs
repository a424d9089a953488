//! Multi-user mode: jobs run as the people who asked for them.

mod crash;
mod deaf;
mod identity;
mod names;
mod order;
mod rotation;
mod stores;
mod warrants;
