//! The broker: takes jobs over HTTP, records them, has them run, and shows
//! what became of them. It holds no key that signs and no privilege.
//!
//! Arrows point one way: `http/* → service → {store, engine, model}` and
//! `scheduler → {store, engine, model}`; `model` needs nobody. `service` asks
//! for warrants, `http` for tokens and keys: `→ authsvc`, the way there. What
//! happens is counted in `metrics`; `readiness` looks at `service` and `authsvc`.

#![forbid(unsafe_code)]

pub mod app;
pub mod authsvc;
pub mod caller;
pub mod config;
pub mod engine;
pub mod error;
pub mod http;
pub mod live;
pub mod metrics;
pub mod model;
pub mod readiness;
pub mod revocations;
pub mod scheduler;
pub mod service;
pub mod store;
mod vital;
pub mod warrants;
