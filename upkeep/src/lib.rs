//! What the administrator of either service meets: secrets that come from
//! files, what `check-config` finds, backups, and the service manager.

#![forbid(unsafe_code)]

mod backup;
mod database;
mod findings;
mod secret_file;
pub mod service_manager;
mod url;
mod writable;

pub use backup::{Backup, backup};
pub use database::{check_clock, check_database};
pub use findings::{CheckConfig, Finding, Findings, Level};
pub use secret_file::{NotRead, read_argument, read_setting};
pub use url::{check_public_url, has_password, role_in};
pub use writable::{NotWritable, check_database_writable, check_directory_writable};
