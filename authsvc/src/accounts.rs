//! The accounts of this machine: who may log in and have jobs.
//!
//! The name service may ask a network, and may hang. Each look-up runs on a
//! thread of its own kind, is waited for a bounded time, and only so many run
//! at once. Nobody is taken for unknown because nobody could tell.

use std::collections::HashMap;
use std::ffi::CString;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Group, Uid, User, getgrouplist};
use tokio::sync::Semaphore;
use warrant_wire::account::{MAX_UID, MIN_UID, is_person};

use crate::error::{Error, Part, Result};
use crate::user_name::UserName;

/// How long a look-up may take, waiting for its turn included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Look-ups at once.
const PARALLEL: usize = 8;
/// How long an account that was found may be taken to be there still.
const FRESH: Duration = Duration::from_secs(5);
/// Accounts remembered.
const REMEMBERED: usize = 4096;

/// An account that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its user id.
    pub(crate) uid: u32,
}

/// Why there is no account to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAccount {
    /// There is none of this name.
    Unknown,
    /// It is root's, nobody's or the system's, whatever the site's range.
    System,
    /// It could be a person's, and its user id is outside the site's range.
    Range,
    /// Its primary group is root's.
    RootGroup,
    /// The name is not the account's own: the account is called otherwise, or
    /// its user id leads to another name.
    Mismatch,
}

impl NoAccount {
    /// The reason in one stable word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "account-unknown",
            Self::System | Self::Range => "uid-range",
            Self::RootGroup => "root-group",
            Self::Mismatch => "account-mismatch",
        }
    }

    /// Whether the account could be a person's, so that its password is asked
    /// for and the reason is told to whoever knows it.
    pub(crate) fn may_be_proven(self) -> bool {
        match self {
            Self::Range => true,
            Self::Unknown | Self::System | Self::RootGroup | Self::Mismatch => false,
        }
    }

    /// The reason for the user, once they proved who they are.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Unknown => "There is no account of this name on this machine.",
            Self::System => "System accounts may not log in here.",
            Self::Range => {
                "The user id of this account is outside the range that may log in here \
                 (accounts.min_uid to accounts.max_uid)."
            }
            Self::RootGroup => "Accounts whose primary group is root's may not log in here.",
            Self::Mismatch => {
                "This account goes by another name on this machine. Log in under that name."
            }
        }
    }
}

/// What a look-up came to, where the name service answered.
pub(crate) type Found = Result<Account, NoAccount>;

/// What the name service says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uid: u32,
    gid: u32,
    /// The name that the user id leads back to.
    name_of_uid: Option<String>,
}

/// Looks accounts up.
#[derive(Debug)]
pub(crate) struct Accounts {
    range: RangeInclusive<u32>,
    patience: Duration,
    turns: Arc<Semaphore>,
    known: Mutex<HashMap<UserName, (Account, Instant)>>,
}

impl Accounts {
    /// Accounts with a user id in `range`.
    pub(crate) fn new(range: RangeInclusive<u32>) -> Self {
        Self {
            range,
            patience: PATIENCE,
            turns: Arc::new(Semaphore::new(PARALLEL)),
            known: Mutex::default(),
        }
    }

    /// The account called `name`, if it may be used.
    ///
    /// Errors: the name service failed, or did not answer in 5 seconds.
    pub(crate) async fn find(&self, name: &UserName) -> Result<Found> {
        let wanted = name.clone();
        let looked = self.in_turn(move || look_up(wanted.as_str())).await?;
        let entry = looked.map_err(|errno| lost("an account was not looked up", errno))?;
        Ok(judge(name.as_str(), entry, &self.range))
    }

