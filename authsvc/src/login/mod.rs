//! From a name and a password to an access token.

mod refusal;
mod stored;
mod system;

use std::sync::Arc;
use std::time::{Duration, Instant};

use warrant_api::token::{Role, TokenAnswer};
use warrant_migrations::Db;

pub(crate) use refusal::{Refusal, Wrong};
pub(crate) use system::System;

use crate::accounts::{Accounts, Found};
use crate::audit::{Audit, Event, Sort};
use crate::clock;
use crate::error::Error;
use crate::handshake::Once;
use crate::passwords::Hasher;
use crate::secret::Secret;
use crate::source::Source;
use crate::store::users;
use crate::throttle::{Throttle, Verdict};
use crate::token::{Audience, Mint, Principal};
use crate::user_name::{UserName, shown};

/// The longest that a login may take; it holds its turn no longer, even if the
/// database is lost without a word.
const LONGEST: Duration = Duration::from_secs(29);

/// Somebody who wants a token.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The name, as given.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: Secret,
    /// What makes the attempt's payload good for one use.
    pub(crate) once: Option<Once>,
    /// Whom the token shall be for.
    pub(crate) audience: Audience,
    /// Where it comes from.
    pub(crate) source: Source,
}

/// Judges attempts.
#[derive(Debug)]
pub(crate) struct Login {
    /// The users, and the payloads that were used.
    pub(crate) db: Db,
    /// What is borne of whom.
    pub(crate) throttle: Throttle,
    /// Turns at hashing.
    pub(crate) hasher: Hasher,
    /// Who judges the passwords of accounts, where users are accounts with
    /// the system's own passwords.
    pub(crate) system: Option<System>,
    /// The accounts, where users must have one.
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// The tokens.
    pub(crate) mint: Mint,
    /// Whether tokens name the account's user id.
    pub(crate) with_uid: bool,
    /// Users who are administrators whatever their row says.
    pub(crate) admin_users: Vec<UserName>,
    /// Where each attempt is recorded.
    pub(crate) audit: Audit,
}

/// A user whose password was right.
struct Proven {
    name: String,
    uid: Option<u32>,
    superuser: bool,
}

impl Login {
    /// Judge `attempt`. It is judged to the end, counted and recorded, even if
    /// the caller hangs up meanwhile.
    ///
    /// Errors: [`Refusal`].
    pub(crate) async fn judge(self: Arc<Self>, attempt: Attempt) -> Result<TokenAnswer, Refusal> {
        let judged = tokio::spawn(async move {
            let user = shown(&attempt.user).to_owned();
            let mut event = Event::new(Sort::Login, attempt.source.clone());
            event.audience = Some(attempt.audience.name().to_owned());
            event.subject = UserName::parse(&attempt.user)
                .ok()
                .map(|name| name.to_string());
            let answer = match tokio::time::timeout(LONGEST, self.answer(attempt, &event)).await {
                Ok(answer) => answer,
                Err(late) => Err(Error::unavailable("a login took too long", late).into()),
            };
            if let Err(refusal) = &answer {
                if let Refusal::Failed(error) = refusal {
                    let cause = error.source.as_ref().map(tracing::field::display);
                    tracing::error!(user = ?user, source = %event.source, %error, cause, "login failed");
                } else {
                    tracing::info!(user = ?user, source = %event.source, reason = %refusal, "refused");
                }
                self.audit.refused(event, refusal.reason());
            }
            answer
        });
        judged
            .await
            .map_err(|source| Error::unavailable("a login was cut short", source))?
    }

    async fn answer(&self, attempt: Attempt, event: &Event) -> Result<TokenAnswer, Refusal> {
        let name = UserName::parse(&attempt.user).ok();
        let Attempt {
            password,
            once,
            audience,
            source,
            ..
        } = attempt;
        match self.throttle.check(name.as_ref(), &source, Instant::now()) {
            Verdict::Proceed => {}
            Verdict::Slow(by) => tokio::time::sleep(by).await,
            Verdict::Refuse(wait_s) => return Err(Refusal::Throttled(wait_s)),
        }
        let name = name.as_ref();
        let proven = match &self.system {
            None => {
                let checked = self.check_stored(name, password, once, &source).await;
                self.count(&checked, name, &source);
                checked?
            }
            Some(system) => {
                self.check_system(system, name, password, once, &source)
                    .await?
            }
        };
        let uid = proven.uid;
        let user = self.principal(proven);
        let place = self.audit.place()?;
        let minted = self.mint.token(&user, audience, clock::now_s())?;
        tracing::info!(user = ?user.name, %source, "logged in");
        place.granted(Event {
            uid,
            jti: Some(minted.jti),
            ..event.clone()
        });
        Ok(minted.answer)
    }

    fn principal(&self, proven: Proven) -> Principal {
        let listed = self
            .admin_users
            .iter()
            .any(|admin| admin.as_str() == proven.name);
        Principal {
            role: if proven.superuser || listed {
                Role::Administrator
            } else {
                Role::User
            },
            name: proven.name,
            uid: proven.uid.filter(|_| self.with_uid),
        }
    }

    /// The user called `name` as they are now, and since when there is a user
    /// of that name, in microseconds since the Unix epoch, where that is
    /// known; or why they may not come in, whatever they prove.
    ///
    /// Errors: the database or the name service did not answer.
    pub(crate) async fn look_up(
        &self,
        name: &UserName,
    ) -> Result<Result<(Principal, Option<i64>), Wrong>, Error> {
        let mut superuser = false;
        let mut since_us = None;
        if self.system.is_none() {
            match users::find(&mut self.db.read().await?, name).await? {
                None => return Ok(Err(Wrong::Unknown)),
                Some(user) if user.disabled => return Ok(Err(Wrong::Disabled)),
                Some(user) => {
                    superuser = user.superuser;
                    since_us = Some(user.created_us);
                }
            }
        }
        let uid = match &self.accounts {
            None => None,
            Some(accounts) => match accounts.find_recent(name).await? {
                Ok(account) => Some(account.uid),
                Err(none) => return Ok(Err(Wrong::Account(none))),
            },
        };
        let name = name.to_string();
        let user = self.principal(Proven {
            name,
            uid,
            superuser,
        });
        Ok(Ok((user, since_us)))
    }

    /// Count a failure.
    fn count<T>(&self, checked: &Result<T, Refusal>, name: Option<&UserName>, source: &Source) {
        if let Err(Refusal::Wrong(_) | Refusal::Payload(_)) = checked {
            self.throttle.fail(name, source, Instant::now());
        }
    }

    /// Those who waited with this one may have failed meanwhile.
    fn check_again(&self, name: Option<&UserName>, source: &Source) -> Result<(), Refusal> {
        match self.throttle.check(name, source, Instant::now()) {
            Verdict::Refuse(wait_s) => Err(Refusal::Throttled(wait_s)),
            Verdict::Proceed | Verdict::Slow(_) => Ok(()),
        }
    }

    /// The account called `name`, where users must have one.
    async fn account(&self, name: Option<&UserName>) -> Result<Option<Found>, Refusal> {
        match (&self.accounts, name) {
            (Some(accounts), Some(name)) => Ok(Some(accounts.find(name).await?)),
            (None, _) | (_, None) => Ok(None),
        }
    }
}
