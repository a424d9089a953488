//! The monitor that is root. Numbers in names of tests are those of the list
//! of attacks.

mod bounds;
mod checks;
mod house;
mod lost;
mod managed;
mod peers;
mod replay;
mod starting;
mod stores;
