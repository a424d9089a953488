//! What administrators do: roles of databases, backups, secrets from files.

mod backup;
mod check;
mod metrics;
mod readonly;
mod roles;
mod supervised;
