//! Sessions. Every access token is part of one: when it ends, its tokens and
//! refresh tokens count no more, here at once (for a warrant, within a second),
//! elsewhere as soon as the revocation feed is read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use warrant_api::keys::KEY_SESSION;
use warrant_api::oauth::Granted;
use warrant_api::scope::Scopes;
use warrant_api::token::{AccessClaims, Role};
use warrant_migrations::{Db, Tx};

use crate::audit::{self, Event, Sort};
use crate::clock;
use crate::directory::{Directory, Principal, is_less, scopes_of};
use crate::error::Result;
use crate::opaque;
use crate::source::Source;
use crate::store::api_keys::ApiKey;
use crate::store::sessions::{Ends, Of};
use crate::store::{api_keys, codes, devices, refresh_tokens, revocations, sessions};
use crate::token::{Audience, Mint};

/// How a session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A user proved who it is.
    Login,
    /// A client acts by itself.
    Client,
    /// A user authorised a client.
    Code,
    /// A user approved a device.
    Device,
    /// A user signed in with a browser.
    Web,
    /// A user made an API key. It is kept with the keys.
    Key,
}

impl Kind {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Client => "client",
            Self::Code => "code",
            Self::Device => "device",
            Self::Web => "web",
            Self::Key => "key",
        }
    }

    /// The kind called `name`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut kept = [
            Self::Login,
            Self::Client,
            Self::Code,
            Self::Device,
            Self::Web,
        ]
        .into_iter();
        kept.find(|kind| kind.name() == name)
    }
}

/// Whoever was given access tokens. Times are microseconds since the Unix
/// epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Its id, the `sid` of its tokens.
    pub(crate) id: String,
    /// How it began.
    pub(crate) kind: Kind,
    /// The user.
    pub(crate) subject: String,
    /// The account's user id, in multi-user mode.
    pub(crate) uid: Option<u32>,
    /// What the user may do.
    pub(crate) role: Role,
    /// Whether the role came from a group of the machine.
    pub(crate) by_group: bool,
    /// What its tokens may be used for at most.
    pub(crate) scopes: Scopes,
    /// The client that was given the tokens.
    pub(crate) client_id: String,
    /// The thumbprint of the key to which its tokens are bound.
    pub(crate) jkt: Option<String>,
    /// Where it began.
    pub(crate) source: String,
    /// When it began.
    pub(crate) created_us: i64,
    /// When it last got a token.
    pub(crate) last_used_us: i64,
    /// When it ends by itself.
    pub(crate) expires_us: i64,
    /// When it was ended.
    pub(crate) ended_us: Option<i64>,
    /// Why, in one word.
    pub(crate) ended_reason: Option<String>,
    /// The session with which it ends: that of the user who let its client in.
    pub(crate) parent: Option<String>,
}

/// What a session begins with.
#[derive(Debug)]
pub(crate) struct Opening {
    /// How it begins.
    pub(crate) kind: Kind,
    /// The user.
    pub(crate) user: Principal,
    /// What its tokens may be used for; must be within what the user may.
    pub(crate) scopes: Scopes,
    /// The client that is given the tokens.
    pub(crate) client_id: String,
    /// The thumbprint of the key to which its tokens shall be bound.
    pub(crate) jkt: Option<String>,
    /// Where it begins.
    pub(crate) source: String,
    /// The life of its access tokens, in seconds.
    pub(crate) token_s: u64,
    /// The life of the session, in seconds, where it has refresh tokens.
    pub(crate) refresh_s: Option<u64>,
    /// Whom the first token is for.
    pub(crate) audience: Audience,
    /// The session with which it ends. `None` where the user proved who they are
    /// for this one, or chose so with a proof.
    pub(crate) parent: Option<Parent>,
}

/// A session with which another one ends.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    /// Its id.
    pub(crate) id: String,
    /// When it ends by itself.
    pub(crate) ends: Ends,
}

impl Parent {
    /// The session `id`, which nobody ends before the transaction is over; `None`
    /// where it has ended.
    ///
    /// Errors: the database did not answer.
    pub(crate) async fn hold(
        tx: &mut Tx,
        id: &str,
        now_us: i64,
    ) -> warrant_migrations::Result<Option<Self>> {
        if sessions::hold(tx, id, now_us).await?.is_none() {
            return Ok(None);
        }
        let ends = sessions::ends(tx, id, now_us).await?;
        Ok(ends.map(|ends| Self {
            id: id.to_owned(),
            ends,
        }))
    }

