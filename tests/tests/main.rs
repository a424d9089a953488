//! The product as its users meet it: whole installations, real clients.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails and says why"
)]

mod access;
mod architecture;
mod audit;
mod away;
mod below;
mod cli;
mod clients;
mod crash;
mod engine;
mod faults;
mod flux;
mod full;
mod hostile;
mod injection;
mod numbers;
mod operations;
mod proxy;
mod reading;
mod secrets;
mod settings;
mod shares;
mod stores;
mod tls;
mod village;
