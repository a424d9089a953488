//! The whole service, over its sockets.

mod api_keys;
mod audit;
mod backends;
mod certificates;
mod clocks;
mod dpop;
mod handshake;
mod house;
mod keys;
mod lasting;
mod limits;
mod login;
mod multi_user;
mod oauth;
mod oidc;
mod passwords;
mod provider;
mod ranks;
mod sign_in;
mod throttle;
mod timing;
mod warrants;
mod web;