    /// The life in seconds of a token made at `now_us`: `life_s`, or less where
    /// this session ends earlier unless it is used again.
    pub(crate) fn life_s(&self, life_s: u64, now_us: i64) -> u64 {
        let left_us = self.ends.now_us.saturating_sub(now_us);
        life_s.min(u64::try_from(left_us / 1_000_000).unwrap_or(0))
    }
}

/// A session with its first tokens, not written down yet.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The session.
    pub(crate) session: Session,
    /// Its tokens.
    pub(crate) granted: Granted,
    /// The id of the access token.
    pub(crate) jti: String,
    refresh_hash: Option<String>,
}

/// Opens, looks at and ends sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Where they are kept.
    pub(crate) db: Db,
    /// What makes their tokens.
    pub(crate) mint: Mint,
    /// Who is who.
    pub(crate) directory: Arc<Directory>,
    /// Which tokens counted a moment ago.
    pub(crate) counted: Counted,
}

/// How long a token that counted may be taken to count still.
const FRESH: Duration = Duration::from_secs(1);
/// Tokens remembered.
const REMEMBERED: usize = 10_000;

/// Tokens that counted a moment ago: by the id of each, its session and its
/// user, and when that was.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<HashMap<String, (String, String, Instant)>>);

impl Counted {
    fn has(&self, claims: &AccessClaims, now: Instant) -> bool {
        self.tokens()
            .get(&claims.jti)
            .is_some_and(|(sid, sub, at)| {
                *sid == claims.sid
                    && *sub == claims.sub
                    && now.saturating_duration_since(*at) < FRESH
            })
    }

    fn add(&self, claims: &AccessClaims, now: Instant) {
        let mut tokens = self.tokens();
        if tokens.len() >= REMEMBERED {
            tokens.retain(|_, (.., at)| now.saturating_duration_since(*at) < FRESH);
        }
        if tokens.len() < REMEMBERED {
            let session = (claims.sid.clone(), claims.sub.clone(), now);
            tokens.insert(claims.jti.clone(), session);
        }
    }

