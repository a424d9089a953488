//! Who is who: whether a user may have tokens now, and with which role.

use std::sync::Arc;

use warrant_api::scope::{Scope, Scopes};
use warrant_api::token::Role;
use warrant_migrations::{Db, Tx};

use crate::accounts::Accounts;
use crate::error::Result;
use crate::login::Wrong;
use crate::store::users::{self, By, User};
use crate::user_name::UserName;

/// Who has which role, besides those whose row says it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roles {
    /// Users who are administrators.
    pub(crate) admin_users: Vec<UserName>,
    /// Users who are operators.
    pub(crate) operator_users: Vec<UserName>,
    /// Groups of the machine whose members are administrators.
    pub(crate) admin_groups: Vec<String>,
    /// Groups of the machine whose members are operators.
    pub(crate) operator_groups: Vec<String>,
}

impl Roles {
    /// Whether groups give any.
    pub(crate) fn has_groups(&self) -> bool {
        !self.admin_groups.is_empty() || !self.operator_groups.is_empty()
    }
}

/// A user who may have tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The user's name.
    pub(crate) name: String,
    /// The account's user id, in multi-user mode.
    pub(crate) uid: Option<u32>,
    /// What the user may do.
    pub(crate) role: Role,
    /// Whether the role came from a group of the machine.
    pub(crate) by_group: bool,
}

/// Knows who is who.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The users, where they are kept here.
    pub(crate) db: Db,
    /// Whether passwords are kept here.
    pub(crate) stored: bool,
    /// Whether the password of an account is enough, without a row.
    pub(crate) unlisted: bool,
    /// Whether providers prove users.
    pub(crate) provided: bool,
    /// The accounts, where users, or some of them, must have one.
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// Whether all must have one, whose user id the tokens name.
    pub(crate) with_uid: bool,
    /// Who has which role.
    pub(crate) roles: Roles,
}

impl Directory {
    /// The user called `name`, as it is now, if the user may have tokens.
    ///
    /// Errors: the database or the name service did not answer.
    pub(crate) async fn standing(&self, name: &str) -> Result<Result<Principal, Wrong>> {
        let Ok(name) = UserName::parse(name) else {
            return Ok(Err(Wrong::Name));
        };
        let row = users::find(&mut self.db.read().await?, &name).await?;
        let listed = match self.listed(row.as_ref()) {
            Ok(listed) => listed,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let mut uid = None;
        if let Some(accounts) = &self.accounts
            && (self.with_uid || listed.is_none())
        {
            match accounts.find_recent(&name).await? {
                Ok(account) => uid = Some(account.uid),
                Err(none) => return Ok(Err(Wrong::Account(none))),
            }
        }
        let superuser = listed.is_some_and(|user| user.superuser);
        Ok(Ok(self.principal(&name, uid, superuser).await?))
    }

    /// The row of a user, if it is more than a mark that the user was disabled
    /// once; `None` for users who are accounts alone.
    ///
    /// Errors: the user is disabled; nobody proves users of this name.
    fn listed<'a>(&self, row: Option<&'a User>) -> Result<Option<&'a User>, Wrong> {
        if row.is_some_and(|row| row.disabled) {
            return Err(Wrong::Disabled);
        }
        match row.filter(|row| self.lists(row)) {
            None if !self.unlisted => Err(Wrong::Unknown),
            listed => Ok(listed),
        }
    }

    /// Whether somebody still proves the user of this row.
    pub(crate) fn lists(&self, row: &User) -> bool {
        match row.by {
            By::Database => self.stored,
            By::Oidc => self.provided,
            By::Pam => false,
        }
    }

    /// The user called `name` with the role that it has now.
    ///
    /// Errors: the name service did not answer.
    pub(crate) async fn principal(
        &self,
        name: &UserName,
        uid: Option<u32>,
        superuser: bool,
    ) -> Result<Principal> {
        let (role, by_group) = self.role(name, superuser).await?;
        Ok(Principal {
            name: name.to_string(),
            uid: uid.filter(|_| self.with_uid),
            role,
            by_group,
        })
    }

    /// The highest role that anything gives the user, and whether it was a
    /// group.
    async fn role(&self, name: &UserName, superuser: bool) -> Result<(Role, bool)> {
        let roles = &self.roles;
        if superuser || roles.admin_users.contains(name) {
            return Ok((Role::Administrator, false));
        }
        let groups = roles.admin_groups.iter().chain(&roles.operator_groups);
        let groups: Vec<_> = groups.cloned().collect();
        let of = match &self.accounts {
            Some(accounts) if !groups.is_empty() => accounts.groups_of(name, groups).await?,
            Some(_) | None => Vec::new(),
        };
        let in_one = |groups: &[String]| groups.iter().any(|group| of.contains(group));
        Ok(if in_one(&roles.admin_groups) {
            (Role::Administrator, true)
        } else if roles.operator_users.contains(name) {
            (Role::Operator, false)
        } else if in_one(&roles.operator_groups) {
            (Role::Operator, true)
        } else {
            (Role::User, false)
        })
    }

    /// Whether the user may still have tokens; nobody changes that before the
    /// transaction is over.
    ///
    /// Errors: the database did not answer.
    pub(crate) async fn hold(&self, tx: &mut Tx, name: &str) -> Result<bool> {
        let Ok(name) = UserName::parse(name) else {
            return Ok(false);
        };
        let row = users::hold(tx, &name).await?;
        Ok(self.listed(row.as_ref()).is_ok())
    }
}

/// What the tokens of a user with this role may be used for at most.
pub(crate) fn scopes_of(role: Role) -> Scopes {
    match role {
        Role::User => Scopes::NONE
            .with(Scope::Read)
            .with(Scope::Submit)
            .with(Scope::Control),
        Role::Operator | Role::Administrator => Scopes::ALL,
    }
}

/// Whether `role` is less than `than`.
pub(crate) fn is_less(role: Role, than: Role) -> bool {
    let rank = |role| match role {
        Role::User => 0,
        Role::Operator => 1,
        Role::Administrator => 2,
    };
    rank(role) < rank(than)
}
