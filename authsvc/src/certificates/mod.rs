//! The certificates that clients show in the handshake of TLS: whether they
//! count, and whom they name. Source: RFC 5280, RFC 8705 §2.1.
//!
//! A certificate is what ended at this service's own listener. Nothing that
//! stands in a request says anything about one, and what the broker hands on
//! has none.

mod name;
mod rule;
mod shown;
#[cfg(test)]
mod tests;
mod users;

pub(crate) use name::Name;
pub(crate) use rule::Rule;
pub(crate) use shown::{Named, Shown};
pub(crate) use users::{From, Users};
