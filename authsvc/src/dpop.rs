//! Proofs of possession (DPoP): what a request shows of the key to which its
//! token is bound. Source: RFC 9449.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use warrant_dpop::{Base, HEADER, Nonces, Refused, Wanted};
use warrant_migrations::{Db, Tx};

use crate::clock;
use crate::config;
use crate::error::{Error, Result};
use crate::opaque::random;
use crate::store::proofs::{self, Spent};

/// Judges proofs.
#[derive(Debug)]
pub(crate) struct Proofs {
    /// Where clients reach this service: what they make proofs for.
    base: Base,
    /// What must be in each proof, where that is configured.
    nonces: Option<Nonces>,
}

/// A proof that holds; it still has to be used, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyProof {
    /// The thumbprint of its key.
    pub(crate) jkt: String,
    mark: String,
    ends_us: i64,
}

/// Why a proof was not used.
#[derive(Debug)]
pub(crate) enum Unspent {
    /// It was used before.
    Again,
    /// There is no room to remember more.
    Full,
    /// The database did not answer.
    Failed(Error),
}

impl Proofs {
    /// As configured. The secret of the nonces is kept in the database, so that
    /// all processes know them.
    ///
    /// Errors: `oauth.url` is none; the database did not answer.
    pub(crate) async fn open(config: &config::OAuth, db: &Db) -> Result<Self> {
        let base = Base::parse(&config.url)
            .ok_or_else(|| Error::invalid("oauth.url: not an address that clients can reach"))?;
        let nonces = match config.dpop_nonce {
            true => Some(Nonces::new(secret(db).await?)),
            false => None,
        };
        Ok(Self { base, nonces })
    }

    /// The proof of a request to the route at `path`, if it shows one. With
    /// `token`, an access token that goes with the request.
    ///
    /// Errors: what it shows does not count.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        method: &str,
        path: &str,
        token: Option<&str>,
    ) -> std::result::Result<Option<KeyProof>, Refused> {
        let at = self.base.at(path).ok_or(Refused::Address)?;
        let now_s = clock::now_s();
        let wanted = Wanted {
            method,
            at: &at,
            token,
            now_s,
        };
        let values = headers.get_all(HEADER).iter();
        let proof = warrant_dpop::check(values.map(|value| value.as_bytes()), &wanted)?;
        let Some(proof) = proof else {
            return Ok(None);
        };
        if let Some(nonces) = &self.nonces
            && !proof.nonce().is_some_and(|nonce| nonces.has(nonce, now_s))
        {
            return Err(Refused::Nonce);
        }
        Ok(Some(KeyProof {
            jkt: proof.jkt().to_owned(),
            mark: URL_SAFE_NO_PAD.encode(proof.mark()),
            ends_us: i64::try_from(proof.ends_s())
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000_000),
        }))
    }

    /// The nonce to be told clients that prove something, where one is needed.
    pub(crate) fn nonce(&self) -> Option<String> {
        let nonces = self.nonces.as_ref()?;
        Some(nonces.current(clock::now_s()))
    }
}

impl KeyProof {
    /// Use the proof, in the transaction that gives what it is shown for.
    ///
    /// Errors: [`Unspent`].
    pub(crate) async fn spend(&self, tx: &mut Tx) -> std::result::Result<(), Unspent> {
        let spent = proofs::spend(tx, &self.mark, self.ends_us, proofs::MOST).await;
        match spent.map_err(|error| Unspent::Failed(error.into()))? {
            Spent::First => Ok(()),
            Spent::Again => Err(Unspent::Again),
            Spent::Full => {
                tracing::error!("there is no room to remember more proofs of possession");
                Err(Unspent::Full)
            }
        }
    }

    /// As [`KeyProof::spend`], where nothing is written besides.
    ///
    /// Errors: [`Unspent`].
    pub(crate) async fn spend_alone(&self, db: &Db) -> std::result::Result<(), Unspent> {
        let failed = |error: warrant_migrations::Error| Unspent::Failed(error.into());
        let mut tx = db.begin().await.map_err(failed)?;
        self.spend(&mut tx).await?;
        tx.commit().await.map_err(failed)
    }
}

async fn secret(db: &Db) -> Result<[u8; 32]> {
    let fresh = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let mut tx = db.begin().await?;
    let kept = proofs::keep_secret(&mut tx, &fresh).await?;
    tx.commit().await?;
    let bytes = URL_SAFE_NO_PAD.decode(kept).unwrap_or_default();
    let damaged = |_| Error::invalid("the secret in dpop_secret is damaged: delete its row");
    bytes.try_into().map_err(damaged)
}