    /// As [`Accounts::find`], or what that found at most 5 seconds ago. Only
    /// what was found is remembered.
    ///
    /// Errors: as [`Accounts::find`].
    pub(crate) async fn find_recent(&self, name: &UserName) -> Result<Found> {
        let now = Instant::now();
        if let Some((account, found_at)) = self.known().get(name).copied()
            && now.saturating_duration_since(found_at) < FRESH
        {
            return Ok(Ok(account));
        }
        let found = self.find(name).await?;
        if let Ok(account) = found {
            let mut known = self.known();
            if known.len() >= REMEMBERED {
                known.retain(|_, (_, at)| now.saturating_duration_since(*at) < FRESH);
            }
            if known.len() < REMEMBERED {
                known.insert(name.clone(), (account, now));
            }
        }
        Ok(found)
    }

    /// Those of `groups`, by name, that the account called `name` is in. One
    /// that does not exist has no members.
    ///
    /// Errors: as [`Accounts::find`].
    pub(crate) async fn groups_of(
        &self,
        name: &UserName,
        groups: Vec<String>,
    ) -> Result<Vec<String>> {
        let wanted = name.clone();
        let looked = self.in_turn(move || those_of(wanted.as_str(), groups));
        let found = looked.await?;
        found.map_err(|errno| lost("groups were not looked up", errno))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<UserName, (Account, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Run `look` where it may block. A turn is given back when the look-up
    /// ends, not when nobody waits for it any longer.
    async fn in_turn<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turns = self.turns.clone();
        let looked = tokio::time::timeout(self.patience, async move {
            let turn = turns
                .acquire_owned()
                .await
                .map_err(|source| Error::unavailable("no account is looked up", source))?;
            tokio::task::spawn_blocking(move || {
                let found = look();
                drop(turn);
                found
            })
            .await
            .map_err(|source| Error::unavailable("a look-up was cut short", source))
        });
        looked
            .await
            .map_err(|late| lost("the name service takes too long", late))?
    }
}

/// The name service failed.
fn lost(
    message: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::unavailable(message, source).of(Part::Directory)
}

/// The user id of the account `name`, whatever its range; `None` if there is
/// no such account. For settings that name an account.
///
/// Errors: the name service failed.
pub(crate) fn uid_of(name: &str) -> Result<Option<u32>> {
    User::from_name(name)
        .map(|user| user.map(|user| user.uid.as_raw()))
        .map_err(|errno| lost("an account was not looked up", errno))
}

/// Source: getpwnam_r(3), getpwuid_r(3).
fn look_up(name: &str) -> nix::Result<Option<Entry>> {
    let Some(user) = User::from_name(name)? else {
        return Ok(None);
    };
    let back = User::from_uid(Uid::from_raw(user.uid.as_raw()))?;
    Ok(Some(Entry {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        // A name service that takes names in any case answers with its own.
        name_of_uid: back.filter(|_| user.name == name).map(|back| back.name),
    }))
}

/// Source: getgrouplist(3), getgrnam_r(3).
fn those_of(name: &str, mut groups: Vec<String>) -> nix::Result<Vec<String>> {
    let (Some(user), Ok(c_name)) = (User::from_name(name)?, CString::new(name)) else {
        return Ok(Vec::new());
    };
    let gids = getgrouplist(&c_name, user.gid)?;
    let mut failed = Ok(());
    groups.retain(|group| match Group::from_name(group) {
        Ok(found) => found.is_some_and(|found| gids.contains(&found.gid)),
        Err(errno) => {
            failed = Err(errno);
            false
        }
    });
    failed.map(|()| groups)
}

fn judge(name: &str, entry: Option<Entry>, range: &RangeInclusive<u32>) -> Found {
    let entry = entry.ok_or(NoAccount::Unknown)?;
    let is_in_range = is_person(entry.uid, range);
    if !is_in_range && !is_person(entry.uid, &(MIN_UID..=MAX_UID)) {
        return Err(NoAccount::System);
    }
    if entry.gid == 0 {
        return Err(NoAccount::RootGroup);
    }
    if entry.name_of_uid.as_deref() != Some(name) {
        return Err(NoAccount::Mismatch);
    }
    if !is_in_range {
        return Err(NoAccount::Range);
    }
    Ok(Account { uid: entry.uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: u32, gid: u32, back: &str) -> Option<Entry> {
        Some(Entry {
            uid,
            gid,
            name_of_uid: Some(back.to_owned()),
        })
    }

    fn judged(entry: Option<Entry>) -> Found {
        judge("ann", entry, &(1000..=60_000))
    }

    #[test]
    fn t27_t28_only_a_user_id_within_the_range_is_an_account_to_use() {
        for uid in [1000, 1001, 60_000] {
            assert_eq!(judged(entry(uid, uid, "ann")), Ok(Account { uid }));
        }
        for uid in [0, 1, 999, 61_184, 65_534, 65_535, u32::MAX - 1, u32::MAX] {
            assert_eq!(judged(entry(uid, 1000, "ann")), Err(NoAccount::System));
        }
        for uid in [
            60_001,
            1_000_000_000,
            0x7fff_ffff,
            0x8000_0000,
            u32::MAX - 2,
        ] {
            assert_eq!(judged(entry(uid, 1000, "ann")), Err(NoAccount::Range));
            let all = judge("ann", entry(uid, 1000, "ann"), &(MIN_UID..=MAX_UID));
            assert_eq!(all, Ok(Account { uid }));
        }
        let all = judge("ann", entry(0, 1, "ann"), &(0..=u32::MAX));
        assert_eq!(all, Err(NoAccount::System));
    }

    #[test]
    fn t27_the_root_group_is_nobodys_primary_group() {
        assert_eq!(judged(entry(1000, 0, "ann")), Err(NoAccount::RootGroup));
    }

    #[test]
    fn t32_a_second_name_of_a_user_id_is_refused() {
        assert_eq!(judged(entry(1000, 1000, "bob")), Err(NoAccount::Mismatch));
        let vanished = Some(Entry {
            uid: 1000,
            gid: 1000,
            name_of_uid: None,
        });
        assert_eq!(judged(vanished), Err(NoAccount::Mismatch));
        assert_eq!(judged(None), Err(NoAccount::Unknown));
    }

    #[tokio::test]
    async fn the_accounts_of_this_machine_are_found_as_they_are() {
        let accounts = Accounts::new(1..=60_000);
        let find = async |name: &str| {
            let name = UserName::parse(name).unwrap();
            accounts.find_recent(&name).await.unwrap()
        };
        assert_eq!(find("daemon").await, Ok(Account { uid: 1 }));
        assert_eq!(find("daemon").await, Ok(Account { uid: 1 }));
        assert_eq!(find("root").await, Err(NoAccount::System));
        assert_eq!(find("nobody").await, Err(NoAccount::System));
        assert_eq!(find("no-such-account").await, Err(NoAccount::Unknown));
        let known: Vec<_> = accounts.known().keys().map(UserName::to_string).collect();
        assert_eq!(known, ["daemon"], "what was not found is remembered");
    }

    #[tokio::test]
    async fn an_account_is_in_its_primary_group_and_in_those_that_list_it() {
        let accounts = Accounts::new(1..=60_000);
        let of = async |name: &str, groups: &[&str]| {
            let name = UserName::parse(name).unwrap();
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            accounts.groups_of(&name, groups).await.unwrap()
        };
        assert_eq!(of("daemon", &["bin", "daemon"]).await, ["daemon"]);
        assert_eq!(of("daemon", &["no-such-group"]).await, [""; 0]);
        assert_eq!(of("no-such-account", &["daemon"]).await, [""; 0]);
    }

    #[tokio::test]
    async fn t34_a_name_service_that_hangs_is_waited_for_no_longer_and_holds_its_turn() {
        let accounts = Accounts {
            patience: Duration::from_millis(50),
            ..Accounts::new(1..=60_000)
        };
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        assert!(accounts.in_turn(move || held.recv()).await.is_err());
        assert_eq!(accounts.turns.available_permits(), PARALLEL - 1);
        // Others are answered meanwhile.
        assert!(accounts.in_turn(|| ()).await.is_ok());
        drop(let_go);
        while accounts.turns.available_permits() < PARALLEL {
            tokio::task::yield_now().await;
        }
    }
}
