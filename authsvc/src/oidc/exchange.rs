//! Tokens for an ID token. Source: RFC 8693 §2.

use std::time::Instant;

use warrant_api::oauth::Granted;
use warrant_api::token::ACCESS_TOKEN_URN;

use super::Oidc;
use super::claims::Expected;
use super::id_token::Unproven;
use crate::audit::Event;
use crate::clock;
use crate::login::Asked;
use crate::oauth::Refused;
use crate::secret::Secret;
use crate::source::Source;
use crate::store::spent::{self, OneUse};
use crate::throttle::Verdict;

impl Oidc {
    /// Tokens for `id_token`, which is good for one exchange.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn exchange(
        &self,
        id_token: &Secret,
        asked: Asked,
        source: &Source,
        event: &mut Event,
    ) -> Result<Granted, Refused> {
        if let Verdict::Refuse(wait_s) = self.shown.check(None, source, Instant::now()) {
            return Err(Refused::Throttled(wait_s));
        }
        let given = self.give(id_token, asked, source, event).await;
        if let Err(Refused::Proof(_) | Refused::Barred(_)) = given {
            self.shown.fail(None, source, Instant::now());
        }
        given
    }

    async fn give(
        &self,
        id_token: &Secret,
        asked: Asked,
        source: &Source,
        event: &mut Event,
    ) -> Result<Granted, Refused> {
        let unproven = Unproven::read(id_token).map_err(Refused::Proof)?;
        let made_it = |issuer| {
            let mut providers = self.providers.iter();
            providers.find(|provider| Some(provider.section().issuer.as_str()) == issuer)
        };
        let provider = made_it(unproven.issuer()).ok_or(Refused::Proof("id-token-issuer"))?;
        let section = provider.section();
        event.detail = Some(format!("oidc {}", section.name));
        if section.audience.is_empty() {
            return Err(Refused::Proof("no-exchange"));
        }
        let now_s = clock::now_s();
        let expected = Expected {
            issuer: &section.issuer,
            audience: &section.audience,
            nonce: None,
            access_token: None,
            now_s,
        };
        let claims = provider.verify(unproven, &expected).await?;
        let user = self.user(provider, &claims).await?;
        event.subject = Some(user.name.clone());
        event.uid = user.uid;
        let opening = asked.opening(user, source).ok_or(Refused::Scope)?;
        let place = self.audit.place()?;
        let opened = self.sessions.open(opening)?;
        let ends_us = i64::try_from(claims.ends_s(now_s)).unwrap_or(i64::MAX);
        let mut tx = self.db.begin().await?;
        let directory = &self.sessions.directory;
        if !directory.hold(&mut tx, &opened.session.subject).await? {
            return Err(Refused::Proof("user-disabled"));
        }
        if !spent::spend(
            &mut tx,
            OneUse::IdToken(&claims.hash),
            ends_us.saturating_mul(1_000_000),
        )
        .await?
        {
            return Err(Refused::Proof("id-token-used"));
        }
        if let Some(proof) = &asked.proof {
            proof.spend(&mut tx).await?;
        }
        opened.write(&mut tx, None).await?;
        tx.commit().await?;
        event.jti = Some(opened.jti);
        place.granted(event.clone());
        Ok(Granted {
            issued_token_type: Some(ACCESS_TOKEN_URN.into()),
            ..opened.granted
        })
    }
}
