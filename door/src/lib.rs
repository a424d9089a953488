//! What both services do with whoever connects, before anything is routed:
//! bounds on connections, how many there are and how long they wait, a deadline
//! for reading the answers; requests that two readers could understand in two
//! ways are refused; and with how many
//! threads they answer.

#![forbid(unsafe_code)]

pub mod body;
mod framing;
mod guarded;
pub mod origin;
mod paced;
mod places;
mod prefix;
pub mod proxies;
pub mod proxy_protocol;
mod quiet;
pub mod received;
mod settled;
pub mod shape;
pub mod tls;
pub mod unix;
mod workers;

pub use guarded::{Answer, Conversation, Guarded, Turn};
pub use paced::{PACE_BYTES, Paced, bound_unsent};
pub use places::{Idle, Place, Places, Share, network};
pub use prefix::Prefix;
pub use quiet::QuietStream;
pub use settled::{Misread, media_type, redirected_slash, settle};
pub use workers::workers;
