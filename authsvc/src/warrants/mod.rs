//! Warrants: an access token and the hash of a job in, the right to start that
//! job once out. Source: RFC 8693.

mod refused;
mod subject;

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use warrant_api::scope::Scope;
use warrant_api::token::{AccessClaims, WARRANT_URN, WarrantAnswer};
use warrant_dpop::Refused as Possession;
use warrant_wire::{Claims, warrant};

pub(crate) use refused::Refused;
pub(crate) use subject::Subjects;

use crate::accounts::Accounts;
use crate::audit::{Audit, Event, Sort};
use crate::clock;
use crate::config::{Grants, Proof};
use crate::dpop::KeyProof;
use crate::error::{Error, Kind, Result};
use crate::keys::Ring;
use crate::opaque::{self, random};
use crate::peer::Peer;
use crate::rate::Rate;
use crate::secret::Secret;
use crate::sessions::Sessions;
use crate::source::Source;
use crate::token::Audience;
use crate::user_name::UserName;

/// What is asked for, as it came in.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The access token.
    pub(crate) subject_token: Secret,
    /// The key that was proved to be held.
    pub(crate) proof: Option<KeyProof>,
    /// The shim.
    pub(crate) audience: String,
    /// The SHA-256 of the job's launch bytes, in hexadecimal.
    pub(crate) job_sha256: String,
}

/// Gives out warrants.
#[derive(Debug)]
pub(crate) struct Warrants {
    /// Who exchanges tokens.
    pub(crate) grants: Grants,
    /// What they must prove.
    pub(crate) proof: Proof,
    /// The shims for which there are warrants.
    pub(crate) audiences: Vec<String>,
    /// The life of a warrant, in seconds.
    pub(crate) life_s: u64,
    /// How many one user may have in a second.
    pub(crate) per_second: u64,
    /// How many each user had lately.
    pub(crate) given: Rate,
    /// The keys of warrants.
    pub(crate) ring: Ring,
    /// The `iss` claim.
    pub(crate) issuer: String,
    /// The broker's user id.
    pub(crate) broker_uid: u32,
    /// Verifies the tokens.
    pub(crate) subjects: Subjects,
    /// The accounts of this machine.
    pub(crate) accounts: Arc<Accounts>,
    /// The sessions that tokens are part of.
    pub(crate) sessions: Arc<Sessions>,
    /// Where each warrant and each refusal is recorded.
    pub(crate) audit: Audit,
}

