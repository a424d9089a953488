//! Unix sockets that services listen on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use tokio::net::UnixListener;

/// A socket that is listened on. Dropped, its file is removed.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket; removed in the end.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it cannot be removed, the next start replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum NotBound {
    /// Its path is not absolute.
    #[error("an absolute path is needed")]
    NotAbsolute,
    /// Others can write to its directory.
    #[error(
        "{0} has mode {1:04o} and owner {2}; it must belong to root or uid {own} and be writable by \
         its owner alone",
        own = geteuid().as_raw()
    )]
    Open(PathBuf, u32, u32),
    /// Something else is in the way.
    #[error("{0} exists and is no socket")]
    NoSocket(PathBuf),
    /// Somebody listens there.
    #[error("another service answers on {0}")]
    Taken(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {0}: {1}")]
    Failed(PathBuf, io::Error),
}

impl Socket {
    /// Listen at `path`. Nobody can connect before its mode is `mode`.
    ///
    /// Errors: [`NotBound`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, NotBound> {
        let parent = path.parent().filter(|parent| parent.is_absolute());
        let parent = parent.ok_or(NotBound::NotAbsolute)?;
        check_parent(parent)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(NotBound::NoSocket(path.to_owned()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(NotBound::Taken(path.to_owned()));
            }
            Ok(_) | Err(_) => {}
        }
        let failed = |error| NotBound::Failed(path.to_owned(), error);
        let hidden = parent.join(format!(".{}", std::process::id()));
        let _ = fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden).map_err(failed)?;
        fs::set_permissions(&hidden, Permissions::from_mode(mode))
            .and_then(|()| fs::rename(&hidden, path))
            .map_err(failed)?;
        Ok(Self {
            listener,
            file: SocketFile(path.to_owned()),
        })
    }

    /// What listens, and its file.
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// See that nobody else can put another socket in the place of one in `parent`.
///
/// Errors: others can write to it, or it is not there.
pub fn check_parent(parent: &Path) -> Result<(), NotBound> {
    let found = fs::metadata(parent).map_err(|error| NotBound::Failed(parent.to_owned(), error))?;
    let mode = found.mode() & 0o7777;
    let own = geteuid().as_raw();
    if (found.uid() != own && found.uid() != 0) || mode & 0o022 != 0 {
        return Err(NotBound::Open(parent.to_owned(), mode, found.uid()));
    }
    Ok(())
}
