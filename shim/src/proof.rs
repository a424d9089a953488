//! Proving that root has been given up, by whoever was root.

use std::io;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Uid, getgroups, getresgid, getresuid, seteuid, setgroups, setresgid, setresuid,
};

use crate::sys::capability::{self, Set};

/// That this process is this user alone, with these capabilities.
///
/// Errors: `EPERM` if anything is left of root, or can be had back.
pub(crate) fn prove(uid: Uid, gid: Gid, groups: &[Gid], kept: Set) -> io::Result<()> {
    let (users, owned) = (getresuid()?, getresgid()?);
    let mut expected = groups.to_vec();
    let mut held = getgroups()?;
    expected.sort_unstable_by_key(|gid| gid.as_raw());
    held.sort_unstable_by_key(|gid| gid.as_raw());
    let (root, wheel) = (Uid::from_raw(0), Gid::from_raw(0));
    let is_user = (users.real, users.effective, users.saved) == (uid, uid, uid)
        && (owned.real, owned.effective, owned.saved) == (gid, gid, gid)
        && held == expected
        && capability::sets()? == [kept, kept, 0];
    let can_return = uid == root
        || setresuid(root, root, root).is_ok()
        || seteuid(root).is_ok()
        || setresgid(wheel, wheel, wheel).is_ok()
        || setgroups(&[wheel]).is_ok();
    if !is_user || can_return {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}