impl Warrants {
    /// A warrant for what `exchange` asks, if `peer` may have it.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn exchange(
        &self,
        exchange: Exchange,
        peer: Peer,
        source: Source,
    ) -> Result<WarrantAnswer, Refused> {
        let mut event = Event::new(Sort::Warrant, source);
        let answer = self.answer(exchange, peer, &mut event).await;
        if let Err(refused) = &answer {
            if let Refused::Failed(error) = refused {
                let cause = error.source.as_ref().map(tracing::field::display);
                tracing::error!(%error, cause, "a warrant could not be made");
            }
            self.audit.refused(event, refused.reason());
        }
        answer
    }

    async fn answer(
        &self,
        exchange: Exchange,
        peer: Peer,
        event: &mut Event,
    ) -> Result<WarrantAnswer, Refused> {
        let audience = self.accepted_from(peer)?;
        let job_sha256 = warrant::from_hex::<32>(exchange.job_sha256.as_bytes()).ok_or(
            Refused::Form("job_sha256: 64 lower-case hexadecimal digits are needed"),
        )?;
        event.job_sha256 = Some(exchange.job_sha256);
        if !self.audiences.contains(&exchange.audience) {
            return Err(Refused::Audience);
        }
        event.audience = Some(exchange.audience.clone());
        let now_s = clock::now_s();
        let subject = self
            .subjects
            .verify(exchange.subject_token.expose(), audience, now_s)
            .ok_or(Refused::Subject)?;
        event.subject = Some(subject.sub.clone());
        event.uid = subject.uid;
        if !subject.scope.has(Scope::Submit) {
            return Err(Refused::Scope);
        }
        let uid = self.uid_of(&subject).await?;
        self.possessed(&subject, exchange.proof.as_ref())?;
        if !self.sessions.counts(&subject).await? {
            return Err(Refused::Ended);
        }
        if let Some(proof) = &exchange.proof {
            proof.spend_alone(&self.sessions.db).await?;
        }
        let taken = self
            .given
            .take(&subject.sub, self.per_second, Instant::now());
        taken.map_err(Refused::Rate)?;
        let place = self.audit.place()?;
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: exchange.audience,
            sub: subject.sub.clone(),
            uid,
            job_sha256,
            jti: random()?,
            iat: now_s,
            nbf: now_s,
            exp: now_s.saturating_add(self.life_s),
        };
        let warrant = self.sign(&claims, now_s)?;
        event.jti = Some(warrant::hex(&claims.jti));
        place.granted(event.clone());
        Ok(WarrantAnswer {
            access_token: warrant,
            issued_token_type: WARRANT_URN.into(),
            token_type: "N_A".into(),
            expires_in: self.life_s,
        })
    }

    /// The audience of the tokens that `peer` may exchange.
    fn accepted_from(&self, peer: Peer) -> Result<Audience, Refused> {
        match self.grants {
            Grants::Mediated if peer.is_user(self.broker_uid) => Ok(Audience::Broker),
            Grants::Client if self.gives_to_clients(peer) => Ok(Audience::Authsvc),
            Grants::Mediated | Grants::Client => Err(Refused::Peer),
        }
    }

    /// See that whoever exchanges `subject` holds the key to which it is bound.
    /// For its callers, the broker has seen to that.
    fn possessed(&self, subject: &AccessClaims, proof: Option<&KeyProof>) -> Result<(), Refused> {
        let refused = |why| Err(Refused::Possession(why));
        match (self.grants, &subject.cnf, proof) {
            (Grants::Client, Some(_), None) => refused(Possession::Missing),
            (Grants::Client, None, _) if self.proof == Proof::Dpop => refused(Possession::Missing),
            (_, Some(cnf), Some(proof)) if !opaque::same(&cnf.jkt, &proof.jkt) => {
                refused(Possession::OtherKey)
            }
            (Grants::Client | Grants::Mediated, _, _) => Ok(()),
        }
    }

    /// Whether `peer` may have, and exchange, tokens for [`Audience::Authsvc`]:
    /// where clients get their own warrants, whoever is surely not the broker.
    pub(crate) fn gives_to_clients(&self, peer: Peer) -> bool {
        match self.grants {
            Grants::Mediated => false,
            Grants::Client => peer.is_not_user(self.broker_uid),
        }
    }

    /// The user id of the account that the token is about, if the account is
    /// still the one that logged in.
    async fn uid_of(&self, subject: &AccessClaims) -> Result<u32, Refused> {
        let name = UserName::parse(&subject.sub).map_err(|_| Refused::Subject)?;
        let account = self.accounts.find_recent(&name).await?;
        let account = account.map_err(Refused::Account)?;
        if subject.uid != Some(account.uid) {
            return Err(Refused::OtherAccount);
        }
        Ok(account.uid)
    }

    /// `claims` as a JWS in compact form. Source: RFC 7515 §3.1, RFC 8037 §3.1.
    fn sign(&self, claims: &Claims, now_s: u64) -> Result<String> {
        let no_key = || Error::new(Kind::Unavailable, "there is no key for warrants");
        let key = self.ring.signing(now_s).ok_or_else(no_key)?;
        let payload = claims
            .encode()
            .map_err(|source| Error::unavailable("a warrant cannot be written", source))?;
        let header = URL_SAFE_NO_PAD.encode(warrant::header(&key.kid));
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
        Ok(format!("{message}.{signature}"))
    }
}
