//! Tokens for a code: the second half of the code flow. Source: RFC 6749
//! §4.1.3, RFC 7636 §4.6, RFC 9700 §4.5.

use warrant_api::oauth::Granted;

use super::{Asking, Client, OAuth, Refused};
use crate::audit::{Event, Sort};
use crate::clock;
use crate::opaque;
use crate::secret::Secret;
use crate::sessions::{Kind, Opening, within};
use crate::store::codes::{self, Code};
use crate::store::sessions::{self, Of};

/// What a client shows for tokens.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The code.
    pub(crate) code: Secret,
    /// The address that the code was sent to.
    pub(crate) redirect_uri: String,
    /// What the challenge was made of.
    pub(crate) verifier: Secret,
}

impl OAuth {
    /// Tokens for a code. A code that was used before ends the session that
    /// was made of it: two have it.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn for_code(
        &self,
        client: &Client,
        shown: &Shown,
        asking: &Asking,
        event: &mut Event,
    ) -> Result<Granted, Refused> {
        event.sort = Sort::Code;
        let hash = opaque::read(opaque::CODE, &shown.code).ok_or(Refused::Proof("code"))?;
        let (subject, giver) = self.giver(&hash).await?;
        event.subject = Some(subject.clone());
        let user = self.directory().standing(&subject).await??;
        event.uid = user.uid;
        let place = self.audit.place()?;
        let now_us = clock::now_us();
        let mut tx = self.db.begin().await?;
        self.hold(&mut tx, &subject, client).await?;
        let parent = self.parent(&mut tx, giver.as_deref(), now_us).await?;
        let code = codes::hold(&mut tx, &hash).await?;
        let code = code.ok_or(Refused::Proof("code"))?;
        if code.used_us.is_some() {
            if let Some(id) = &code.session_id {
                sessions::end(&mut tx, Of::Id(id), "code-reuse", now_us).await?;
            }
            tx.commit().await?;
            self.sessions.counted.forget();
            return Err(Refused::Proof("code-reuse"));
        }
        if let Err(refused) = fits(&code, client, shown, now_us) {
            codes::spend(&mut tx, &hash, None, now_us).await?;
            tx.commit().await?;
            return Err(refused);
        }
        let given = code.scopes.parse().map_err(|_| Refused::Scope)?;
        let scopes = within(asking.scopes, client.scopes.and(given), user.role);
        let opened = self.sessions.open(Opening {
            kind: Kind::Code,
            user,
            scopes: scopes.ok_or(Refused::Scope)?,
            client_id: client.id.clone(),
            jkt: asking.jkt(),
            source: asking.source.to_string(),
            token_s: self.token_s(),
            refresh_s: self.refresh_s(client),
            audience: asking.audience,
            parent,
        })?;
        codes::spend(&mut tx, &hash, Some(&opened.session.id), now_us).await?;
        asking.spend_proof(&mut tx).await?;
        opened.write(&mut tx, None).await?;
        tx.commit().await?;
        event.jti = Some(opened.jti);
        place.granted(event.clone());
        Ok(opened.granted)
    }

    /// The user who gave the code with this hash, and the session with which it
    /// ends.
    async fn giver(&self, hash: &str) -> Result<(String, Option<String>), Refused> {
        let mut conn = self.db.read().await?;
        let giver = codes::find_giver(&mut conn, hash).await?;
        giver.ok_or(Refused::Proof("code"))
    }
}

/// Whether the code was made for this client, and for what it shows.
fn fits(code: &Code, client: &Client, shown: &Shown, now_us: i64) -> Result<(), Refused> {
    let verifier = shown.verifier.expose();
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let plain = (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved);
    if code.client_id != client.id {
        return Err(Refused::Proof("other-client"));
    }
    if code.expires_us <= now_us {
        return Err(Refused::Proof("code-expired"));
    }
    if code.redirect_uri != shown.redirect_uri {
        return Err(Refused::Proof("redirect-uri"));
    }
    if !plain || !opaque::same(&opaque::hash(verifier), &code.challenge) {
        return Err(Refused::Proof("verifier"));
    }
    Ok(())
}
