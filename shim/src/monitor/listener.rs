//! The socket on which brokers connect.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, UnixAddr, getsockname, getsockopt, setsockopt, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chown};

use crate::self_check::{self, Doubt};
use crate::{audit, sys};

/// Its owner and the broker's group may connect.
const MODE: u32 = 0o660;

/// A listening socket of which only one user may make use.
pub(super) struct Listener {
    socket: UnixListener,
    only: Uid,
}

impl Listener {
    /// Takes the socket with this descriptor, which was inherited.
    ///
    /// Errors: it is not a Unix stream socket that listens.
    pub(super) fn inherited(fd: OwnedFd, only: Uid) -> Result<Self, Doubt> {
        let is_right = getsockname::<UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&fd))
            .is_ok_and(|address| address.family() == Some(AddressFamily::Unix))
            && getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream)
            && getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
        if !is_right {
            return Err(Doubt::new(
                "LISTEN_FDS",
                "must be a Unix stream socket that listens",
            ));
        }
        Self::ready(UnixListener::from(fd), only)
            .map_err(|error| Doubt::new("LISTEN_FDS", error.to_string()))
    }

    /// Makes the socket, in a directory that is root's alone to change.
    ///
    /// Errors: the directory is not; something that is not our socket is in
    /// its place; it cannot be made.
    pub(super) fn make(path: &Path, only: Uid, group: Gid) -> Result<Self, Doubt> {
        let about = |error| Doubt::about(path, error);
        if let Some(dir) = path.parent() {
            self_check::make_directory(dir, 0o755)?;
            self_check::directory(dir)?;
        }
        match fs::symlink_metadata(path) {
            Ok(stale) if stale.file_type().is_socket() && stale.uid() == 0 => {
                fs::remove_file(path).map_err(about)?;
            }
            Ok(_) => return Err(Doubt::new(path, "is not a socket of ours")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(about(error)),
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let socket = UnixListener::bind(path);
        umask(before);
        let socket = socket.map_err(about)?;
        chown(path, Some(Uid::from_raw(0)), Some(group)).map_err(|errno| about(errno.into()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(about)?;
        Self::ready(socket, only).map_err(about)
    }

    fn ready(socket: UnixListener, only: Uid) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Connections take these over, so that there is no moment without.
        setsockopt(&socket, sockopt::PassCred, &true)?;
        let _ = sys::socket::refuse_descriptors(&socket);
        Ok(Self { socket, only })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The only user id that is let in.
    pub(super) fn only(&self) -> u32 {
        self.only.as_raw()
    }

    /// The next connection of the one who is let in; `None` when there are no
    /// more for now. Any error in asking who it is means no.
    pub(super) fn accept(&self) -> Option<OwnedFd> {
        loop {
            let socket = match self.socket.accept() {
                Ok((socket, _)) => OwnedFd::from(socket),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            let peer = getsockopt(&socket, sockopt::PeerCredentials);
            if peer
                .as_ref()
                .is_ok_and(|peer| peer.uid() == self.only.as_raw())
            {
                let passes = setsockopt(&socket, sockopt::PassCred, &true);
                let _ = sys::socket::refuse_descriptors(&socket);
                if passes.is_ok() {
                    return Some(socket);
                }
            }
            let uid = peer.map_or_else(|errno| errno.to_string(), |peer| peer.uid().to_string());
            audit::line("peer-refused", &[("uid", &uid)]);
        }
    }
}
