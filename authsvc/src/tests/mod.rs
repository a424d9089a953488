//! The whole service, over its sockets.

mod handshake;
mod house;
mod keys;
mod limits;
mod login;
mod throttle;