    /// Something has ended.
    pub(crate) fn forget(&self) {
        self.tokens().clear();
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, (String, String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// Make a session and its tokens; [`Opened::write`] comes before they are
    /// given away.
    ///
    /// Errors: there is no key, or no random numbers.
    pub(crate) fn open(&self, opening: Opening) -> Result<Opened> {
        let now_us = clock::now_us();
        let life_s = opening.refresh_s.unwrap_or(opening.token_s);
        let ends_us = later(now_us, life_s);
        let (ends_us, token_s) = match &opening.parent {
            Some(parent) => (
                ends_us.min(parent.ends.last_us),
                parent.life_s(opening.token_s, now_us),
            ),
            None => (ends_us, opening.token_s),
        };
        let session = Session {
            id: opaque::id()?,
            kind: opening.kind,
            subject: opening.user.name,
            uid: opening.user.uid,
            role: opening.user.role,
            by_group: opening.user.by_group,
            scopes: opening.scopes,
            client_id: opening.client_id,
            jkt: opening.jkt,
            source: opening.source,
            created_us: now_us,
            last_used_us: now_us,
            expires_us: ends_us,
            ended_us: None,
            ended_reason: None,
            parent: opening.parent.map(|parent| parent.id),
        };
        let minted =
            self.mint
                .token(&session, session.scopes, opening.audience, token_s, now_us)?;
        let refresh = opening.refresh_s.map(|_| opaque::make(opaque::REFRESH));
        let (refresh, refresh_hash) = refresh.transpose()?.unzip();
        Ok(Opened {
            granted: minted.granted(session.scopes, refresh.as_ref()),
            jti: minted.jti,
            session,
            refresh_hash,
        })
    }

    /// The session of the token with these claims, if both still count. A
    /// session whose role came from a group is looked at again, and ends where
    /// the user has less of a role by now.
    ///
    /// Errors: the database or the name service did not answer.
    pub(crate) async fn alive(&self, claims: &AccessClaims) -> Result<Option<Session>> {
        let now_us = clock::now_us();
        if let Some(key) = claims.sid.strip_prefix(KEY_SESSION) {
            return self.alive_key(key, claims, now_us).await;
        }
        let found = {
            let mut conn = self.db.read().await?;
            sessions::find_alive(&mut conn, &claims.sid, &claims.jti, now_us).await?
        };
        let Some(session) = found.filter(|session| session.subject == claims.sub) else {
            return Ok(None);
        };
        Ok(self.keeps_role(&session).await?.then_some(session))
    }

    /// As [`Sessions::alive`], for the token of an API key: it counts for as
    /// long as the key does, and its user may as much.
    async fn alive_key(
        &self,
        id: &str,
        claims: &AccessClaims,
        now_us: i64,
    ) -> Result<Option<Session>> {
        let (key, ended) = {
            let mut conn = self.db.read().await?;
            let key = api_keys::find(&mut conn, id).await?;
            let revoked = revocations::has_token(&mut conn, &claims.jti).await?;
            let session = key.as_ref().and_then(|key| key.session_id.as_deref());
            let alive = match session {
                Some(id) => sessions::is_alive(&mut conn, id, now_us).await?,
                None => true,
            };
            (key, revoked || !alive)
        };
        let counts = |key: &ApiKey| {
            !ended
                && key.revoked_us.is_none()
                && now_us < key.expires_us
                && key.subject == claims.sub
        };
        let Some(key) = key.filter(counts) else {
            return Ok(None);
        };
        let may = |user: &Principal| user.uid == claims.uid && !is_less(user.role, claims.role);
        let user = self.directory.standing(&key.subject).await?;
        let user = user.ok().filter(may);
        user.map(|user| crate::api_keys::session_of(&key, user))
            .transpose()
    }

    /// Whether [`Sessions::alive`] finds a session, or found it within the last
    /// second. What is ended by this process counts no more at once, what is
    /// ended by another after that second.
    ///
    /// Errors: as [`Sessions::alive`].
    pub(crate) async fn counts(&self, claims: &AccessClaims) -> Result<bool> {
        let now = Instant::now();
        if self.counted.has(claims, now) {
            return Ok(true);
        }
        let counts = self.alive(claims).await?.is_some();
        if counts {
            self.counted.add(claims, now);
        }
        Ok(counts)
    }

    /// Whether the user of the session has at least its role still, where a
    /// group gave it; the session ends where not.
    ///
    /// Errors: the database or the name service did not answer.
    pub(crate) async fn keeps_role(&self, session: &Session) -> Result<bool> {
        if !session.by_group {
            return Ok(true);
        }
        let kept = match self.directory.standing(&session.subject).await? {
            Ok(user) => !is_less(user.role, session.role),
            Err(_) => false,
        };
        if !kept {
            self.end(session, "group-left").await?;
        }
        Ok(kept)
    }

    /// End the session, which nobody asked for, for `reason`: one stable word.
    ///
    /// Errors: the database did not answer.
    pub(crate) async fn end(&self, session: &Session, reason: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let ended = sessions::end(&mut tx, Of::Id(&session.id), reason, clock::now_us()).await?;
        if ended > 0 {
            let mut event = Event::new(Sort::Session, Source::of_service());
            event.action = Some("end");
            event.subject = Some(session.subject.clone());
            event.uid = session.uid;
            event.detail = Some(format!("{} {reason}", session.id));
            audit::act(&mut tx, event).await?;
        }
        tx.commit().await?;
        self.counted.forget();
        Ok(())
    }
}

impl Opened {
    /// Write the session down; false, and nothing is written, where the user
    /// may not log in any more, or not with the password set at `password_us`.
    /// Without a refresh token, one statement that may stand alone.
    ///
    /// Errors: the database did not answer.
    pub(crate) async fn write(&self, tx: &mut Tx, password_us: Option<i64>) -> Result<bool> {
        let session = &self.session;
        if !sessions::insert(tx, session, password_us).await? {
            return Ok(false);
        }
        if let Some(hash) = &self.refresh_hash {
            let (from_us, to_us) = (session.created_us, session.expires_us);
            refresh_tokens::insert(tx, hash, &session.id, from_us, to_us).await?;
        }
        Ok(true)
    }

    /// Write the session of a login down, in as few steps as it takes; as
    /// [`Opened::write`].
    ///
    /// Errors: the database did not answer.
    pub(crate) async fn write_alone(&self, db: &Db, password_us: Option<i64>) -> Result<bool> {
        if self.refresh_hash.is_none() {
            let mut alone = db.hold().await?;
            let written = self.write(&mut alone, password_us).await;
            if written.is_err() {
                alone.abandon();
            }
            return written;
        }
        let mut tx = db.begin().await?;
        let written = self.write(&mut tx, password_us).await?;
        tx.commit().await?;
        Ok(written)
    }

    /// Write the session of a login down whose password is not kept here; false
    /// where the user may not log in any more.
    ///
    /// Errors: the database did not answer.
    pub(crate) async fn write_held(&self, db: &Db, directory: &Directory) -> Result<bool> {
        let mut tx = db.begin().await?;
        if !directory.hold(&mut tx, &self.session.subject).await? {
            return Ok(false);
        }
        let written = self.write(&mut tx, None).await?;
        tx.commit().await?;
        Ok(written)
    }
}

/// What the tokens of `user` from a client of `scopes` may be used for, where
/// `asked` is asked for; `None` where that is more than they may, or nothing.
pub(crate) fn within(asked: Option<Scopes>, scopes: Scopes, user: Role) -> Option<Scopes> {
    let most = scopes.and(scopes_of(user));
    let given = asked.unwrap_or(most);
    (given.within(most) && !given.is_empty()).then_some(given)
}

/// End everything that the user has: sessions, codes, approved devices;
/// returns how many sessions.
///
/// Errors: the database did not answer.
pub(crate) async fn end_all_of(
    tx: &mut Tx,
    name: &str,
    reason: &str,
    now_us: i64,
) -> warrant_migrations::Result<usize> {
    // Whoever is about to decide holds the session: ended first, it leaves
    // nothing behind that the next two do not see.
    let ended = sessions::end(tx, Of::Subject(name), reason, now_us).await?;
    codes::delete_of(tx, name).await?;
    devices::delete_of(tx, name).await?;
    Ok(ended)
}

/// As [`end_all_of`], of everybody.
///
/// Errors: the database did not answer.
pub(crate) async fn end_everything(tx: &mut Tx, now_us: i64) -> warrant_migrations::Result<usize> {
    let ended = sessions::end(tx, Of::All, "ended", now_us).await?;
    codes::delete_all(tx).await?;
    devices::delete_all(tx).await?;
    Ok(ended)
}

/// As [`end_all_of`], where the account itself has changed: no token of the
/// user counts any more that was issued before the second that begins next;
/// returns that second, since the Unix epoch.
///
/// Errors: the database did not answer.
pub(crate) async fn end_account(
    tx: &mut Tx,
    name: &str,
    reason: &str,
) -> warrant_migrations::Result<i64> {
    end_account_before(tx, name, reason, None).await
}

/// As [`end_account`], where only tokens from before `before_us` are meant, in
/// microseconds since the Unix epoch.
///
/// Errors: the database did not answer.
pub(crate) async fn end_account_before(
    tx: &mut Tx,
    name: &str,
    reason: &str,
    before_us: Option<i64>,
) -> warrant_migrations::Result<i64> {
    let now_us = clock::now_us();
    let before_s = before_us.unwrap_or(now_us).min(now_us) / 1_000_000 + 1;
    end_all_of(tx, name, reason, now_us).await?;
    revocations::insert_account(tx, name, before_s, now_us).await?;
    Ok(before_s)
}

/// Wait for the second that [`end_account`] returned, which begins within one:
/// the tokens of whoever logs in from then on count.
pub(crate) async fn until(before_s: i64) {
    let begins_us = before_s.saturating_mul(1_000_000);
    let rest_us = begins_us.saturating_sub(clock::now_us());
    let rest_us = u64::try_from(rest_us).unwrap_or(0).min(1_000_000);
    tokio::time::sleep(Duration::from_micros(rest_us)).await;
}

/// `seconds` after `time_us`.
pub(crate) fn later(time_us: i64, seconds: u64) -> i64 {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    time_us.saturating_add(seconds.saturating_mul(1_000_000))
}
