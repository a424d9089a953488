//! From a name and a password to an access token.

mod certificate;
mod refusal;
mod stored;
mod system;

use std::sync::Arc;
use std::time::{Duration, Instant};

use warrant_api::oauth::Granted;
use warrant_api::scope::Scopes;
use warrant_migrations::Db;

pub(crate) use certificate::Certified;
pub(crate) use refusal::{Refusal, Wrong};
pub(crate) use system::System;

use crate::accounts::{Accounts, Found};
use crate::audit::{Audit, Event, Sort};
use crate::dpop::KeyProof;
use crate::error::Error;
use crate::handshake::Once;
use crate::passwords::Hasher;
use crate::secret::Secret;
use crate::sessions::{Kind, Opened, Opening, Sessions, within};
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

/// Somebody who wants a token.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The name, as given.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: Secret,
    /// What makes the attempt's payload good for one use.
    pub(crate) once: Option<Once>,
    /// What is asked for.
    pub(crate) asked: Asked,
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
    /// What the users get.
    pub(crate) sessions: Arc<Sessions>,
    /// Where each attempt is recorded.
    pub(crate) audit: Audit,
}

/// A user whose password was right.
struct Proven {
    name: UserName,
    uid: Option<u32>,
    superuser: bool,
    /// When the password was set, where it is kept here.
    password_us: Option<i64>,
}

impl Login {
    /// Judge `attempt`. It is judged to the end, counted and recorded, even if
    /// the caller hangs up meanwhile.
    ///
    /// Errors: [`Refusal`].
    pub(crate) async fn judge(self: Arc<Self>, attempt: Attempt) -> Result<Granted, Refusal> {
        let judged = tokio::spawn(async move {
            let user = shown(&attempt.user).to_owned();
            let mut event = Event::new(Sort::Login, attempt.source.clone());
            event.audience = Some(attempt.asked.audience.name().to_owned());
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

    async fn answer(&self, attempt: Attempt, event: &Event) -> Result<Granted, Refusal> {
        let began = tokio::time::Instant::now();
        let name = UserName::parse(&attempt.user).ok();
        let Attempt {
            password,
            once,
            asked,
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
                if let Err(Refusal::Wrong(_)) = &checked {
                    tokio::time::sleep_until(next_step(began)).await;
                }
                checked?
            }
            Some(system) => {
                self.check_system(system, name, password, once, &source)
                    .await?
            }
        };
        let directory = &self.sessions.directory;
        let user = directory
            .principal(&proven.name, proven.uid, proven.superuser)
            .await?;
        let scopes = within(asked.scopes, asked.most, user.role).ok_or(Refusal::Scope)?;
        let place = self.audit.place()?;
        let opened = self.sessions.open(Opening {
            kind: Kind::Login,
            user,
            scopes,
            client_id: asked.client_id,
            jkt: asked.proof.as_ref().map(|proof| proof.jkt.clone()),
            source: source.to_string(),
            token_s: asked.token_s,
            refresh_s: asked.refresh_s,
            audience: asked.audience,
        })?;
        // The password may have been changed while this one was checked.
        if !self.write(&opened, asked.proof.as_ref(), &proven).await? {
            return Err(Wrong::Password.into());
        }
        tracing::info!(user = ?opened.session.subject, %source, "logged in");
        place.granted(Event {
            uid: proven.uid,
            jti: Some(opened.jti),
            ..event.clone()
        });
        Ok(opened.granted)
    }

    /// Write the session down, and use the proof where there is one; as
    /// [`Opened::write`].
    async fn write(
        &self,
        opened: &Opened,
        proof: Option<&KeyProof>,
        user: &Proven,
    ) -> Result<bool, Refusal> {
        let Some(proof) = proof else {
            return Ok(opened.write_alone(&self.db, user.password_us).await?);
        };
        let mut tx = self.db.begin().await?;
        proof.spend(&mut tx).await?;
        let written = opened.write(&mut tx, user.password_us).await?;
        tx.commit().await?;
        Ok(written)
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

/// The next moment at which a refusal of what began at `began` is answered.
fn next_step(began: tokio::time::Instant) -> tokio::time::Instant {
    let steps = began.elapsed().as_micros() / REFUSED_EVERY.as_micros() + 1;
    began + REFUSED_EVERY.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}
