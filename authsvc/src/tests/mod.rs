//! The whole service, over its sockets.

mod api_keys;
mod audit;
mod certificates;
mod clocks;
mod dpop;
mod handshake;
mod house;
mod keys;
mod limits;
mod login;
mod multi_user;
mod oauth;
mod passwords;
mod ranks;
mod throttle;
mod timing;
mod warrants;
