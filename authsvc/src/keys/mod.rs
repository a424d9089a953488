//! The Ed25519 keys that sign access tokens.
//!
//! Each key is one file whose name says when it begins to sign. A new key is
//! published before that, so that every verifier knows it by its first
//! token; an old one stays published until its last token has ended.

mod files;
mod ring;
mod watch;

pub(crate) use files::KeyDir;
pub(crate) use ring::{Ring, SigningKey, State};
pub(crate) use watch::watch;
