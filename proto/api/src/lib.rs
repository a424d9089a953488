//! Bodies that cross an HTTP boundary, shared by the broker, the auth
//! service, the command line and the tests. Nothing here decides anything.

pub mod credential;
pub mod flux;
pub mod keys;
pub mod oauth;
pub mod revocation;
pub mod scope;
pub mod token;
