//! Sessions of browsers: opened for a user who proved who they are, found by
//! the cookie that the browser shows, exchanged for short access tokens by the
//! broker.

use crate::audit::{Event, Sort};
use crate::clock;
use crate::directory::scopes_of;
use crate::error::Error;
use crate::login::{Login, Proven, Refusal, Wrong};
use crate::opaque;
use crate::secret::Secret;
use crate::sessions::{Kind, Session, later};
use crate::source::Source;
use crate::store::users::By;
use crate::store::web_sessions::{self, WebSession};
use crate::store::{sessions, users};
use crate::token::{Audience, Minted};
use crate::user_name::UserName;

use super::{Web, csrf};

/// Browsers that a user may be signed in with at once; the one that was used
/// least lately makes room.
const MOST: i64 = 32;
/// How often it is written down that a session is used, in microseconds.
const NOTE_EVERY_US: i64 = 60_000_000;
/// The life of a token that a cookie is exchanged for, in seconds.
const TOKEN_LIFE_S: u64 = 300;
/// The client of those who sign in with a browser.
const WEB_CLIENT: &str = "web";

/// Why nobody is signed in.
#[derive(Debug)]
pub(crate) enum NotSignedIn {
    /// The cookie does not count, for this reason.
    No(&'static str),
    /// Nobody can tell now.
    Failed(Error),
}

impl From<Error> for NotSignedIn {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<warrant_migrations::Error> for NotSignedIn {
    fn from(error: warrant_migrations::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl NotSignedIn {
    /// The reason in one stable word.
    fn reason(&self) -> &'static str {
        match self {
            Self::No(reason) => reason,
            Self::Failed(_) => "unavailable",
        }
    }
}

impl Web {
    /// Sign whoever was proven in with a browser, which is called `agent`: what
    /// the browser is to show from now on. Recorded as `event`, with more. Where a
    /// provider had the user sign in, that was at `proven_us`.
    ///
    /// Errors: the user may not sign in, or not with that password any more;
    /// the audit trail or the database cannot be written.
    pub(crate) async fn open_session(
        &self,
        proven: Proven,
        agent: String,
        proven_us: Option<i64>,
        source: &Source,
        event: &Event,
    ) -> Result<Secret, Refusal> {
        let Login {
            db,
            audit,
            sessions: all,
            ..
        } = &*self.login;
        let place = audit.place()?;
        let now_us = clock::now_us();
        let ends_us = later(now_us, self.config.max_days * 86_400);
        let (cookie, hash) = opaque::make(opaque::WEB)?;
        let session = Session {
            id: opaque::id()?,
            kind: Kind::Web,
            scopes: scopes_of(proven.user.role),
            subject: proven.user.name,
            uid: proven.user.uid,
            role: proven.user.role,
            by_group: proven.user.by_group,
            client_id: WEB_CLIENT.into(),
            jkt: None,
            source: source.to_string(),
            created_us: now_us,
            last_used_us: now_us,
            expires_us: self.idle_end(now_us, ends_us),
            ended_us: None,
            ended_reason: None,
            parent: None,
        };
        let mut tx = db.begin().await?;
        // With a password, its time is compared as the row is added.
        let password_us = proven.password_us;
        if password_us.is_none() && !all.directory.hold(&mut tx, &session.subject).await? {
            return Err(Wrong::Disabled.into());
        }
        let room = MOST - 1;
        let ended = web_sessions::end_oldest(&mut tx, &session.subject, room, now_us).await?;
        if !sessions::insert(&mut tx, &session, password_us).await? {
            return Err(Wrong::Password.into());
        }
        let web = WebSession {
            session_id: session.id.clone(),
            agent,
            ends_us,
            proven_us,
        };
        web_sessions::insert(&mut tx, &hash, &web).await?;
        tx.commit().await?;
        if ended > 0 {
            all.counted.forget();
        }
        tracing::info!(user = ?session.subject, %source, "signed in");
        place.granted(Event {
            subject: Some(session.subject),
            uid: proven.uid,
            detail: Some(session.id),
            ..event.clone()
        });
        Ok(cookie)
    }

    /// How long a browser keeps its cookie, in seconds.
    pub(super) fn longest_s(&self) -> u64 {
        self.config.max_days * 86_400
    }

