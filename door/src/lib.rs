//! What both services do with whoever connects, before anything is routed:
//! bounds on connections, a deadline for reading the answers, and requests that
//! two readers could understand in two ways are refused; and with how many
//! threads they answer.

#![forbid(unsafe_code)]

mod framing;
mod guarded;
pub mod origin;
mod paced;
mod places;
mod quiet;
pub mod shape;
pub mod tls;
mod workers;

pub use guarded::{Guarded, Verdicts};
pub use paced::{PACE_BYTES, Paced, bound_unsent};
pub use places::{Place, Places, network};
pub use quiet::QuietStream;
pub use workers::workers;
