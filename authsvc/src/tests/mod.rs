//! The whole service, over its sockets.

mod api_keys;
mod audit;
mod backends;
mod certificates;
mod handshake;
mod house;
mod keys;
mod limits;
mod login;
mod multi_user;
mod oauth;
mod oidc;
mod provider;
mod sign_in;
mod throttle;
mod warrants;
mod web;
