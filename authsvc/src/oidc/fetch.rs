//! Questions to a provider: a bounded time, a bounded answer, no redirects, a
//! few at once.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use tokio::sync::Semaphore;
use ureq::Agent;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::config::{self, is_endpoint};
use crate::error::{Error, Kind, Part, Result};
use crate::secret::Secret;

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a question may take with the wait for its turn.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MAX_BYTES: u64 = 256 * 1024;
/// Questions at once.
const PARALLEL: usize = 4;

/// Asks one provider.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    agent: Agent,
    allow_http: bool,
    turns: Arc<Semaphore>,
}

impl Fetcher {
    /// Ask as the settings say.
    ///
    /// Errors: the certificates cannot be read.
    pub(super) fn new(provider: &config::Provider) -> Result<Self> {
        let section = &provider.section;
        let roots = match &provider.ca {
            Some(pem) => RootCerts::Specific(Arc::new(certificates(pem)?)),
            None => RootCerts::PlatformVerifier,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(!section.allow_http)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .accept_encoding("identity")
            .user_agent(concat!("warrant-authsvc/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(32 * 1024)
            .timeout_global(Some(PATIENCE));
        let issuer = section.issuer.parse::<Uri>().ok();
        let here = issuer.is_some_and(|uri| uri.host().is_some_and(config::is_loopback));
        // A proxy cannot reach our own loopback interface.
        let config = if here { config.proxy(None) } else { config };
        Ok(Self {
            agent: config.build().new_agent(),
            allow_http: section.allow_http,
            turns: Arc::new(Semaphore::new(PARALLEL)),
        })
    }

    /// The JSON document at `url`.
    ///
    /// Errors: there is none, it is too large or takes too long.
    pub(super) async fn get(&self, url: &str) -> Result<Vec<u8>> {
        let (agent, at) = (self.agent.clone(), url.to_owned());
        let ask = move || agent.get(&at).header(ACCEPT, "application/json").call();
        match self.ask(url, ask).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => {
                let message = format!("{url} answered {status}");
                Err(Error::new(Kind::Unavailable, message).of(Part::Provider))
            }
        }
    }

    /// The status and body of the answer to `form`, which is a form, with the
    /// client's credentials for HTTP Basic.
    ///
    /// Errors: as [`Fetcher::get`].
    pub(super) async fn post(
        &self,
        url: &str,
        form: Secret,
        basic: Option<Secret>,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let (agent, at) = (self.agent.clone(), url.to_owned());
        let ask = move || {
            let mut request = agent
                .post(&at)
                .header(ACCEPT, "application/json")
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            if let Some(basic) = &basic {
                request = request.header(AUTHORIZATION, format!("Basic {}", basic.expose()));
            }
            request.send(form.expose())
        };
        self.ask(url, ask).await
    }

    async fn ask(
        &self,
        url: &str,
        ask: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> Result<(StatusCode, Vec<u8>)> {
        if !is_endpoint(url, self.allow_http) {
            return Err(Error::invalid("an address of the provider is not allowed"));
        }
        let failed = |source: ureq::Error| {
            Error::unavailable(format!("{url} did not answer as it should"), source)
                .of(Part::Provider)
        };
        let turns = self.turns.clone();
        let asked = tokio::time::timeout(LONGEST, async move {
            let turn = turns
                .acquire_owned()
                .await
                .map_err(|source| Error::unavailable("no provider is asked", source))?;
            tokio::task::spawn_blocking(move || {
                // Held until it has ended, even if nobody waits for it.
                let _turn = turn;
                let mut answer = ask()?;
                let status = answer.status();
                let body = answer.body_mut().with_config().limit(MAX_BYTES);
                Ok((status, body.read_to_vec()?))
            })
            .await
            .map_err(|source| Error::unavailable("a question was cut short", source))
        });
        let late =
            |late| Error::unavailable(format!("{url} took too long"), late).of(Part::Provider);
        asked.await.map_err(late)??.map_err(failed)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(source) => {
                return Err(Error::unavailable("ca_file: cannot be read", source));
            }
        }
    }
    Ok(found)
}
