//! Whether what a service must write to can be written: seen by writing, and
//! taking that back.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use warrant_migrations::{Db, Schema};

use crate::Findings;

/// What cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum NotWritable {
    /// The database.
    #[error("the database cannot be written: {0}")]
    Database(#[from] warrant_migrations::Error),
    /// A directory.
    #[error("{}: cannot be written: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NotWritable {
    /// Whether there is merely no room now: a service starts all the same, so
    /// that jobs can be cancelled and room can be made.
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::Database(_) => false,
            Self::Directory { source, .. } => matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ),
        }
    }
}

/// See that the database of `url`, which is open, takes what is written.
///
/// Errors: it does not, or on SQLite the directory of its file does not.
pub async fn check_database_writable(
    schema: Schema,
    db: &Db,
    url: &str,
) -> Result<(), NotWritable> {
    schema.check_writable(db).await?;
    let file = url.strip_prefix("sqlite:").map(Path::new);
    match file.and_then(Path::parent) {
        Some(dir) if dir.as_os_str().is_empty() => check_directory_writable(Path::new(".")),
        Some(dir) => check_directory_writable(dir),
        None => Ok(()),
    }
}

/// See that a directory takes a new file. The file is removed at once.
///
/// Errors: it does not.
pub fn check_directory_writable(dir: &Path) -> Result<(), NotWritable> {
    let path = dir.join(format!(".writable-{}", std::process::id()));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = match options.open(&path) {
            // Left behind by a process of this number that was killed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                options.open(&path)?
            }
            opened => opened?,
        };
        let written = file.write_all(b"w").and_then(|()| file.sync_all());
        fs::remove_file(&path)?;
        written
    };
    write().map_err(|source| NotWritable::Directory {
        path: dir.to_owned(),
        source,
    })
}

impl Findings {
    /// Note that something cannot be written, if so.
    pub fn writable(&mut self, key: &str, checked: Result<(), NotWritable>) {
        if let Err(error) = checked {
            self.error(key, error.to_string());
        }
    }
}
