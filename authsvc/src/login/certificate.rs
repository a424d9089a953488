//! From a certificate to an access token, without a password.

use std::sync::Arc;
use std::time::Instant;

use warrant_api::oauth::Granted;

use super::{Asked, LONGEST, Login, Refusal, Wrong};
use crate::audit::{Event, Sort};
use crate::certificates::{Shown, Users};
use crate::error::Error;
use crate::source::Source;
use crate::throttle::Verdict;

/// Somebody who wants a token for a certificate.
#[derive(Debug)]
pub(crate) struct Certified {
    /// What was shown over the connection.
    pub(crate) shown: Option<Shown>,
    /// What is asked for.
    pub(crate) asked: Asked,
    /// Where it comes from.
    pub(crate) source: Source,
}

impl Login {
    /// Judge `certified`, whose user `users` knows. As a login by password, it
    /// is judged to the end, counted and recorded.
    ///
    /// Errors: [`Refusal`].
    pub(crate) async fn judge_certificate(
        self: Arc<Self>,
        users: &Users,
        certified: Certified,
    ) -> Result<Granted, Refusal> {
        let users = users.clone();
        let judged = tokio::spawn(async move {
            let mut event = Event::new(Sort::Login, certified.source.clone());
            event.action = Some("certificate");
            event.audience = Some(certified.asked.audience.name().to_owned());
            let answer = self.answer_certificate(&users, certified, &mut event);
            let answer = match tokio::time::timeout(LONGEST, answer).await {
                Ok(answer) => answer,
                Err(late) => Err(Error::unavailable("a login took too long", late).into()),
            };
            if let Err(refusal) = &answer {
                if let Refusal::Failed(error) = refusal {
                    let cause = error.source.as_ref().map(tracing::field::display);
                    tracing::error!(source = %event.source, %error, cause, "login failed");
                }
                self.audit.refused(event, refusal.reason());
            }
            answer
        });
        judged
            .await
            .map_err(|source| Error::unavailable("a login was cut short", source))?
    }

    async fn answer_certificate(
        &self,
        users: &Users,
        certified: Certified,
        event: &mut Event,
    ) -> Result<Granted, Refusal> {
        let Certified {
            shown,
            asked,
            source,
        } = certified;
        // Who shows nothing, or nothing of use, has no name to be borne by.
        self.borne(None, &source).await?;
        let named = match shown {
            Some(shown) => shown.named(),
            None => Err("certificate"),
        };
        let name = named.and_then(|named| users.user(&named));
        let name = name.map_err(|word| Refusal::from(Wrong::Certificate(word)));
        self.count(&name, None, &source);
        let name = name?;
        event.subject = Some(name.to_string());
        self.borne(Some(&name), &source).await?;
        let directory = &self.sessions.directory;
        let user = directory.standing(name.as_str()).await?;
        let user = user.map_err(Refusal::from);
        self.count(&user, Some(&name), &source);
        let user = user?;
        event.uid = user.uid;
        let opening = asked.opening(user, &source).ok_or(Refusal::Scope)?;
        let place = self.audit.place()?;
        let opened = self.sessions.open(opening)?;
        let mut tx = self.db.begin().await?;
        if !directory.hold(&mut tx, name.as_str()).await? {
            return Err(Wrong::Disabled.into());
        }
        if let Some(proof) = &asked.proof {
            proof.spend(&mut tx).await?;
        }
        opened.write(&mut tx, None).await?;
        tx.commit().await?;
        tracing::info!(user = ?opened.session.subject, %source, "logged in by certificate");
        event.jti = Some(opened.jti);
        place.granted(event.clone());
        Ok(opened.granted)
    }

    async fn borne(
        &self,
        name: Option<&crate::user_name::UserName>,
        source: &Source,
    ) -> Result<(), Refusal> {
        match self.throttle.check(name, source, Instant::now()) {
            Verdict::Proceed => Ok(()),
            Verdict::Slow(by) => {
                tokio::time::sleep(by).await;
                Ok(())
            }
            Verdict::Refuse(wait_s) => Err(Refusal::Throttled(wait_s)),
        }
    }
}
