//! API keys: made (`make`), listed and revoked by their users; exchanged for short
//! access tokens by the broker, to which callers show them.
//!
//! Whose key it is, whether they may still come in, and as what, is looked up
//! at each exchange: a key is worth no more than its user is now.

mod make;
mod refused;
mod text;

use std::sync::Arc;

use warrant_api::keys::{KEY_SESSION, KeyInfo, KeyList};
use warrant_api::scope::{Scope, Scopes};
use warrant_api::token::{AccessClaims, Role};

pub(crate) use make::Wish;
pub(crate) use refused::Refused;

use crate::audit::{Event, Sort};
use crate::clock;
use crate::config;
use crate::directory::{Principal, scopes_of};
use crate::dpop::KeyProof;
use crate::error::{Error, Kind};
use crate::login::{Login, Wrong};
use crate::oauth::SignedIn;
use crate::opaque;
use crate::rate::Rate;
use crate::sessions::{Kind as Began, Session};
use crate::source::Source;
use crate::store::api_keys::{self as store, ApiKey};
use crate::store::{sessions, users};
use crate::token::{Audience, KEY_CLIENT, Minted};
use crate::user_name::UserName;
use crate::warrants::Subjects;

/// The life of a token that a key is exchanged for, in seconds.
const TOKEN_LIFE_S: u64 = 300;
/// How often it is written down that a key is used, in microseconds.
const NOTE_EVERY_US: i64 = 60_000_000;
/// The longest label, in characters.
const MAX_LABEL: usize = 64;
const DAY_US: i64 = 86_400_000_000;

/// Keeps the keys.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    /// The users, the tokens, the audit trail.
    pub(crate) login: Arc<Login>,
    /// Verifies the tokens of those who ask.
    pub(crate) subjects: Subjects,
    /// How many there may be, for how long, and for what.
    pub(crate) config: config::ApiKeys,
    /// How many each user made lately.
    pub(crate) made: Rate,
}

/// Somebody who asks something about keys.
#[derive(Debug)]
pub(crate) struct Asker {
    subject: String,
    uid: Option<u32>,
    role: Role,
    /// What may be done with what was shown.
    scopes: Scopes,
    /// Whether it is a key that asks.
    by_key: bool,
    /// The thumbprint of the key to which the token is bound.
    jkt: Option<String>,
    source: Source,
}

impl ApiKeys {
    /// Whoever holds `token`.
    ///
    /// Errors: the token is no access token for the broker, or counts no more.
    pub(crate) async fn asker(
        &self,
        token: Option<&str>,
        source: Source,
    ) -> Result<Asker, Refused> {
        let refused = match self.claims(token).await {
            Ok(Some(claims)) => return Ok(Asker::of_token(&claims, source)),
            Ok(None) => Refused::Token,
            Err(error) => error.into(),
        };
        Err(self.refuse(Event::new(Sort::Key, source), refused))
    }

    /// See that `asker` proved to hold the key to which the token is bound.
    ///
    /// Errors: the proof does not count, or was used before.
    pub(crate) async fn possessed(
        &self,
        asker: &Asker,
        proof: Result<Option<KeyProof>, warrant_dpop::Refused>,
    ) -> Result<(), Refused> {
        let used = match proof {
            Ok(None) => Ok(()),
            Ok(Some(proof)) => proof
                .spend_alone(&self.login.db)
                .await
                .map_err(Refused::from),
            Err(refused) => Err(Refused::Possession(refused)),
        };
        used.map_err(|refused| self.refuse(asker.event("use"), refused))
    }

    /// What `token` says, if it is an access token of this service: for the audit
    /// trail.
    pub(crate) fn read(&self, token: &str) -> Option<Arc<AccessClaims>> {
        self.subjects.claims(token, clock::now_s())
    }

    async fn claims(&self, token: Option<&str>) -> Result<Option<Arc<AccessClaims>>, Error> {
        let verify = |token| {
            let now_s = clock::now_s();
            self.subjects.verify(token, Audience::Broker, now_s)
        };
        let Some(claims) = token.and_then(verify) else {
            return Ok(None);
        };
        let counts = self.login.sessions.counts(&claims).await?;
        Ok(counts.then_some(claims))
    }

