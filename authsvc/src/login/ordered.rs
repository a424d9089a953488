//! Passwords that are kept in the database for some users and are the system's
//! for others. The first backend that knows the user judges the password, and
//! none after it: else a password that is wrong there would be tried on whoever
//! has the same name elsewhere.
//!
//! For everybody, both are looked into and one hash is computed, and every
//! failure is answered at the same time: nobody learns who knows whom.

use tokio::time::Instant;

use super::system::{FAILED_AFTER, System};
use super::{Barred, Checked, Judge, Login, Refusal, Shown, Wrong};
use crate::accounts::{Found, NoAccount};
use crate::handshake::Once;
use crate::passwords;
use crate::secret::Secret;
use crate::source::Source;
use crate::store::users::{self, By, User};
use crate::user_name::UserName;

/// What is known of a name before its password is looked at.
struct Known<'a> {
    name: &'a UserName,
    row: Option<User>,
    account: Found,
}

impl Login {
    /// The user, if the first that knows them accepts the password.
    pub(super) async fn check_ordered(
        &self,
        system: &System,
        name: Option<&UserName>,
        shown: Shown,
        once: Option<Once>,
        source: &Source,
        by: &mut Option<Judge>,
    ) -> Result<Checked, Refusal> {
        let turn = system.turn().await?;
        self.check_again(name, source)?;
        let began = Instant::now();
        let checked = self.judge_ordered(system, name, shown, once, by).await;
        self.count(&checked, name, source);
        drop(turn);
        if let Err(Refusal::Wrong(_) | Refusal::Barred(_)) = checked {
            tokio::time::sleep_until(began + FAILED_AFTER).await;
        }
        checked
    }

    async fn judge_ordered(
        &self,
        system: &System,
        name: Option<&UserName>,
        shown: Shown,
        once: Option<Once>,
        by: &mut Option<Judge>,
    ) -> Result<Checked, Refusal> {
        let known = self.look_up(name).await?;
        *by = known.as_ref().and_then(|known| self.first_of(known));
        let row = known.as_ref().and_then(|known| known.row.as_ref());
        let stored = row.filter(|_| *by == Some(Judge::Stored));
        let renew = stored.is_some_and(|row| !row.disabled);
        let hash = stored.map(|row| row.password_hash.clone());
        let possible = passwords::is_possible(&shown.password);
        let hashed = if possible {
            shown.password.clone()
        } else {
            Secret::new("")
        };
        let turn = self.hasher.turn().await?;
        let verified = turn.verify(hash, hashed, renew).await?;
        let known = known.ok_or(Wrong::Name)?;
        if known.row.as_ref().is_some_and(|row| row.disabled) {
            return Err(Wrong::Disabled.into());
        }
        if !possible {
            return Err(Wrong::Password.into());
        }
        match (*by, known.row) {
            (Some(Judge::Stored), Some(row)) => {
                let account = self.with_uid.then_some(known.account);
                self.settle(&row, verified, account, once).await
            }
            (Some(Judge::System), _) => {
                system.accepts(known.name, &shown).await?;
                let account = known.account.map_err(Barred::Account)?;
                if let Some(once) = once {
                    self.spend(&once).await?;
                }
                Ok(Checked::by_system(known.name, account))
            }
            (Some(Judge::Stored), None) | (None, _) => {
                known.account.map_err(Wrong::Account)?;
                Err(Wrong::Unknown.into())
            }
        }
    }

    async fn look_up<'a>(&self, name: Option<&'a UserName>) -> Result<Option<Known<'a>>, Refusal> {
        let (Some(name), Some(accounts)) = (name, &self.accounts) else {
            return Ok(None);
        };
        let row = users::find(&mut self.db.read().await?, name).await?;
        let account = accounts.find(name).await?;
        Ok(Some(Known { name, row, account }))
    }

    /// The first that knows the user.
    fn first_of(&self, known: &Known<'_>) -> Option<Judge> {
        let knows = |judge: &Judge| match judge {
            Judge::Stored => known.row.as_ref().is_some_and(|row| row.by == By::Database),
            Judge::System => known
                .account
                .map_or_else(NoAccount::may_be_proven, |_| true),
        };
        self.judges.iter().copied().find(knows)
    }
}
