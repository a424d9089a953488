//! The Flux RESTful API on the wire, to the byte where clients may look.

mod auth;
mod cancel;
mod documents;
mod job;
mod lists;
mod options;
mod output;
mod search;
mod service;
mod settings;
mod submit;
mod tokens;
