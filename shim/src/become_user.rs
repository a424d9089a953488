//! Giving up root, for good.

use std::io;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::proof::prove;
use crate::sys::capability::{self, Set};

/// Becomes a user, with these capabilities left and no way back. This process
/// must have one thread, and nothing open that the user may not have.
///
/// Errors: whatever failed; the process must end then, at once.
pub fn become_user(uid: Uid, gid: Gid, groups: &[Gid], kept: Set) -> io::Result<()> {
    setgroups(groups)?;
    setresgid(gid, gid, gid)?;
    prctl::set_keepcaps(kept != 0)?;
    setresuid(uid, uid, uid)?;
    capability::set(kept, kept)?;
    prove(uid, gid, groups, kept)?;
    // Nobody may look into this process: its memory is a copy of a privileged
    // one's. The kernel has reset this.
    Ok(prctl::set_dumpable(false)?)
}
