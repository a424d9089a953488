//! One provider: its settings, what it says of itself, its keys.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cached::{Cached, Times};
use super::claims::{Claims, Expected};
use super::discovery::{self, Discovery};
use super::fetch::Fetcher;
use super::id_token::{Reason, Unproven};
use super::keys::{Key, Keys, Signed};
use crate::config::{self, Section};
use crate::error::{Error, Result};
use crate::oauth::Refused;

/// How long the description of a provider is kept.
const DISCOVERY: Times = Times {
    fresh: Duration::from_secs(3600),
    stale: Duration::from_secs(24 * 3600),
    rest: Duration::from_secs(5),
};
/// How long its keys are kept. A key that it withdrew counts no more after
/// `fresh` or, where it cannot be asked, `stale`.
const KEYS: Times = Times {
    fresh: Duration::from_secs(600),
    stale: Duration::from_secs(3600),
    rest: Duration::from_secs(30),
};

/// An OpenID provider.
#[derive(Debug)]
pub(crate) struct Provider {
    /// Its settings.
    pub(super) config: config::Provider,
    /// Asks it.
    pub(super) fetcher: Fetcher,
    discovery: Cached<Discovery>,
    keys: Cached<Keys>,
}

impl Provider {
    /// With these settings.
    ///
    /// Errors: the certificates cannot be read.
    pub(super) fn new(config: config::Provider) -> Result<Self> {
        Ok(Self {
            fetcher: Fetcher::new(&config)?,
            config,
            discovery: Cached::new(DISCOVERY),
            keys: Cached::new(KEYS),
        })
    }

    /// Its settings as the file says them.
    pub(super) fn section(&self) -> &Section {
        &self.config.section
    }

    /// What it says of itself.
    ///
    /// Errors: it does not, or says what cannot be.
    pub(super) async fn discovery(&self) -> Result<Arc<Discovery>> {
        let section = self.section();
        let fetch = async || {
            let address = discovery::address(&section.issuer);
            let document = self.fetcher.get(&address).await?;
            Discovery::read(&document, &section.issuer, section.allow_http)
        };
        self.discovery.get(Instant::now(), |_| true, fetch).await
    }

    /// The key for what names `kid` and is signed so.
    ///
    /// Errors: the provider did not answer.
    async fn key(&self, kid: Option<&str>, signed: Signed) -> Result<Option<Key>> {
        let fetch = async || {
            let address = match &self.section().jwks_url {
                Some(address) => address.clone(),
                None => self.discovery().await?.jwks_uri.clone(),
            };
            Keys::read(&self.fetcher.get(&address).await?)
        };
        let wanted = |keys: &Keys| keys.find(kid, signed).is_some();
        let keys = self.keys.get(Instant::now(), wanted, fetch).await?;
        Ok(keys.find(kid, signed).cloned())
    }

    /// What the ID token `unproven` says, if it is this provider's and says
    /// what is expected.
    ///
    /// Errors: [`Refused::Proof`]; the provider did not answer.
    pub(super) async fn verify(
        &self,
        unproven: Unproven<'_>,
        expected: &Expected<'_>,
    ) -> Result<Claims, Refused> {
        // Cheap to see, and nothing is fetched for it.
        if unproven.issuer() != Some(&self.section().issuer) {
            return Err(Refused::Proof("id-token-issuer"));
        }
        let key = self.key(unproven.kid.as_deref(), unproven.signed).await?;
        let key = key.ok_or(Refused::Proof("id-token-key"))?;
        let checked = || -> Result<Claims, Reason> {
            let claims = unproven.proven(&key)?;
            claims.check(expected)?;
            Ok(claims)
        };
        checked().map_err(Refused::Proof)
    }
}

/// A provider that answers what it must not.
pub(super) fn unreadable(what: &str) -> Error {
    Error::invalid(format!("the OpenID provider's answer {what}"))
}
