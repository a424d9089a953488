//! What the administrator of either service meets: secrets that come from
//! files, what `check-config` finds, and backups.

#![forbid(unsafe_code)]

mod backup;
mod database;
mod findings;
mod secret_file;
mod url;

pub use backup::{Backup, backup};
pub use database::{check_clock, check_database};
pub use findings::{CheckConfig, Finding, Findings, Level};
pub use secret_file::{NotRead, read_argument, read_setting};
pub use url::{check_public_url, has_password, role_in};
