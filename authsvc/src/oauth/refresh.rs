//! The next access token of a session. Refresh tokens are good for one use
//! each: a second use means that somebody else has it too, and ends the
//! session. Source: RFC 6749 §6, RFC 9700 §4.14.2.

use warrant_api::oauth::Granted;
use warrant_dpop::Refused as Possession;
use warrant_migrations::Tx;

use super::{Asking, Client, OAuth, Refused};
use crate::audit::{Event, Sort};
use crate::clock;
use crate::directory::scopes_of;
use crate::opaque;
use crate::secret::Secret;
use crate::sessions::{Parent, Session};
use crate::store::refresh_tokens::{self, RefreshToken};
use crate::store::sessions::{self, Of};

/// How long after its use a token may come again, from a client that never
/// received the answer.
const GRACE_US: u64 = 10_000_000;

/// What a token is good for.
enum Use {
    /// It is used for the first time.
    First,
    /// Its client may have missed the answer; what it was to get was not used
    /// and becomes void.
    Again { void: String },
    /// Somebody uses it who should not have it.
    Stolen,
}

impl OAuth {
    /// New tokens of the session that `token` is part of.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn refresh(
        &self,
        client: &Client,
        token: &Secret,
        asking: &Asking,
        event: &mut Event,
    ) -> Result<Granted, Refused> {
        event.sort = Sort::Refresh;
        let hash = opaque::read(opaque::REFRESH, token).ok_or(Refused::Proof("refresh-token"))?;
        let session = self.session_of(&hash).await?;
        event.subject = Some(session.subject.clone());
        event.uid = session.uid;
        if session.client_id != client.id {
            return Err(Refused::Proof("other-client"));
        }
        let user = match self.directory().standing(&session.subject).await? {
            Ok(user) if user.uid == session.uid => user,
            Ok(_) => {
                self.sessions.end(&session, "account-changed").await?;
                return Err(Refused::Proof("account-changed"));
            }
            Err(wrong) => return Err(wrong.into()),
        };
        let most = session.scopes.and(scopes_of(user.role));
        let scopes = asking.scopes.unwrap_or(most);
        if !scopes.within(most) || scopes.is_empty() {
            return Err(Refused::Scope);
        }
        let place = self.audit.place()?;
        let (next, next_hash) = opaque::make(opaque::REFRESH)?;
        let now_us = clock::now_us();
        let mut tx = self.db.begin().await?;
        let Some(held) = sessions::hold(&mut tx, &session.id, now_us).await? else {
            return Err(Refused::Proof("session-ended"));
        };
        let jkt = key(&held, client, asking)?;
        asking.spend_proof(&mut tx).await?;
        match judge(&mut tx, &hash, now_us).await? {
            Use::First => {}
            Use::Again { void } => refresh_tokens::spend(&mut tx, &void, None, now_us).await?,
            Use::Stolen => {
                sessions::end(&mut tx, Of::Id(&held.id), "refresh-reuse", now_us).await?;
                tx.commit().await?;
                self.sessions.counted.forget();
                return Err(Refused::Proof("refresh-reuse"));
            }
        }
        refresh_tokens::spend(&mut tx, &hash, Some(&next_hash), now_us).await?;
        refresh_tokens::insert(&mut tx, &next_hash, &held.id, now_us, held.expires_us).await?;
        if (held.role, held.by_group) != (user.role, user.by_group) {
            sessions::set_role(&mut tx, &held.id, user.role, user.by_group).await?;
        }
        if let Some(jkt) = jkt
            .as_deref()
            .filter(|jkt| held.jkt.as_deref() != Some(jkt))
        {
            sessions::set_key(&mut tx, &held.id, jkt).await?;
        }
        let held = Session {
            role: user.role,
            by_group: user.by_group,
            jkt,
            ..held
        };
        // Not longer than the session with which this one ends, as that stands now.
        let life_s = match held.parent.clone() {
            None => self.token_s(),
            Some(id) => {
                let ends = sessions::ends(&mut tx, &id, now_us).await?;
                let ends = ends.ok_or(Refused::Proof("session-ended"))?;
                Parent { id, ends }.life_s(self.token_s(), now_us)
            }
        };
        let mint = &self.sessions.mint;
        let minted = mint.token(&held, scopes, asking.audience, life_s, now_us)?;
        tx.commit().await?;
        event.jti = Some(minted.jti.clone());
        place.granted(event.clone());
        Ok(minted.granted(scopes, Some(&next)))
    }

    async fn session_of(&self, hash: &str) -> Result<Session, Refused> {
        let mut conn = self.db.read().await?;
        let token = refresh_tokens::find(&mut conn, hash).await?;
        let token = token.ok_or(Refused::Proof("refresh-token"))?;
        let session = sessions::find(&mut conn, &token.session_id).await?;
        session.ok_or(Refused::Proof("session-ended"))
    }
}

/// The key of the next access token. A session that began with a proof goes on
/// with proofs; where the client has no secret, with proofs of the same key.
/// Source: RFC 9449 §5.
fn key(held: &Session, client: &Client, asking: &Asking) -> Result<Option<String>, Refused> {
    match (&held.jkt, asking.jkt()) {
        (None, shown) => Ok(shown),
        (Some(_), None) => Err(Refused::Possession(Possession::Missing)),
        (Some(bound), Some(shown)) if client.is_confidential() || opaque::same(bound, &shown) => {
            Ok(Some(shown))
        }
        (Some(_), Some(_)) => Err(Refused::Possession(Possession::OtherKey)),
    }
}

/// What the token with this hash is good for, in a transaction that holds its
/// session.
async fn judge(tx: &mut Tx, hash: &str, now_us: i64) -> Result<Use, Refused> {
    let gone = Refused::Proof("refresh-token");
    let token = refresh_tokens::find_held(tx, hash).await?.ok_or(gone)?;
    let (used_us, void) = match token {
        RefreshToken { used_us: None, .. } => return Ok(Use::First),
        RefreshToken {
            used_us: Some(used_us),
            successor: Some(successor),
            ..
        } => (used_us, successor),
        RefreshToken {
            successor: None, ..
        } => return Ok(Use::Stolen),
    };
    let successor = refresh_tokens::find_held(tx, &void).await?;
    let unused = successor.is_some_and(|successor| successor.used_us.is_none());
    // Either way: the clock may have been set back since.
    let soon = now_us.abs_diff(used_us) <= GRACE_US;
    Ok(if unused && soon {
        Use::Again { void }
    } else {
        Use::Stolen
    })
}
