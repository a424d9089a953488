//! Tokens for a client that acts by itself, as its owner. Source: RFC 6749
//! §4.4.

use warrant_api::oauth::Granted;

use super::{Asking, Client, OAuth, Refused};
use crate::audit::{Event, Sort};
use crate::sessions::{Kind, Opening, within};

impl OAuth {
    /// A token for `client`, which proved who it is.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn for_itself(
        &self,
        client: &Client,
        asking: &Asking,
        event: &mut Event,
    ) -> Result<Granted, Refused> {
        event.sort = Sort::Client;
        let owner = match &client.owner {
            Some(owner) if client.is_confidential() => owner,
            Some(_) | None => return Err(Refused::ClientGrant),
        };
        event.subject = Some(owner.clone());
        let user = self.directory().standing(owner).await??;
        event.uid = user.uid;
        let scopes = within(asking.scopes, client.scopes, user.role).ok_or(Refused::Scope)?;
        let place = self.audit.place()?;
        let opened = self.sessions.open(Opening {
            kind: Kind::Client,
            user,
            scopes,
            client_id: client.id.clone(),
            jkt: asking.jkt(),
            source: asking.source.to_string(),
            token_s: self.token_s(),
            // The client has its secret. Source: RFC 6749 §4.4.3.
            refresh_s: None,
            audience: asking.audience,
            parent: None,
        })?;
        let mut tx = self.db.begin().await?;
        self.hold(&mut tx, owner, client).await?;
        asking.spend_proof(&mut tx).await?;
        opened.write(&mut tx, None).await?;
        tx.commit().await?;
        event.jti = Some(opened.jti);
        place.granted(event.clone());
        Ok(opened.granted)
    }
}
