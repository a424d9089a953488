//! The account that a job runs as, looked up anew at every start.
//!
//! The account database is believed only when it agrees with the warrant and
//! with itself. An error is never taken for an answer.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use warrant_wire::{Refusal, account::is_name};

use crate::clock;
use crate::identity::{Identity, is_user};
use crate::policy::{DeniedGroup, Policy};
use crate::sys::shadow::{self, Shadow};

/// Shells that let nobody in.
const NO_SHELLS: [&[u8]; 4] = [
    b"/usr/sbin/nologin",
    b"/sbin/nologin",
    b"/bin/false",
    b"/usr/bin/false",
];
/// The shells of the machine. Source: shells(5).
const SHELLS: &str = "/etc/shells";
/// For how long it is known which groups are denied.
const DENIED_TIME: Duration = Duration::from_secs(60);
const DAY_US: u64 = 86_400_000_000;

/// All that a process needs to become a user.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub name: CString,
    /// Its user id.
    pub uid: Uid,
    /// Its primary group.
    pub gid: Gid,
    /// All of its groups, the primary one among them.
    pub groups: Vec<Gid>,
    /// Its home directory.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: PathBuf,
}

/// The groups that the policy denies, and when they were looked up. Most are
/// on no machine, and to find that out takes longer than all else here.
pub struct Denied(Instant, Vec<Gid>);

impl Denied {
    /// Looks them up.
    ///
    /// Errors: the account database does not answer.
    pub fn look_up(policy: &Policy) -> Result<Self, Refusal> {
        let now = Instant::now();
        let groups = policy.deny_groups.iter();
        let found: nix::Result<Vec<_>> = groups.map(|name| Group::from_name(name)).collect();
        let found = found.map_err(unavailable)?;
        let gids = found.into_iter().flatten().map(|group| group.gid);
        Ok(Self(now, gids.collect()))
    }
}

/// Looks up the account of a warrant and judges whether it may run jobs;
/// also the groups that are `denied`, if that was done too long ago.
///
/// Errors: the reason why not.
pub fn resolve(
    identity: &Identity,
    policy: &Policy,
    denied: Option<Denied>,
) -> Result<Account, Refusal> {
    if !is_user(identity.uid, policy) {
        return Err(Refusal::UidRange);
    }
    if !is_name(&identity.name) {
        return Err(Refusal::AccountUnknown);
    }
    let uid = Uid::from_raw(identity.uid);
    let user = User::from_name(&identity.name).map_err(unavailable)?;
    let user = user.ok_or(Refusal::AccountUnknown)?;
    let back = User::from_uid(uid).map_err(unavailable)?;
    let agrees = |user: &User| user.uid == uid && user.name == identity.name;
    if !agrees(&user) || !back.is_some_and(|back| agrees(&back)) {
        return Err(Refusal::AccountMismatch);
    }
    if policy.deny_users.contains(&user.name) {
        return Err(Refusal::AccountDenied);
    }
    if user.gid.as_raw() == 0 {
        return Err(Refusal::GroupDenied);
    }
    let name = CString::new(user.name).map_err(|_| Refusal::AccountUnknown)?;
    let denied = match denied {
        Some(denied) if denied.0.elapsed() < DENIED_TIME => denied,
        Some(_) | None => Denied::look_up(policy)?,
    };
    let groups = groups(&name, user.gid, policy, &denied)?;
    let shadow = shadow::look_up(&name).map_err(unavailable)?;
    let has_no_password = matches!(user.passwd.as_bytes().first(), Some(b'!' | b'*'));
    let is_locked = has_no_password || shadow.is_some_and(|shadow| shadow.is_locked);
    if is_locked && !policy.locked {
        return Err(Refusal::AccountLocked);
    }
    if shadow.is_some_and(|shadow| has_expired(&shadow)) {
        return Err(Refusal::AccountExpired);
    }
    let shell = match user.shell.as_os_str().is_empty() {
        true => "/bin/sh".into(),
        false => user.shell,
    };
    if !policy.nologin && !lets_in(shell.as_os_str().as_bytes())? {
        return Err(Refusal::Shell);
    }
    Ok(Account {
        name,
        uid,
        gid: user.gid,
        groups,
        home: user.dir,
        shell,
    })
}

fn unavailable<E>(_: E) -> Refusal {
    Refusal::AccountUnavailable
}

/// All groups of the account that it may keep, compared by number: a group
/// has one of these, whatever its names.
fn groups(
    name: &CString,
    primary: Gid,
    policy: &Policy,
    denied: &Denied,
) -> Result<Vec<Gid>, Refusal> {
    let mut groups = getgrouplist(name, primary).map_err(unavailable)?;
    if policy.denied_group == DeniedGroup::Remove {
        groups.retain(|gid| *gid == primary || !denied.1.contains(gid));
    }
    match groups.iter().any(|gid| denied.1.contains(gid)) {
        true => Err(Refusal::GroupDenied),
        false => Ok(groups),
    }
}

/// Source: shadow(5), and how pam_unix(8) reads it: an account is over on its
/// last day, a password after it.
fn has_expired(shadow: &Shadow) -> bool {
    let today = i64::try_from(clock::now_us() / DAY_US).unwrap_or(i64::MAX);
    let account_is_over = shadow.expires >= 0 && today >= shadow.expires;
    let password_is_over = shadow.lasts >= 0
        && shadow.changed > 0
        && today.saturating_sub(shadow.changed) > shadow.lasts;
    account_is_over || password_is_over || shadow.changed == 0
}

fn lets_in(shell: &[u8]) -> Result<bool, Refusal> {
    if NO_SHELLS.contains(&shell) {
        return Ok(false);
    }
    match fs::read(SHELLS) {
        Ok(list) => {
            let mut lines = list.split(|byte| *byte == b'\n');
            Ok(lines.any(|line| line.trim_ascii() == shell))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(_) => Err(Refusal::AccountUnavailable),
    }
}
