//! What a user who proved who they are is given.

use std::future::Future;

use warrant_api::oauth::Granted;

use super::{Asked, Login, Refusal, Wrong};
use crate::audit::Event;
use crate::directory::Principal;
use crate::source::Source;

/// A user who proved who they are.
#[derive(Debug)]
pub(crate) struct Proven {
    /// The user, with the role that it has now.
    pub(crate) user: Principal,
    /// The account's user id, where users must have one.
    pub(crate) uid: Option<u32>,
    /// When the password was set, where it is kept here: what is given counts
    /// only where it was not changed meanwhile.
    pub(crate) password_us: Option<i64>,
    /// With what the user proved it.
    pub(crate) by: ProvenBy,
}

/// With what a user proves who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProvenBy {
    /// A password.
    Password,
    /// The certificate of the connection.
    Certificate,
    /// A provider's word.
    Provider,
}

impl ProvenBy {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Certificate => "certificate",
            Self::Provider => "provider",
        }
    }
}

/// Nothing but that the proof is good: what it is for is given afterwards.
#[derive(Debug)]
pub(crate) struct Confirmed {
    /// What it is for, in a word, for the audit trail.
    pub(crate) audience: &'static str,
}

impl Wanted for Confirmed {
    type Given = Proven;

    fn audience(&self) -> &'static str {
        self.audience
    }

    async fn give(
        self,
        _: &Login,
        proven: Proven,
        _: Source,
        _: &Event,
    ) -> Result<Proven, Refusal> {
        Ok(proven)
    }
}

/// What an attempt is made for.
pub(crate) trait Wanted: Send + 'static {
    /// What is given.
    type Given: Send + 'static;

    /// Whom it is for, in a word, for the audit trail.
    fn audience(&self) -> &'static str;

    /// Give it to whoever was proven, and record that in `event`.
    ///
    /// Errors: [`Refusal`].
    fn give(
        self,
        login: &Login,
        proven: Proven,
        source: Source,
        event: &Event,
    ) -> impl Future<Output = Result<Self::Given, Refusal>> + Send;
}

impl Wanted for Asked {
    type Given = Granted;

    fn audience(&self) -> &'static str {
        self.audience.name()
    }

    async fn give(
        self,
        login: &Login,
        proven: Proven,
        source: Source,
        event: &Event,
    ) -> Result<Granted, Refusal> {
        let opening = self.opening(proven.user, &source).ok_or(Refusal::Scope)?;
        let place = login.audit.place()?;
        let opened = login.sessions.open(opening)?;
        // The password may have been changed while this one was checked.
        let (db, password_us) = (&login.db, proven.password_us);
        let directory = &login.sessions.directory;
        let written = match (&self.proof, password_us) {
            (Some(proof), _) => {
                let mut tx = db.begin().await?;
                proof.spend(&mut tx).await?;
                let may = password_us.is_some()
                    || directory.hold(&mut tx, &opened.session.subject).await?;
                let written = may && opened.write(&mut tx, password_us).await?;
                tx.commit().await?;
                written
            }
            (None, Some(_)) => opened.write_alone(db, password_us).await?,
            (None, None) => opened.write_held(db, directory).await?,
        };
        if !written {
            let changed = password_us.map(|_| Wrong::Password);
            return Err(changed.unwrap_or(Wrong::Disabled).into());
        }
        tracing::info!(user = ?opened.session.subject, %source, "logged in");
        place.granted(Event {
            uid: proven.uid,
            jti: Some(opened.jti),
            ..event.clone()
        });
        Ok(opened.granted)
    }
}
