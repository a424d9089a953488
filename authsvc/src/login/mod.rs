//! From a name and a password to an access token.

mod certificate;
mod ordered;
mod refusal;
mod stored;
mod system;
mod wanted;

use std::sync::Arc;
use std::time::{Duration, Instant};

use warrant_api::scope::Scopes;
use warrant_migrations::Db;

pub(crate) use certificate::Certified;
pub(crate) use refusal::{Barred, Refusal, Wrong};
pub(crate) use system::System;
pub(crate) use wanted::{Confirmed, Proven, ProvenBy, Wanted};

use crate::accounts::{Account, Accounts, Found};
use crate::audit::{Audit, Event, Sort};
use crate::directory::Principal;
use crate::dpop::KeyProof;
use crate::error::{Error, Part};
use crate::handshake::Once;
use crate::passwords::Hasher;
use crate::secret::Secret;
use crate::sessions::{Kind, Opening, Sessions, within};
use crate::source::Source;
use crate::throttle::{Throttle, Verdict};
use crate::token::Audience;
use crate::user_name::{UserName, shown};

/// The longest that a login may take; it holds its turn no longer, even if the
/// database is lost without a word.
const LONGEST: Duration = Duration::from_secs(29);

/// Refusals are answered at multiples of this time after the attempt, so that
/// the little that takes longer for a known user, or for an account that there
/// is, cannot be seen.
const REFUSED_EVERY: Duration = Duration::from_millis(4);

/// Somebody who wants something for a name and a password: commonly tokens.
#[derive(Debug)]
pub(crate) struct Attempt<W = Asked> {
    /// The name, as given.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: Secret,
    /// The answer to what PAM may ask besides, such as a one-time code.
    pub(crate) code: Option<Secret>,
    /// What makes the attempt's payload good for one use.
    pub(crate) once: Option<Once>,
    /// What is asked for.
    pub(crate) asked: W,
    /// Where it comes from.
    pub(crate) source: Source,
}

/// What tokens are asked for, and by which client.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The client that shall have them.
    pub(crate) client_id: String,
    /// What the client may have.
    pub(crate) most: Scopes,
    /// What it asks for; all that it and the user may have if `None`.
    pub(crate) scopes: Option<Scopes>,
    /// The life of an access token, in seconds.
    pub(crate) token_s: u64,
    /// The life of the session, in seconds, where it gets refresh tokens.
    pub(crate) refresh_s: Option<u64>,
    /// Whom the token shall be for.
    pub(crate) audience: Audience,
    /// The key that was proved to be there, to which the token is bound.
    pub(crate) proof: Option<KeyProof>,
}

impl Asked {
    /// The session that `user`, who was proven, gets; `None` where more is
    /// asked for than client and user may have.
    pub(crate) fn opening(&self, user: Principal, source: &Source) -> Option<Opening> {
        Some(Opening {
            kind: Kind::Login,
            scopes: within(self.scopes, self.most, user.role)?,
            user,
            client_id: self.client_id.clone(),
            jkt: self.proof.as_ref().map(|proof| proof.jkt.clone()),
            source: source.to_string(),
            token_s: self.token_s,
            refresh_s: self.refresh_s,
            audience: self.audience,
            parent: None,
        })
    }
}

/// Who judges passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judge {
    /// The database, by the hashes kept there.
    Stored,
    /// PAM.
    System,
}

impl Judge {
    /// Its backend, for the audit trail.
    fn name(self) -> &'static str {
        match self {
            Self::Stored => "database",
            Self::System => "pam",
        }
    }
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
    /// Who judges passwords, in the order in which they are asked.
    pub(crate) judges: Vec<Judge>,
    /// Who asks PAM, where it is one of them.
    pub(crate) system: Option<System>,
    /// The accounts, where users, or some of them, must have one.
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// Whether all must have one.
    pub(crate) with_uid: bool,
    /// What the users get.
    pub(crate) sessions: Arc<Sessions>,
    /// Where each attempt is recorded.
    pub(crate) audit: Audit,
}

/// What is shown for a user's name.
struct Shown {
    password: Secret,
    /// The answer to what PAM may ask besides the password.
    code: Option<Secret>,
}

/// A user whose password was right.
struct Checked {
    name: UserName,
    uid: Option<u32>,
    superuser: bool,
    /// When the password was set, where it is kept here.
    password_us: Option<i64>,
}

impl Checked {
    /// By PAM.
    fn by_system(name: &UserName, account: Account) -> Self {
        Self {
            name: name.clone(),
            uid: Some(account.uid),
            superuser: false,
            password_us: None,
        }
    }
}