    /// The keys of whoever asks or, for administrators, of `user`.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn list(&self, asker: &Asker, user: Option<&str>) -> Result<KeyList, Refused> {
        let listed = async {
            asker.may(Scope::Read)?;
            let subject = asker.subject(user)?;
            let mut conn = self.login.db.read().await?;
            let keys = store::list(&mut conn, Some(subject), clock::now_us()).await?;
            Ok(KeyList {
                keys: keys.into_iter().map(info).collect(),
            })
        };
        let listed = listed.await;
        listed.map_err(|refused| self.refuse(asker.event("list"), refused))
    }

    /// Revoke the key `id`, or all where it is `None`, of whoever asks or, for
    /// administrators, of `user`; returns how many counted.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn revoke(
        &self,
        asker: &Asker,
        user: Option<&str>,
        id: Option<&str>,
    ) -> Result<u64, Refused> {
        let mut event = asker.event("revoke");
        let revoked = self.take_back(asker, user, id, &mut event).await;
        revoked.map_err(|refused| self.refuse(event, refused))
    }

    async fn take_back(
        &self,
        asker: &Asker,
        user: Option<&str>,
        id: Option<&str>,
        event: &mut Event,
    ) -> Result<u64, Refused> {
        asker.changes_keys()?;
        let subject = asker.subject(user)?;
        // The row's subject is who asks.
        event.detail = (subject != asker.subject).then(|| format!("of {subject}"));
        let place = self.login.audit.place()?;
        let now_us = clock::now_us();
        let mut tx = self.login.db.begin().await?;
        let revoked = match id {
            None => {
                event.jti = Some(session("*"));
                store::revoke_all(&mut tx, subject, now_us).await?
            }
            Some(id) => {
                let counted =
                    text::is_id(id) && store::revoke(&mut tx, id, Some(subject), now_us).await?;
                if !counted {
                    return Err(Refused::NoKey);
                }
                event.jti = Some(session(id));
                1
            }
        };
        tx.commit().await?;
        place.granted(event.clone());
        Ok(revoked)
    }

    /// An access token for the key `text`, which was shown at `source`.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn exchange(&self, text: &str, source: Source) -> Result<Minted, Refused> {
        let mut event = Event::new(Sort::Key, source);
        event.action = Some("exchange");
        let token = self.token(text, &mut event).await;
        token.map_err(|refused| self.refuse(event, refused))
    }

    async fn token(&self, text: &str, event: &mut Event) -> Result<Minted, Refused> {
        let id = text::id_of(text).ok_or(Refused::Key("key-malformed"))?;
        let found = store::find(&mut self.login.db.read().await?, id).await?;
        let key = found.ok_or(Refused::Key("key-unknown"))?;
        if !opaque::same(&text::hash(text), &key.hash) {
            return Err(Refused::Key("key-wrong"));
        }
        event.subject = Some(key.subject.clone());
        event.jti = Some(session(&key.id));
        let now_us = clock::now_us();
        if key.revoked_us.is_some() {
            return Err(Refused::Key("key-revoked"));
        }
        // The site may allow less by now than when the key was made.
        let longest_us = i64::from(self.config.max_days) * DAY_US;
        let ends_us = key
            .expires_us
            .min(key.created_us.saturating_add(longest_us));
        let left_s = u64::try_from((ends_us - now_us) / 1_000_000).unwrap_or(0);
        if left_s == 0 {
            return Err(Refused::Key("key-over"));
        }
        if let Some(id) = &key.session_id {
            let mut conn = self.login.db.read().await?;
            if !sessions::is_alive(&mut conn, id, now_us).await? {
                return Err(Refused::Key("session-ended"));
            }
        }
        let user = self.user_of(&key).await?;
        event.uid = user.uid;
        event.audience = Some(Audience::Broker.name().to_owned());
        let scopes: Scopes = key.scopes.parse().map_err(|_| Refused::Key("key-scopes"))?;
        let place = self.login.audit.place()?;
        let life_s = left_s.min(TOKEN_LIFE_S);
        let scopes = scopes.and(scopes_of(user.role)).and(self.config.scopes);
        let session = session_of(&key, user)?;
        let mint = &self.login.sessions.mint;
        let minted = mint.token(&session, scopes, Audience::Broker, life_s, now_us)?;
        self.note_use(&key, now_us, event).await;
        place.granted(event.clone());
        Ok(minted)
    }

    /// The user whose key it is, as they are now.
    async fn user_of(&self, key: &ApiKey) -> Result<Principal, Refused> {
        let name = UserName::parse(&key.subject).map_err(|_| Refused::User(Wrong::Name))?;
        let user = self.user(&key.subject).await?;
        // Of another who came by the name later, it is not the key.
        let directory = &self.login.sessions.directory;
        let row = users::find(&mut self.login.db.read().await?, &name).await?;
        let later = match row.filter(|row| directory.lists(row)) {
            Some(row) => row.created_us > key.created_us,
            None => !directory.unlisted,
        };
        if later || (user.uid.is_some() && key.uid != user.uid.map(i64::from)) {
            return Err(Refused::OtherAccount);
        }
        Ok(user)
    }

    async fn user(&self, name: &str) -> Result<Principal, Refused> {
        let standing = self.login.sessions.directory.standing(name).await?;
        standing.map_err(Refused::User)
    }

    /// Write down that a key is used, where that was not done lately. A key
    /// counts all the same where it cannot be.
    async fn note_use(&self, key: &ApiKey, now_us: i64, event: &Event) {
        let lately = key
            .last_used_us
            .is_some_and(|at| now_us - at < NOTE_EVERY_US);
        if lately {
            return;
        }
        let noted = async {
            let mut tx = self.login.db.begin().await?;
            store::note_use(&mut tx, &key.id, now_us, &event.source.to_string()).await?;
            tx.commit().await
        };
        if let Err(error) = noted.await {
            tracing::warn!(key = key.id, %error, "it was not written down that a key is used");
        }
    }

    fn refuse(&self, event: Event, refused: Refused) -> Refused {
        if let Refused::Failed(error) = &refused {
            let cause = error.source.as_ref().map(tracing::field::display);
            tracing::error!(%error, cause, "a request about keys failed");
        }
        self.login.audit.refused(event, refused.reason());
        refused
    }
}

