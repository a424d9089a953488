//! The end of a token, at its holder's wish. Source: RFC 7009.

use super::{OAuth, Refused};
use crate::audit::{Event, Sort};
use crate::clock;
use crate::opaque;
use crate::secret::Secret;
use crate::sessions::Session;
use crate::store::sessions::{self, Of};
use crate::store::{refresh_tokens, revocations};

impl OAuth {
    /// End `token`, which was given to the client `client_id`: a refresh token
    /// with its session; an access token alone, or with its session where that
    /// has no more. Of a token that does not count nothing is left to do.
    ///
    /// Errors: it was given to another client; the database did not answer.
    pub(crate) async fn revoke(
        &self,
        client_id: &str,
        token: &Secret,
        event: &mut Event,
    ) -> Result<(), Refused> {
        event.sort = Sort::Revoke;
        let (session, jti) = match opaque::read(opaque::REFRESH, token) {
            Some(hash) => (self.session_of_refresh(&hash).await?, None),
            None => match self.counts(token).await? {
                Some((claims, session)) => (Some(session), Some(claims.jti.clone())),
                None => (None, None),
            },
        };
        let Some(session) = session else {
            return Ok(());
        };
        event.subject = Some(session.subject.clone());
        event.uid = session.uid;
        event.jti.clone_from(&jti);
        if session.client_id != client_id {
            return Err(Refused::Proof("other-client"));
        }
        let place = self.audit.place()?;
        let now_us = clock::now_us();
        let mut tx = self.db.begin().await?;
        match &jti {
            Some(jti) if refresh_tokens::any_of(&mut tx, &session.id).await? => {
                revocations::insert_token(&mut tx, jti, now_us).await?;
            }
            Some(_) | None => {
                sessions::end(&mut tx, Of::Id(&session.id), "revoked", now_us).await?;
            }
        }
        tx.commit().await?;
        self.sessions.counted.forget();
        place.granted(event.clone());
        Ok(())
    }

    async fn session_of_refresh(&self, hash: &str) -> Result<Option<Session>, Refused> {
        let mut conn = self.db.read().await?;
        Ok(match refresh_tokens::find(&mut conn, hash).await? {
            Some(token) => sessions::find(&mut conn, &token.session_id).await?,
            None => None,
        })
    }
}
