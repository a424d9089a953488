//! The accounts of the services, which root makes once.

use std::collections::HashSet;

use nix::unistd::{Group, User};

use crate::failure::Failure;

/// The broker's account. A group of the same name may read what jobs print.
pub(crate) const BROKER: &str = "warrant";

/// The auth service's account.
pub(crate) const AUTHSVC: &str = "warrant-auth";

/// The account of the processes that stay with running jobs.
const KEEPER: &str = "warrant-keeper";

/// User and group ids of the services.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// The broker's user id.
    pub(crate) broker_uid: u32,
    /// The broker's group id.
    pub(crate) broker_gid: u32,
    /// The auth service's user id.
    pub(crate) authsvc_uid: u32,
    /// The auth service's group id.
    pub(crate) authsvc_gid: u32,
}

impl Accounts {
    /// Look them up.
    ///
    /// Errors: `Refused` where one is missing, with how to make it; or where
    /// two would be the same, or one is root's.
    pub(crate) fn find() -> Result<Self, Failure> {
        let found = [find(BROKER)?, find(AUTHSVC)?, find(KEEPER)?];
        let [Some(broker), Some(authsvc), Some(keeper)] = found else {
            return Err(missing(found.map(|ids| ids.is_some())));
        };
        let all = Self {
            broker_uid: broker.0,
            broker_gid: broker.1,
            authsvc_uid: authsvc.0,
            authsvc_gid: authsvc.1,
        };
        all.check(keeper)?;
        Ok(all)
    }

    fn check(&self, keeper: (u32, u32)) -> Result<(), Failure> {
        let uids = HashSet::from([0, self.broker_uid, self.authsvc_uid, keeper.0]);
        let gids = HashSet::from([0, self.broker_gid, self.authsvc_gid, keeper.1]);
        if (uids.len(), gids.len()) != (4, 4) {
            return Err(Failure::Refused(format!(
                "the accounts {BROKER}, {AUTHSVC} and {KEEPER} must have user and group ids of \
                 their own, and not root's"
            )));
        }
        Ok(())
    }
}

/// The ids of an account and of the group of its name; `None` where either is
/// missing.
fn find(name: &str) -> Result<Option<(u32, u32)>, Failure> {
    let failed = |errno: nix::Error| Failure::Refused(format!("cannot look up {name}: {errno}"));
    let user = User::from_name(name).map_err(failed)?;
    let group = Group::from_name(name).map_err(failed)?;
    match (user, group) {
        (Some(user), Some(group)) if user.gid == group.gid => {
            Ok(Some((user.uid.as_raw(), group.gid.as_raw())))
        }
        (Some(_), Some(_)) => Err(Failure::Refused(format!(
            "the first group of the account {name} must be the group {name}"
        ))),
        (Some(_), None) | (None, _) => Ok(None),
    }
}

fn missing(is_there: [bool; 3]) -> Failure {
    let mut message = format!(
        "the services need the accounts {BROKER}, {AUTHSVC} and {KEEPER}, each with a group of \
         its name. Make what is missing with"
    );
    let names = [BROKER, AUTHSVC, KEEPER].into_iter().zip(is_there);
    for (name, _) in names.filter(|(_, is_there)| !is_there) {
        message.push_str(&format!(
            "\n  useradd --system --user-group --no-create-home --home-dir /nonexistent \
             --shell /usr/sbin/nologin {name}"
        ));
    }
    Failure::Refused(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_account_comes_with_the_lines_that_make_it() {
        let Failure::Refused(message) = missing([false, true, false]) else {
            panic!("another failure");
        };
        let lines: Vec<_> = message.lines().skip(1).collect();
        assert_eq!(lines.len(), 2);
        for (line, name) in lines.iter().zip([BROKER, KEEPER]) {
            assert!(line.starts_with("  useradd --system"), "{line}");
            assert!(line.ends_with(&format!(" {name}")), "{line}");
        }
    }

    #[test]
    fn services_that_could_read_each_others_files_are_refused() {
        let accounts = |broker_uid, authsvc_uid| Accounts {
            broker_uid,
            broker_gid: 998,
            authsvc_uid,
            authsvc_gid: 997,
        };
        let keeper = (996, 996);
        assert!(accounts(998, 997).check(keeper).is_ok());
        assert!(accounts(998, 998).check(keeper).is_err());
        assert!(accounts(0, 997).check(keeper).is_err());
        for keeper in [(0, 996), (996, 0), (998, 996), (997, 996), (996, 998)] {
            assert!(accounts(998, 997).check(keeper).is_err());
        }
    }
}
