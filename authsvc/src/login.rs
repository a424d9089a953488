//! From a name and a password to an access token.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warrant_api::token::{Role, TokenAnswer};
use warrant_migrations::Db;

use crate::clock;
use crate::error::Error;
use crate::handshake::{self, Once};
use crate::passwords::{self, Busy, Hasher, Verified};
use crate::secret::Secret;
use crate::source::Source;
use crate::store::{jtis, users};
use crate::throttle::{Throttle, Verdict};
use crate::token::Mint;
use crate::user_name::{UserName, shown};

/// The longest that a login may take; it holds its turn at hashing no longer,
/// even if the database is lost without a word.
const LONGEST: Duration = Duration::from_secs(29);

/// Why no token was given.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The user is unknown or disabled, or the password is wrong; which of
    /// them is nobody's business.
    Wrong,
    /// The handshake's payload is refused.
    Payload(handshake::Refused),
    /// Too many failures; seconds until the next attempt is looked at.
    Throttled(u64),
    /// Too many logins at once.
    Busy,
    /// Something beneath failed.
    Failed(Error),
}

impl fmt::Display for Refusal {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong => f.write_str("unknown, disabled or wrong password"),
            Self::Payload(refused) => refused.fmt(f),
            Self::Throttled(_) => f.write_str("too many failures"),
            Self::Busy => f.write_str("too many logins at once"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<warrant_migrations::Error> for Refusal {
    fn from(error: warrant_migrations::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Somebody who wants a token.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The name, as given.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: Secret,
    /// What makes the attempt's payload good for one use.
    pub(crate) once: Option<Once>,
    /// Where it comes from.
    pub(crate) source: Source,
}

/// Judges attempts.
#[derive(Debug)]
pub(crate) struct Login {
    /// The users.
    pub(crate) db: Db,
    /// What is borne of whom.
    pub(crate) throttle: Throttle,
    /// Turns at hashing.
    pub(crate) hasher: Hasher,
    /// The tokens.
    pub(crate) mint: Mint,
    /// Users who are administrators whatever their row says.
    pub(crate) admin_users: Vec<UserName>,
}

impl Login {
    /// Judge `attempt`. It is judged to the end, and counted, even if the
    /// caller hangs up meanwhile.
    ///
    /// Errors: [`Refusal`].
    pub(crate) async fn judge(self: Arc<Self>, attempt: Attempt) -> Result<TokenAnswer, Refusal> {
        let judged = tokio::spawn(async move {
            let user = shown(&attempt.user).to_owned();
            let source = attempt.source.clone();
            let answer = match tokio::time::timeout(LONGEST, self.answer(attempt)).await {
                Ok(answer) => answer,
                Err(late) => Err(Error::unavailable("a login took too long", late).into()),
            };
            match &answer {
                Ok(_) => tracing::info!(user = ?user, %source, "logged in"),
                Err(Refusal::Failed(error)) => {
                    let cause = error.source.as_ref().map(tracing::field::display);
                    tracing::error!(user = ?user, %source, %error, cause, "login failed");
                }
                Err(refusal) => tracing::info!(user = ?user, %source, reason = %refusal, "refused"),
            }
            answer
        });
        judged
            .await
            .map_err(|source| Error::unavailable("a login was cut short", source))?
    }

    async fn answer(&self, attempt: Attempt) -> Result<TokenAnswer, Refusal> {
        let Attempt {
            user,
            password,
            once,
            source,
        } = attempt;
        let name = UserName::parse(&user).ok();
        match self.throttle.check(name.as_ref(), &source, Instant::now()) {
            Verdict::Proceed => {}
            Verdict::Slow(by) => tokio::time::sleep(by).await,
            Verdict::Refuse(wait_s) => return Err(Refusal::Throttled(wait_s)),
        }
        let checked = self.check(name.as_ref(), password, once, &source).await;
        if let Err(Refusal::Wrong | Refusal::Payload(_)) = checked {
            self.throttle.fail(name.as_ref(), &source, Instant::now());
        }
        let user = checked?;
        let listed = self
            .admin_users
            .iter()
            .any(|admin| admin.as_str() == user.name);
        let role = if user.superuser || listed {
            Role::Administrator
        } else {
            Role::User
        };
        Ok(self.mint.token(&user.name, role, clock::now_s())?)
    }

    /// The user, if this is the password and the payload is fresh.
    async fn check(
        &self,
        name: Option<&UserName>,
        password: Secret,
        once: Option<Once>,
        source: &Source,
    ) -> Result<users::User, Refusal> {
        if password.expose().len() > passwords::MAX_BYTES {
            return Err(Refusal::Wrong);
        }
        let turn = self.hasher.turn().await?;
        // Those who waited with this one may have failed meanwhile.
        if let Verdict::Refuse(wait_s) = self.throttle.check(name, source, Instant::now()) {
            return Err(Refusal::Throttled(wait_s));
        }
        let user = match name {
            Some(name) => users::find(&mut self.db.read().await?, name).await?,
            None => None,
        };
        let stored = user.as_ref().map(|user| user.password_hash.clone());
        let renew = user.as_ref().is_some_and(|user| !user.disabled);
        let verified = turn.verify(stored, password, renew).await?;
        let Some(user) = user.filter(|user| !user.disabled) else {
            return Err(Refusal::Wrong);
        };
        let renewed = match verified {
            Verified::Wrong => return Err(Refusal::Wrong),
            Verified::Right => None,
            Verified::Renewed(hash) => Some(hash),
        };
        if renewed.is_some() || once.is_some() {
            self.record(&user, renewed, once).await?;
        }
        Ok(user)
    }

    async fn record(
        &self,
        user: &users::User,
        renewed: Option<String>,
        once: Option<Once>,
    ) -> Result<(), Refusal> {
        let mut tx = self.db.begin().await?;
        if let Some(once) = once
            && !jtis::spend(&mut tx, &once.id, once.ends_us).await?
        {
            return Err(Refusal::Payload(handshake::Refused::Undecodable));
        }
        if let Some(hash) = renewed {
            users::renew_hash(&mut tx, user.id, &user.password_hash, &hash).await?;
        }
        Ok(tx.commit().await?)
    }
}
