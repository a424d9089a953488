//! Passwords whose hashes are kept in the database.

use super::{Barred, Checked, Login, Refusal, Wrong};
use crate::accounts::Found;
use crate::handshake::{self, Once};
use crate::passwords::{self, Verified};
use crate::secret::Secret;
use crate::source::Source;
use crate::store::spent::{self, OneUse};
use crate::store::users::{self, By, User};
use crate::user_name::UserName;

impl Login {
    /// The user, if this is the password, the payload is fresh, and there is
    /// an account where there must be one. Whatever is wrong, the same is done
    /// before it is told.
    pub(super) async fn check_stored(
        &self,
        name: Option<&UserName>,
        password: Secret,
        once: Option<Once>,
        source: &Source,
    ) -> Result<Checked, Refusal> {
        if !passwords::is_possible(&password) {
            return Err(Wrong::Password.into());
        }
        let turn = self.hasher.turn().await?;
        self.check_again(name, source)?;
        let user = match name {
            Some(name) => users::find(&mut self.db.read().await?, name).await?,
            None => None,
        };
        // Whose password is kept elsewhere is not known here.
        let user = user.filter(|user| user.by == By::Database);
        let account = self.account(name).await?;
        let stored = user.as_ref().map(|user| user.password_hash.clone());
        let renew = user.as_ref().is_some_and(|user| !user.disabled);
        let verified = turn.verify(stored, password, renew).await?;
        let user = user.ok_or(name.map_or(Wrong::Name, |_| Wrong::Unknown))?;
        if user.disabled {
            return Err(Wrong::Disabled.into());
        }
        self.settle(&user, verified, account, once).await
    }

    /// The user of `row`, where the hash was the password's.
    pub(super) async fn settle(
        &self,
        row: &User,
        verified: Verified,
        account: Option<Found>,
        once: Option<Once>,
    ) -> Result<Checked, Refusal> {
        let renewed = match verified {
            Verified::Wrong => return Err(Wrong::Password.into()),
            Verified::Right => None,
            Verified::Renewed(hash) => Some(hash),
        };
        let account = account.transpose().map_err(Barred::Account)?;
        if renewed.is_some() || once.is_some() {
            self.record(row, renewed, once).await?;
        }
        Ok(Checked {
            name: UserName::parse(&row.name).map_err(|_| Wrong::Name)?,
            uid: account.map(|account| account.uid),
            superuser: row.superuser,
            password_us: Some(row.password_changed_us),
        })
    }

    async fn record(
        &self,
        user: &User,
        renewed: Option<String>,
        once: Option<Once>,
    ) -> Result<(), Refusal> {
        let mut tx = self.db.begin().await?;
        if let Some(once) = once
            && !spent::spend(&mut tx, OneUse::Payload(&once.id), once.ends_us).await?
        {
            return Err(Refusal::Payload(handshake::Refused::Undecodable));
        }
        if let Some(hash) = renewed {
            users::renew_hash(&mut tx, user.id, &user.password_hash, &hash).await?;
        }
        Ok(tx.commit().await?)
    }
}
