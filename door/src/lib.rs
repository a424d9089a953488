//! What both services do with whoever connects, before anything is routed:
//! bounds on connections, and requests that two readers could understand in
//! two ways are refused.

#![forbid(unsafe_code)]

mod framing;
mod guarded;
pub mod origin;
mod places;
pub mod shape;
pub mod tls;

pub use guarded::{Guarded, Verdicts};
pub use places::{Place, Places, network};
