//! From a certificate to an access token, without a password.

use std::sync::Arc;
use std::time::Instant;

use super::{Asked, Barred, LONGEST, Login, Proven, ProvenBy, Refusal, Wanted, Wrong};
use crate::audit::{Event, Sort};
use crate::certificates::{Shown, Users};
use crate::error::{Error, Part};
use crate::source::Source;
use crate::throttle::Verdict;

/// Somebody who wants something for a certificate: commonly a token.
#[derive(Debug)]
pub(crate) struct Certified<W = Asked> {
    /// What was shown over the connection.
    pub(crate) shown: Option<Shown>,
    /// What is asked for.
    pub(crate) asked: W,
    /// Where it comes from.
    pub(crate) source: Source,
}

impl Login {
    /// Judge `certified`, whose user `users` knows. As a login by password, it
    /// is judged to the end, counted and recorded.
    ///
    /// Errors: [`Refusal`].
    pub(crate) async fn judge_certificate<W: Wanted>(
        self: Arc<Self>,
        users: &Users,
        certified: Certified<W>,
    ) -> Result<W::Given, Refusal> {
        let users = users.clone();
        let judged = tokio::spawn(async move {
            let mut event = Event::new(Sort::Login, certified.source.clone());
            event.action = Some("certificate");
            event.audience = Some(certified.asked.audience().to_owned());
            let answer = self.answer_certificate(&users, certified, &mut event);
            let answer = match tokio::time::timeout(LONGEST, answer).await {
                Ok(answer) => answer,
                Err(late) => Err(Error::unavailable("a login took too long", late)
                    .of(Part::Database)
                    .into()),
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

    async fn answer_certificate<W: Wanted>(
        &self,
        users: &Users,
        certified: Certified<W>,
        event: &mut Event,
    ) -> Result<W::Given, Refusal> {
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
        let user = user.map_err(|wrong| match wrong {
            Wrong::Account(none) => Refusal::from(Barred::Account(none)),
            Wrong::Name
            | Wrong::Unknown
            | Wrong::Disabled
            | Wrong::Password
            | Wrong::Certificate(_) => Wrong::Certificate(wrong.word()).into(),
        });
        self.count(&user, Some(&name), &source);
        let user = user?;
        event.uid = user.uid;
        let proven = Proven {
            uid: user.uid,
            user,
            password_us: None,
            by: ProvenBy::Certificate,
        };
        asked.give(self, proven, source, event).await
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
