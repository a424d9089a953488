//! The socket on which brokers connect.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chown};

use crate::self_check::{self, about, doubt};
use crate::sys::socket::guard;

/// Its owner and the broker's group may connect.
const MODE: u32 = 0o660;

/// A listening socket of which only one user may make use.
pub(super) struct Listener {
    pub(super) socket: UnixListener,
    /// The only user id that is let in.
    pub(super) only: u32,
}

impl Listener {
    /// Takes the socket that is standard input if that listens, or makes one.
    ///
    /// Errors: it listens and is no Unix stream socket; as for making one.
    pub(super) fn open(path: &Path, only: Uid, group: Gid) -> io::Result<Self> {
        let given = io::stdin();
        if getsockopt(&given, sockopt::AcceptConn) != Ok(true) {
            return Self::make(path, only, group);
        }
        let socket = UnixListener::from(given.as_fd().try_clone_to_owned()?);
        let is_stream = getsockopt(&given, sockopt::SockType) == Ok(SockType::Stream);
        if !is_stream || socket.local_addr().is_err() {
            let must = "must be a Unix stream socket if it listens";
            return Err(doubt("standard input", must));
        }
        Self::ready(socket, only)
    }

    /// Makes the socket, in a directory that is root's alone to change.
    ///
    /// Errors: the directory is not; something that is not our socket is in
    /// its place; it cannot be made.
    fn make(path: &Path, only: Uid, group: Gid) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            self_check::make_directory(dir, 0o755, None)?;
        }
        match fs::symlink_metadata(path) {
            Ok(stale) if !stale.file_type().is_socket() || stale.uid() != 0 => {
                return Err(doubt(path, "is not a socket of ours"));
            }
            Ok(_) => fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
        .and_then(|()| {
            let before = umask(Mode::from_bits_truncate(0o177));
            let socket = UnixListener::bind(path);
            umask(before);
            let socket = socket?;
            chown(path, Some(Uid::from_raw(0)), Some(group))?;
            fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
            Self::ready(socket, only)
        })
        .map_err(about(path))
    }

    /// The next connection, if one waits. Never waits for one, whatever the
    /// socket's flags say: other processes have the same socket (whatever the
    /// service manager starts for this unit), and its flags are theirs as well.
    pub(super) fn accept(&self) -> Option<UnixStream> {
        self.socket.set_nonblocking(true).ok()?;
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::ZERO) {
            Ok(1..) => Some(self.socket.accept().ok()?.0),
            Ok(_) | Err(_) => None,
        }
    }

    fn ready(socket: UnixListener, only: Uid) -> io::Result<Self> {
        guard(&socket)?;
        let only = only.as_raw();
        Ok(Self { socket, only })
    }
}
