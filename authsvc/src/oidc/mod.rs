//! Users whom OpenID providers prove: by an ID token that a program shows, or
//! by a sign-in in the browser. Source: OpenID Connect Core 1.0, OpenID Connect
//! Discovery 1.0, RFC 8693, RFC 7636, RFC 9207.

mod cached;
mod claims;
mod discovery;
mod exchange;
mod fetch;
mod id_token;
mod identity;
mod keys;
mod provider;
mod sign_in;

use std::sync::Arc;

use warrant_api::token::OidcInfo;
use warrant_migrations::Db;

pub(crate) use provider::Provider;
pub(crate) use sign_in::{Begun, Completed, LIFE_S, Returned};

use crate::audit::Audit;
use crate::config;
use crate::error::Result;
use crate::sessions::Sessions;
use crate::throttle::Throttle;

/// The providers, and what they prove.
#[derive(Debug)]
pub(crate) struct Oidc {
    providers: Vec<Provider>,
    db: Db,
    sessions: Arc<Sessions>,
    audit: Audit,
    /// What is borne of whom shows tokens that do not count.
    shown: Throttle,
    /// Where users reach this server.
    url: String,
}

impl Oidc {
    /// With these providers. Nothing is asked of them before somebody comes.
    ///
    /// Errors: certificates cannot be read.
    pub(crate) fn new(
        providers: Vec<config::Provider>,
        url: &str,
        db: Db,
        sessions: Arc<Sessions>,
        audit: Audit,
    ) -> Result<Self> {
        let providers = providers.into_iter().map(Provider::new);
        Ok(Self {
            providers: providers.collect::<Result<_>>()?,
            db,
            sessions,
            audit,
            shown: Throttle::default(),
            url: url.to_owned(),
        })
    }

    /// What `GET /v1/auth` says of them.
    pub(crate) fn advertised(&self) -> Option<OidcInfo> {
        self.providers.iter().find_map(|provider| {
            let section = provider.section();
            Some(OidcInfo {
                issuer: section.issuer.clone(),
                audience: section.audience.first()?.clone(),
            })
        })
    }

    /// Whether ID tokens are exchanged.
    pub(crate) fn exchanges(&self) -> bool {
        self.advertised().is_some()
    }

    /// Those with which users can sign in in the browser: name and label.
    pub(crate) fn ways_in(&self) -> impl Iterator<Item = (&str, &str)> {
        let sections = self.providers.iter().map(Provider::section);
        let browser = sections.filter(|section| !section.client_id.is_empty());
        browser.map(|section| (section.name.as_str(), section.label()))
    }
}