impl Login {
    /// Judge `attempt`. It is judged to the end, counted and recorded, even if
    /// the caller hangs up meanwhile.
    ///
    /// Errors: [`Refusal`].
    pub(crate) async fn judge<W: Wanted>(
        self: Arc<Self>,
        attempt: Attempt<W>,
    ) -> Result<W::Given, Refusal> {
        let judged = tokio::spawn(async move {
            let user = shown(&attempt.user).to_owned();
            let mut event = Event::new(Sort::Login, attempt.source.clone());
            event.audience = Some(attempt.asked.audience().to_owned());
            event.subject = UserName::parse(&attempt.user)
                .ok()
                .map(|name| name.to_string());
            let answer = match tokio::time::timeout(LONGEST, self.answer(attempt, &mut event)).await
            {
                Ok(answer) => answer,
                // Whatever else it waits for has a bound of its own.
                Err(late) => Err(Error::unavailable("a login took too long", late)
                    .of(Part::Database)
                    .into()),
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

    async fn answer<W: Wanted>(
        &self,
        attempt: Attempt<W>,
        event: &mut Event,
    ) -> Result<W::Given, Refusal> {
        let began = tokio::time::Instant::now();
        let name = UserName::parse(&attempt.user).ok();
        let Attempt {
            password,
            code,
            once,
            asked,
            source,
            ..
        } = attempt;
        let shown = Shown { password, code };
        match self.throttle.check(name.as_ref(), &source, Instant::now()) {
            Verdict::Proceed => {}
            Verdict::Slow(by) => tokio::time::sleep(by).await,
            Verdict::Refuse(wait_s) => return Err(Refusal::Throttled(wait_s)),
        }
        let name = name.as_ref();
        let mut by = self.judges.first().copied();
        let checked = match (&self.system, self.judges.as_slice()) {
            (_, [Judge::Stored]) => {
                let checked = self.check_stored(name, shown.password, once, &source).await;
                self.count(&checked, name, &source);
                if let Err(Refusal::Wrong(_) | Refusal::Barred(_)) = &checked {
                    tokio::time::sleep_until(next_step(began)).await;
                }
                checked
            }
            (Some(system), [Judge::System]) => {
                self.check_system(system, name, shown, once, &source).await
            }
            (Some(system), [_, ..]) => {
                self.check_ordered(system, name, shown, once, &source, &mut by)
                    .await
            }
            (None, _) | (Some(_), []) => Err(Wrong::Unknown.into()),
        };
        event.detail = by.map(|judge| judge.name().to_owned());
        let checked = checked?;
        self.throttle
            .succeed(&checked.name, &source, Instant::now());
        let directory = &self.sessions.directory;
        let user = directory
            .principal(&checked.name, checked.uid, checked.superuser)
            .await?;
        let proven = Proven {
            user,
            uid: checked.uid,
            password_us: checked.password_us,
            by: ProvenBy::Password,
        };
        asked.give(self, proven, source, event).await
    }

    /// Count a failure.
    fn count<T>(&self, checked: &Result<T, Refusal>, name: Option<&UserName>, source: &Source) {
        if let Err(Refusal::Wrong(_) | Refusal::Barred(_) | Refusal::Payload(_)) = checked {
            self.throttle.fail(name, source, Instant::now());
        }
    }

    /// Those who waited with this one may have failed meanwhile.
    fn check_again(&self, name: Option<&UserName>, source: &Source) -> Result<(), Refusal> {
        match self.throttle.check_again(name, source, Instant::now()) {
            Verdict::Refuse(wait_s) => Err(Refusal::Throttled(wait_s)),
            Verdict::Proceed | Verdict::Slow(_) => Ok(()),
        }
    }

    /// The account called `name`, where users must have one.
    async fn account(&self, name: Option<&UserName>) -> Result<Option<Found>, Refusal> {
        match (&self.accounts, name) {
            (Some(accounts), Some(name)) if self.with_uid || self.judges != [Judge::Stored] => {
                Ok(Some(accounts.find(name).await?))
            }
            (Some(_) | None, _) => Ok(None),
        }
    }
}

/// The next moment at which a refusal of what began at `began` is answered.
fn next_step(began: tokio::time::Instant) -> tokio::time::Instant {
    let steps = began.elapsed().as_micros() / REFUSED_EVERY.as_micros() + 1;
    began + REFUSED_EVERY.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}