    /// When a session that is used now ends unless it is used again.
    fn idle_end(&self, now_us: i64, ends_us: i64) -> i64 {
        later(now_us, self.config.idle_hours * 3600).min(ends_us)
    }

    /// The session of the browser that shows `cookie`, whose user is as it is
    /// now; and when a provider had the user sign in, where one did.
    ///
    /// Errors: [`NotSignedIn`].
    pub(super) async fn find_session(
        &self,
        cookie: &Secret,
    ) -> Result<(Session, Option<i64>), NotSignedIn> {
        let Login {
            db, sessions: all, ..
        } = &*self.login;
        let hash = opaque::read(opaque::WEB, cookie).ok_or(NotSignedIn::No("cookie"))?;
        let (web, found) = {
            let mut conn = db.read().await?;
            let web = web_sessions::find(&mut conn, &hash).await?;
            let web = web.ok_or(NotSignedIn::No("cookie-unknown"))?;
            let found = sessions::find(&mut conn, &web.session_id).await?;
            (web, found)
        };
        let now_us = clock::now_us();
        let alive = |session: &Session| session.ended_us.is_none() && now_us < session.expires_us;
        let session = found
            .filter(alive)
            .ok_or(NotSignedIn::No("session-ended"))?;
        let user = match all.directory.standing(&session.subject).await? {
            Ok(user) if user.uid == session.uid => user,
            Ok(_) => {
                all.end(&session, "account-changed").await?;
                return Err(NotSignedIn::No("account-changed"));
            }
            Err(wrong) => return Err(NotSignedIn::No(wrong.word())),
        };
        let same = (session.role, session.by_group) == (user.role, user.by_group);
        let lately = now_us.saturating_sub(session.last_used_us) < NOTE_EVERY_US;
        let session = Session {
            scopes: session.scopes.and(scopes_of(user.role)),
            role: user.role,
            by_group: user.by_group,
            ..session
        };
        if same && lately {
            return Ok((session, web.proven_us));
        }
        let session = Session {
            last_used_us: now_us,
            expires_us: self.idle_end(now_us, web.ends_us),
            ..session
        };
        let mut tx = db.begin().await?;
        if !web_sessions::touch(&mut tx, &session).await? {
            return Err(NotSignedIn::No("session-ended"));
        }
        tx.commit().await?;
        Ok((session, web.proven_us))
    }

    /// An access token for the cookie, which was shown at `source`, and what
    /// must come with whatever changes something.
    ///
    /// Errors: [`NotSignedIn`].
    pub(crate) async fn exchange(
        &self,
        cookie: &Secret,
        source: Source,
    ) -> Result<(Minted, String), NotSignedIn> {
        let mut event = Event::new(Sort::Web, source);
        event.action = Some("exchange");
        let minted = self.token(cookie, &mut event).await;
        if let Err(refused) = &minted {
            if let NotSignedIn::Failed(error) = refused {
                let cause = error.source.as_ref().map(tracing::field::display);
                tracing::error!(%error, cause, "a cookie could not be exchanged");
            }
            self.login.audit.refused(event, refused.reason());
        }
        Ok((minted?, csrf::token(cookie, csrf::Purpose::Session)))
    }

    async fn token(&self, cookie: &Secret, event: &mut Event) -> Result<Minted, NotSignedIn> {
        let (session, _) = self.find_session(cookie).await?;
        event.subject = Some(session.subject.clone());
        event.uid = session.uid;
        event.audience = Some(Audience::Broker.name().to_owned());
        let place = self.login.audit.place()?;
        let (mint, now_us) = (&self.login.sessions.mint, clock::now_us());
        let scopes = session.scopes;
        let minted = mint.token(&session, scopes, Audience::Broker, TOKEN_LIFE_S, now_us)?;
        event.jti = Some(minted.jti.clone());
        place.granted(event.clone());
        Ok(minted)
    }

    /// Whether the password of the user is kept, and so can be changed, here.
    ///
    /// Errors: the database did not answer.
    pub(super) async fn keeps_password_of(&self, subject: &str) -> Result<bool, Error> {
        let Ok(name) = UserName::parse(subject) else {
            return Ok(false);
        };
        if !self.login.sessions.directory.stored {
            return Ok(false);
        }
        let user = users::find(&mut self.login.db.read().await?, &name).await?;
        Ok(user.is_some_and(|user| user.by == By::Database))
    }
}