impl Asker {
    /// The thumbprint of the key to which the token is bound.
    pub(crate) fn jkt(&self) -> Option<&str> {
        self.jkt.as_deref()
    }

    fn of_token(claims: &AccessClaims, source: Source) -> Self {
        Self {
            subject: claims.sub.clone(),
            uid: claims.uid,
            role: claims.role,
            scopes: claims.scope,
            by_key: claims.sid.starts_with(KEY_SESSION),
            jkt: claims.cnf.as_ref().map(|cnf| cnf.jkt.clone()),
            source,
        }
    }

    /// Whoever is signed in.
    pub(crate) fn signed_in(user: &SignedIn, source: Source) -> Self {
        Self {
            subject: user.session.subject.clone(),
            uid: user.session.uid,
            role: user.session.role,
            scopes: user.scopes,
            by_key: false,
            jkt: user.jkt.clone(),
            source,
        }
    }

    fn event(&self, action: &'static str) -> Event {
        Event {
            action: Some(action),
            subject: Some(self.subject.clone()),
            uid: self.uid,
            ..Event::new(Sort::Key, self.source.clone())
        }
    }

    /// See that it is not a key that asks, and that keys may be changed with what
    /// was shown.
    fn changes_keys(&self) -> Result<(), Refused> {
        if self.by_key {
            return Err(Refused::OfKey);
        }
        self.may(Scope::Control)
    }

    /// See that what was shown may be used for what takes `scope`.
    fn may(&self, scope: Scope) -> Result<(), Refused> {
        match self.scopes.has(scope) {
            true => Ok(()),
            false => Err(Refused::NeedsScope(scope)),
        }
    }

    /// Whose keys are meant: one's own or, for administrators, those of
    /// `user`.
    fn subject<'a>(&'a self, user: Option<&'a str>) -> Result<&'a str, Refused> {
        let own = self.subject.as_str();
        let administers = self.role == Role::Administrator && self.scopes.has(Scope::Admin);
        match user {
            None => Ok(own),
            Some(user) if user == own || administers => Ok(user),
            Some(_) => Err(Refused::NotYours),
        }
    }
}

/// The session of the tokens that a key is exchanged for.
pub(crate) fn session(id: &str) -> String {
    format!("{KEY_SESSION}{id}")
}

/// The same, as any other session is described.
///
/// Errors: the key's row does not hold what it should.
pub(crate) fn session_of(key: &ApiKey, user: Principal) -> Result<Session, Error> {
    let scopes = key.scopes.parse();
    Ok(Session {
        id: session(&key.id),
        kind: Began::Key,
        subject: user.name,
        uid: user.uid,
        role: user.role,
        by_group: user.by_group,
        scopes: scopes.map_err(|source| Error::unavailable("a key has no scopes", source))?,
        client_id: KEY_CLIENT.into(),
        jkt: None,
        source: key.last_used_from.clone().unwrap_or_default(),
        created_us: key.created_us,
        last_used_us: key.last_used_us.unwrap_or(key.created_us),
        expires_us: key.expires_us,
        ended_us: key.revoked_us,
        ended_reason: None,
        parent: key.session_id.clone(),
    })
}

/// What lists show of a key.
pub(crate) fn info(key: ApiKey) -> KeyInfo {
    let seconds = |us: i64| u64::try_from(us / 1_000_000).unwrap_or_default();
    KeyInfo {
        id: key.id,
        user: key.subject,
        label: key.label,
        scopes: key.scopes.parse().unwrap_or_default(),
        created_s: seconds(key.created_us),
        expires_s: seconds(key.expires_us),
        last_used_s: key.last_used_us.map(seconds),
        last_used_from: key.last_used_from,
        session: key.session_id,
        proof: key.proof,
    }
}

/// An error of a command.
pub(crate) fn no_such_key(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no key {id} that counts"))
}
