//! A whole installation for a test to live in: real processes, a real
//! database, a real client. Nothing here is part of the product.
//!
//! ```no_run
//! use warrant_tests::House;
//!
//! let house = House::open();
//! let ann = house.user("ann");
//! let job = ann.submit("echo hello");
//! assert_eq!(ann.finished(job)["result"], "COMPLETED");
//! assert_eq!(ann.output(job), ["hello\n"]);
//! house.close();
//! ```

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails and says why; it starts processes"
)]

pub mod cluster;
pub mod database;
pub mod disk;
pub mod dpop;
pub mod fake_auth;
pub mod flux;
pub mod handshake;
pub mod house;
pub mod nginx;
pub mod openid;
pub mod ports;
pub mod processes;
pub mod python;
pub mod raw;
pub mod service;
pub mod village;
pub mod wait;

pub use database::Database;
pub use fake_auth::FakeAuth;
pub use flux::{Answer, Flux};
pub use house::{House, Setup};
pub use village::{Account, Plan, Village};

/// The tests of `$body`, once for each database. Each takes the [`Setup`] of
/// a house on that database. Where there is no PostgreSQL, its test says why
/// it was left out, or fails if `WARRANT_REQUIRE_POSTGRES=1`.
#[macro_export]
macro_rules! on_each_database {
    ($($(#[$meta:meta])* fn $name:ident($setup:ident: Setup) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "not every test needs all of its neighbours")]
            use super::*;

            fn check($setup: $crate::Setup) $body

            #[test]
            fn on_sqlite() {
                check($crate::Setup::on($crate::Database::Sqlite));
            }

            #[test]
            fn on_postgres() {
                if let Some(server) = $crate::Database::postgres() {
                    check($crate::Setup::on(server));
                }
            }
        }
    )*};
}
