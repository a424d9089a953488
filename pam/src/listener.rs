//! The socket: systemd's, or one of our own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::{Mode, umask};

use crate::options::Options;
use crate::sys;

/// The first descriptor that systemd passes. Source: sd_listen_fds(3).
const FIRST_PASSED: i32 = 3;

/// The socket to listen on. One that is made here is for the peer alone.
///
/// Errors: there is none; the path is taken, or its directory is open to
/// others than root.
pub(crate) fn open(options: &Options) -> Result<UnixListener, String> {
    match &options.socket {
        Some(path) => bind(path, options.peer_uid),
        None => passed(),
    }
}

fn passed() -> Result<UnixListener, String> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let for_us = variable("LISTEN_PID") == std::process::id().to_string();
    if !for_us || variable("LISTEN_FDS") != "1" {
        return Err("no socket was passed by systemd; name one with --socket".into());
    }
    let socket =
        sys::take_passed(FIRST_PASSED).map_err(|error| format!("descriptor 3: {error}"))?;
    let listener = UnixListener::from(socket);
    match listener.local_addr() {
        Ok(_) => Ok(listener),
        Err(error) => Err(format!("descriptor 3 is not a Unix socket: {error}")),
    }
}

fn bind(path: &Path, peer_uid: u32) -> Result<UnixListener, String> {
    let failed = |error| format!("{}: {error}", path.display());
    let parent = path
        .parent()
        .filter(|parent| parent.is_absolute())
        .ok_or("--socket: an absolute path is needed")?;
    let found = fs::metadata(parent).map_err(failed)?;
    if found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(format!(
            "{}: must belong to root and be writable by nobody else",
            parent.display()
        ));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(format!("{}: exists and is no socket", path.display())),
        Err(_) => {}
    }
    umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    chown(path, Some(peer_uid), None).map_err(failed)?;
    Ok(listener)
}
