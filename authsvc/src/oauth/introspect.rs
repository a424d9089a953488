//! What is known of a token. Source: RFC 7662.

use warrant_api::oauth::Introspection;
use warrant_api::token::Confirmation;
use warrant_dpop::SCHEME;

use super::{Client, OAuth, Refused};
use crate::clock;
use crate::opaque;
use crate::secret::Secret;
use crate::store::{refresh_tokens, sessions};

impl OAuth {
    /// What is known of `token`: an access token, or a refresh token of
    /// `client`'s own.
    ///
    /// Errors: the database or the name service did not answer.
    pub(crate) async fn introspect(
        &self,
        client: Option<&Client>,
        token: &Secret,
    ) -> Result<Introspection, Refused> {
        if let Some(hash) = opaque::read(opaque::REFRESH, token) {
            return self.introspect_refresh(client, &hash).await;
        }
        let Some((claims, session)) = self.counts(token).await? else {
            return Ok(Introspection::default());
        };
        // The user may have lost the account without anybody telling.
        let user = self.directory().standing(&session.subject).await?;
        if !user.is_ok_and(|user| user.uid == session.uid) {
            return Ok(Introspection::default());
        }
        let bound = claims.cnf.is_some();
        Ok(Introspection {
            active: true,
            token_type: Some(if bound { SCHEME } else { "Bearer" }.into()),
            scope: Some(claims.scope),
            client_id: Some(claims.client_id.clone()),
            username: Some(claims.sub.clone()),
            sub: Some(claims.sub.clone()),
            uid: claims.uid,
            sid: Some(claims.sid.clone()),
            jti: Some(claims.jti.clone()),
            iss: Some(claims.iss.clone()),
            aud: Some(claims.aud.clone()),
            iat: Some(claims.iat),
            exp: Some(claims.exp),
            cnf: claims.cnf.clone(),
        })
    }

    async fn introspect_refresh(
        &self,
        client: Option<&Client>,
        hash: &str,
    ) -> Result<Introspection, Refused> {
        let now_us = clock::now_us();
        let mut conn = self.db.read().await?;
        let token = refresh_tokens::find(&mut conn, hash).await?;
        let Some(token) = token.filter(|token| token.used_us.is_none()) else {
            return Ok(Introspection::default());
        };
        let session = sessions::find(&mut conn, &token.session_id).await?;
        let seconds = |time_us: i64| u64::try_from(time_us / 1_000_000).ok();
        Ok(match (client, session) {
            (Some(client), Some(session))
                if session.client_id == client.id
                    && session.ended_us.is_none()
                    && session.expires_us > now_us =>
            {
                Introspection {
                    active: true,
                    token_type: Some("refresh_token".into()),
                    scope: Some(session.scopes),
                    client_id: Some(session.client_id),
                    username: Some(session.subject.clone()),
                    sub: Some(session.subject),
                    uid: session.uid,
                    sid: Some(session.id),
                    iat: seconds(token.issued_us),
                    exp: seconds(token.expires_us),
                    cnf: session.jkt.map(|jkt| Confirmation { jkt }),
                    ..Introspection::default()
                }
            }
            (Some(_) | None, Some(_) | None) => Introspection::default(),
        })
    }
}
