//! OAuth 2.0: the ways to tokens, what is known of them, and their end.
//! Source: RFC 6749 as narrowed by RFC 9700, RFC 7009, RFC 7636, RFC 7662, RFC
//! 8252, RFC 8414, RFC 8628.

pub(crate) mod authorize;
pub(crate) mod client;
mod code;
mod credentials;
pub(crate) mod device;
mod introspect;
mod metadata;
pub(crate) mod redirect;
mod refresh;
mod refused;
mod revoke;

use std::sync::Arc;

use warrant_api::scope::Scopes;
use warrant_api::token::AccessClaims;
use warrant_migrations::{Db, Tx};

pub(crate) use client::{Claim, Client, Grant};
pub(crate) use code::Shown;
pub(crate) use metadata::metadata;
pub(crate) use refused::Refused;

use crate::audit::{Audit, Event, Sort};
use crate::clock;
use crate::config;
use crate::directory::Directory;
use crate::dpop::KeyProof;
use crate::login::Asked;
use crate::secret::Secret;
use crate::sessions::{Kind, Parent, Session, Sessions};
use crate::source::Source;
use crate::store::clients;
use crate::throttle::Throttle;
use crate::token::Audience;
use crate::warrants::Subjects;

/// Gives tokens, says what is known of them and ends them.
#[derive(Debug)]
pub(crate) struct OAuth {
    /// Clients, codes and refresh tokens.
    pub(crate) db: Db,
    /// The sessions that tokens are part of.
    pub(crate) sessions: Arc<Sessions>,
    /// Verifies access tokens.
    pub(crate) subjects: Subjects,
    /// Where everything is recorded.
    pub(crate) audit: Audit,
    /// The settings.
    pub(crate) config: config::OAuth,
    /// The `iss` claim.
    pub(crate) issuer: String,
    /// Whether clients may prove themselves by certificate.
    pub(crate) client_certificates: bool,
    /// Whether users may log in by certificate.
    pub(crate) user_certificates: bool,
    /// What is borne of whom types in codes of devices.
    pub(crate) typed: Throttle,
    /// What is borne of whom lets devices begin.
    pub(crate) begun: Throttle,
}

/// What a request is about, as far as any is: for the audit trail, and for
/// the tokens.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Where it comes from.
    pub(crate) source: Source,
    /// What is asked for; all that may be had if `None`.
    pub(crate) scopes: Option<Scopes>,
    /// Whom the token shall be for.
    pub(crate) audience: Audience,
    /// The key that was proved to be there, to which the token is bound.
    pub(crate) proof: Option<KeyProof>,
}

impl Asking {
    /// The thumbprint of the key that was proved to be there.
    fn jkt(&self) -> Option<String> {
        self.proof.as_ref().map(|proof| proof.jkt.clone())
    }

    /// See that `client` proves as much as it must.
    ///
    /// Errors: it must prove that it holds a key.
    pub(crate) fn fits(&self, client: &Client) -> Result<(), Refused> {
        if client.dpop && self.proof.is_none() {
            return Err(Refused::Possession(warrant_dpop::Refused::Missing));
        }
        Ok(())
    }

    /// Use the proof, where there is one.
    ///
    /// Errors: it was used before; the database did not answer.
    async fn spend_proof(&self, tx: &mut Tx) -> Result<(), Refused> {
        match &self.proof {
            Some(proof) => Ok(proof.spend(tx).await?),
            None => Ok(()),
        }
    }
}

/// Somebody who is signed in.
#[derive(Debug)]
pub(crate) struct SignedIn {
    /// Since when, and how.
    pub(crate) session: Session,
    /// What the token may be used for.
    pub(crate) scopes: Scopes,
    /// The thumbprint of the key to which the token is bound.
    pub(crate) jkt: Option<String>,
}

impl OAuth {
    fn directory(&self) -> &Directory {
        &self.sessions.directory
    }

