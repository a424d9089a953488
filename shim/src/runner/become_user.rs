//! Giving up root, for good, and proving it.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, getgroups, getresgid, getresuid, seteuid, setgroups, setresgid, setresuid,
};

use super::User;
use crate::account::Account;
use crate::sys::capability;

/// Becomes the user. This process must have one thread, and nothing open that
/// the user may not have.
///
/// Errors: whatever failed; the process must end then, at once.
pub(super) fn drop_to(user: &User<'_>) -> io::Result<()> {
    let account = user.account;
    // The monitor and the keepers may be protected; their jobs are not.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    umask(Mode::from_bits_truncate(user.policy.umask & 0o777));
    if user.policy.no_new_privs {
        capability::bound(0)?;
    }
    setgroups(&account.groups)?;
    setresgid(account.gid, account.gid, account.gid)?;
    setresuid(account.uid, account.uid, account.uid)?;
    capability::set(0, 0)?;
    prove(account)?;
    if user.policy.no_new_privs {
        prctl::set_no_new_privs()?;
    }
    // Until the program is executed, nobody may look into this process: its
    // memory is a copy of a privileged one's. The kernel has reset this.
    prctl::set_dumpable(false)?;
    Ok(())
}

/// Errors: `EPERM` if anything is left of root, or can be had back.
fn prove(account: &Account) -> io::Result<()> {
    let (uid, gid) = (account.uid, account.gid);
    let (users, groups) = (getresuid()?, getresgid()?);
    let mut expected = account.groups.clone();
    let mut held = getgroups()?;
    expected.sort_unstable_by_key(|gid| gid.as_raw());
    held.sort_unstable_by_key(|gid| gid.as_raw());
    let (root, wheel) = (Uid::from_raw(0), Gid::from_raw(0));
    let is_user = (users.real, users.effective, users.saved) == (uid, uid, uid)
        && (groups.real, groups.effective, groups.saved) == (gid, gid, gid)
        && held == expected
        && capability::sets()? == [0; 3];
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
