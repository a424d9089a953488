//! Bodies that cross an HTTP boundary, shared by the broker, the auth
//! service, the command line and the tests; and what several of them read in the
//! same way.

pub mod address;
pub mod credential;
pub mod environment;
pub mod flux;
pub mod keys;
pub mod oauth;
pub mod revocation;
pub mod scope;
pub mod token;
