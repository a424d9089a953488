//! Opening a database, bringing it up to date, and speaking one SQL text to
//! SQLite and PostgreSQL.
//!
//! The broker and the auth service each have a [`Schema`] of their own; both
//! may live in one PostgreSQL database, and neither reads the other's tables.

mod db;
mod hold;
mod reserve;
mod rights;
mod schema;
mod tx;

pub use db::{Db, Error, Result};
pub use hold::{Hold, Holder};
pub use reserve::Reserve;
pub use rights::{ROLES, Standing};
pub use schema::Schema;
pub use tx::{Conn, Driven, Either, Spelt, Split, Surround, Tx};