    /// See that the user and the client may still have tokens; nobody changes
    /// that before the transaction is over. In the order in which whoever ends
    /// users and clients takes them.
    ///
    /// Errors: one of them may not; the database did not answer.
    async fn hold(&self, tx: &mut Tx, user: &str, client: &Client) -> Result<(), Refused> {
        if !self.directory().hold(tx, user).await? {
            return Err(Refused::Proof("user-disabled"));
        }
        match clients::hold(tx, &client.id).await? {
            true => Ok(()),
            false => Err(Refused::Client),
        }
    }

    /// The session with which what `giver` let in ends; nobody ends that before
    /// the transaction is over.
    ///
    /// Errors: it has ended; the database did not answer.
    async fn parent(
        &self,
        tx: &mut Tx,
        giver: Option<&str>,
        now_us: i64,
    ) -> Result<Option<Parent>, Refused> {
        let Some(giver) = giver else {
            return Ok(None);
        };
        let parent = Parent::hold(tx, giver, now_us).await?;
        parent.map(Some).ok_or(Refused::Proof("session-ended"))
    }

    /// What a client asks for in a login.
    pub(crate) fn asked(&self, client: &Client, asking: &Asking) -> Asked {
        Asked {
            client_id: client.id.clone(),
            most: client.scopes,
            scopes: asking.scopes,
            token_s: self.token_s(),
            refresh_s: self.refresh_s(client),
            audience: asking.audience,
            proof: asking.proof.clone(),
        }
    }

    /// The life of an access token, in seconds.
    fn token_s(&self) -> u64 {
        self.config.access_minutes * 60
    }

    /// The life of a session of `client` in seconds, where it gets refresh
    /// tokens.
    fn refresh_s(&self, client: &Client) -> Option<u64> {
        let may = client.may(Grant::RefreshToken);
        may.then_some(self.config.refresh_days * 86_400)
    }

    /// The client that made `claim`, if it was registered for `grant`.
    ///
    /// Errors: [`Refused::Client`], [`Refused::ClientGrant`].
    pub(crate) async fn client(
        &self,
        claim: Option<&Claim>,
        grant: Grant,
    ) -> Result<Client, Refused> {
        let claim = claim.ok_or(Refused::Client)?;
        let client = client::authenticate(&self.db, claim).await?;
        if !client.may(grant) {
            return Err(Refused::ClientGrant);
        }
        Ok(client)
    }

    /// The claims and the session of the access token `token`, whatever its
    /// audience, if both still count.
    ///
    /// Errors: the database or the name service did not answer.
    async fn counts(
        &self,
        token: &Secret,
    ) -> Result<Option<(Arc<AccessClaims>, Session)>, Refused> {
        let Some(claims) = self.subjects.claims(token.expose(), clock::now_s()) else {
            return Ok(None);
        };
        let session = self.sessions.alive(&claims).await?;
        Ok(session.map(|session| (claims, session)))
    }

    /// Who is signed in with the access token `token` for `audience`. Nobody
    /// is whose token was given to a client by somebody else's decision: it
    /// must not decide for more of its kind.
    ///
    /// Errors: [`Refused::Bearer`].
    pub(crate) async fn signed_in(
        &self,
        token: &Secret,
        audience: Audience,
    ) -> Result<SignedIn, Refused> {
        let (claims, session) = self.counts(token).await?.ok_or(Refused::Bearer)?;
        if claims.aud != audience.name() || session.kind != Kind::Login {
            return Err(Refused::Bearer);
        }
        Ok(SignedIn {
            scopes: claims.scope,
            jkt: claims.cnf.as_ref().map(|cnf| cnf.jkt.clone()),
            session,
        })
    }

    /// What is recorded of something given to `client`.
    fn event(sort: Sort, source: &Source, subject: Option<&str>) -> Event {
        let mut event = Event::new(sort, source.clone());
        event.subject = subject.map(str::to_owned);
        event
    }
}
