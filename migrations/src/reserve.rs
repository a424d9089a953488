//! Room on the disk for what must be written when it is full: ends, cancels,
//! logins, rows of the audit trail.
//!
//! The room is allocated behind the ends of SQLite's own files, which then grow
//! into it. Nobody else can take it, as they could the room of a file that is
//! given up when it is needed.

use std::fs::File;
use std::io::ErrorKind;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

/// The most that is reserved behind each file, in bytes.
const MOST: u64 = 4 << 20;
/// The share of the disk that it is at most.
const SHARE: u64 = 16;
/// With less room than this, in bytes, nothing new is taken.
const LEAST: u64 = 1 << 20;
/// How often the reserve is filled up.
const EVERY: Duration = Duration::from_secs(1);

/// The reserve of one SQLite database.
#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    /// Never closed: to close any descriptor of the file would release the
    /// locks that SQLite holds on it. Source: SQLite, "How To Corrupt An SQLite
    /// Database File", 2.2.
    data: ManuallyDrop<File>,
    log: PathBuf,
}

/// What a disk has.
struct Disk {
    bytes: u64,
    free: u64,
    /// Whether no more files can be made.
    has_no_files: bool,
}

impl Reserve {
    /// The reserve of the database at `url`, which must be there; `None` where
    /// that is not SQLite. One process opens it once.
    ///
    /// Errors: the file cannot be opened.
    pub fn open(url: &str) -> std::io::Result<Option<Arc<Self>>> {
        let Some(path) = url.strip_prefix("sqlite:") else {
            return Ok(None);
        };
        let data = File::options().write(true).open(path)?;
        let dir = Path::new(path).parent().unwrap_or(Path::new("."));
        Ok(Some(Arc::new(Self {
            dir: if dir.as_os_str().is_empty() {
                ".".into()
            } else {
                dir.into()
            },
            data: ManuallyDrop::new(data),
            log: format!("{path}-wal").into(),
        })))
    }

    /// Whether the disk is full, but for the reserve: what can wait must not be
    /// written then. Where that cannot be known it is not.
    pub fn is_needed(&self) -> bool {
        self.disk()
            .is_some_and(|disk| disk.free < LEAST || disk.has_no_files)
    }

    fn disk(&self) -> Option<Disk> {
        let of = statvfs(&self.dir).ok()?;
        let block = of.fragment_size();
        Some(Disk {
            bytes: of.blocks().saturating_mul(block),
            free: of.blocks_available().saturating_mul(block),
            // Some file systems do not count files.
            has_no_files: of.files() > 0 && of.files_available() == 0,
        })
    }

    /// Fill the reserve up now and then, for as long as the process lives.
    pub async fn keep(self: Arc<Self>) {
        let mut was_full = false;
        loop {
            let reserve = self.clone();
            let filled = tokio::task::spawn_blocking(move || reserve.fill()).await;
            match filled {
                Ok(Ok(())) => {}
                Ok(Err(Errno::EOPNOTSUPP)) => {
                    tracing::warn!(
                        "no room can be reserved on the database's disk: when it is full, nothing \
                         can be recorded"
                    );
                    return;
                }
                Ok(Err(error)) => tracing::debug!(%error, "the reserve was not filled up"),
                Err(_) => return,
            }
            let is_full = self.is_needed();
            if is_full && !was_full {
                tracing::warn!(
                    dir = %self.dir.display(),
                    "the database's disk is full: what must be recorded takes the reserve, and \
                     nothing new is accepted"
                );
            } else if was_full && !is_full {
                tracing::info!("there is room on the database's disk again");
            }
            was_full = is_full;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Fill the reserve up, as far as there is room.
    ///
    /// Errors: those of fallocate(2).
    fn fill(&self) -> nix::Result<()> {
        // The log is there once something was written. It may be closed: SQLite
        // holds no locks on it.
        match File::options().write(true).open(&self.log) {
            Ok(log) => self.extend(&log)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(errno(&error)),
        }
        self.extend(&self.data)
    }

    fn extend(&self, file: &File) -> nix::Result<()> {
        let length = file.metadata().map_err(|error| errno(&error))?.len();
        let Some(disk) = self.disk() else {
            return Ok(());
        };
        let wanted = MOST.min(disk.bytes / SHARE);
        // The last of the room is not taken from others.
        if disk.free < wanted.saturating_add(LEAST) {
            return Ok(());
        }
        let (from, wanted) = (length.cast_signed(), wanted.cast_signed());
        let keep_size = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, keep_size, from, wanted)
    }
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn room_is_reserved_behind_the_ends_of_the_files_which_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.db");
        let log = dir.path().join("some.db-wal");
        fs::write(&path, b"data").unwrap();
        let url = format!("sqlite:{}", path.display());
        let reserve = Reserve::open(&url).unwrap().unwrap();
        // Also before there is a log.
        reserve.fill().unwrap();
        fs::write(&log, b"log").unwrap();
        reserve.fill().unwrap();
        for (file, content) in [(&path, &b"data"[..]), (&log, b"log")] {
            assert_eq!(fs::read(file).unwrap(), content);
            let allocated = fs::metadata(file).unwrap().blocks() * 512;
            assert!(allocated >= 1 << 20, "{}: {allocated}", file.display());
        }
        assert!(!reserve.is_needed());
    }

    #[test]
    fn a_server_keeps_its_own_reserve() {
        assert!(Reserve::open("postgres://localhost/x").unwrap().is_none());
    }
}
