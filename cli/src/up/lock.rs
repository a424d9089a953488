//! One server at a time in a directory: a file that is locked for as long as
//! the server lives, and tells whoever comes second about the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::failure::Failure;

/// The lock of a directory.
pub(crate) struct Lock(File);

impl Lock {
    /// Take it.
    ///
    /// Errors: `Refused` when another server has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join("up.lock");
        let failed = |error| Failure::Refused(format!("cannot lock {}: {error}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without its words the holder is merely nameless.
                let _ = Read::by_ref(&mut file)
                    .take(200)
                    .read_to_string(&mut holder);
                Err(Failure::Refused(format!(
                    "{} is in use by another `warrant up` ({}): stop that one first, or give \
                     another --state-dir",
                    dir.display(),
                    crate::terminal::visible(&holder)
                )))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Leave word of who holds it.
    pub(crate) fn announce(&mut self, url: &str) -> Result<(), Failure> {
        let text = format!("process {}, {url}", std::process::id());
        self.0
            .set_len(0)
            .and_then(|()| self.0.rewind())
            .and_then(|()| self.0.write_all(text.as_bytes()))
            .map_err(|error| Failure::Refused(format!("cannot write the lock file: {error}")))
    }
}
