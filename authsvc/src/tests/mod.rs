//! The whole service, over its sockets.

mod audit;
mod handshake;
mod house;
mod keys;
mod limits;
mod login;
mod multi_user;
mod oauth;
mod throttle;
mod warrants;
