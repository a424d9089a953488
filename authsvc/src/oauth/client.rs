//! Clients, and how they prove who they are.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use warrant_api::oauth::{CERTIFICATE_GRANT, DEVICE_GRANT};
use warrant_api::scope::Scopes;
use warrant_api::token::EXCHANGE_GRANT;
use warrant_migrations::Db;

use super::Refused;
use crate::certificates::{Rule, Shown};
use crate::error::{Error, Kind, Result};
use crate::opaque;
use crate::secret::Secret;
use crate::store::clients;

/// What a client may be registered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Tokens for a user's name and password. Source: RFC 6749 §4.3.
    Password,
    /// Refresh tokens besides. Source: RFC 6749 §6.
    RefreshToken,
    /// Tokens for itself, as its owner. Source: RFC 6749 §4.4.
    ClientCredentials,
    /// Tokens for a code. Source: RFC 6749 §4.1.
    AuthorizationCode,
    /// Tokens for a device. Source: RFC 8628.
    DeviceCode,
    /// Tokens for an ID token. Source: RFC 8693.
    TokenExchange,
    /// Tokens for a user's certificate.
    Certificate,
}

impl Grant {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Password,
        Self::RefreshToken,
        Self::ClientCredentials,
        Self::AuthorizationCode,
        Self::DeviceCode,
        Self::TokenExchange,
        Self::Certificate,
    ];

    /// Its `grant_type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => DEVICE_GRANT,
            Self::TokenExchange => EXCHANGE_GRANT,
            Self::Certificate => CERTIFICATE_GRANT,
        }
    }

    /// The grant called `name`; those with long names also by the last word.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "device_code" => return Some(Self::DeviceCode),
            "token-exchange" => return Some(Self::TokenExchange),
            "certificate" => return Some(Self::Certificate),
            _ => {}
        }
        Self::ALL.into_iter().find(|grant| grant.name() == name)
    }
}

/// A client that may ask for tokens.
#[derive(Clone)]
pub(crate) struct Client {
    /// Its id.
    pub(crate) id: String,
    /// Its name for people.
    pub(crate) label: String,
    /// The user as whom it acts by itself.
    pub(crate) owner: Option<String>,
    /// What its tokens may be used for.
    pub(crate) scopes: Scopes,
    /// Where codes for it may go.
    pub(crate) redirect_uris: Vec<String>,
    /// Whether it gets nothing without a proof of possession. Source: RFC 9449
    /// §5.2, `dpop_bound_access_tokens`.
    pub(crate) dpop: bool,
    grants: Vec<Grant>,
    secret_hash: Option<String>,
    /// What its certificate must say, where it proves itself by one.
    certificate: Option<Rule>,
}

impl fmt::Debug for Client {
    /// Leaves the hash out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Whether it was registered for `grant`.
    pub(crate) fn may(&self, grant: Grant) -> bool {
        self.grants.contains(&grant)
    }

    /// Whether it proves who it is.
    pub(crate) fn is_confidential(&self) -> bool {
        self.secret_hash.is_some() || self.certificate.is_some()
    }

    fn read(row: clients::Row) -> Result<Self> {
        let unknown = || Error::new(Kind::Unavailable, "a client's row holds something unknown");
        let rule = |text: String| Rule::read(&text).ok_or_else(unknown);
        let certificate = row.certificate.map(rule);
        let grants = row.grants.split_whitespace().map(Grant::parse);
        Ok(Self {
            grants: grants.collect::<Option<_>>().ok_or_else(unknown)?,
            scopes: row.scopes.parse().map_err(|_| unknown())?,
            redirect_uris: row.redirect_uris.lines().map(str::to_owned).collect(),
            id: row.id,
            label: row.label,
            dpop: row.dpop,
            owner: row.owner,
            secret_hash: row.secret_hash,
            certificate: certificate.transpose()?,
        })
    }
}

/// The client `id`, unless it is disabled.
///
/// Errors: the database did not answer.
pub(crate) async fn find(db: &Db, id: &str) -> Result<Option<Client>> {
    let row = clients::find(&mut db.read().await?, id).await?;
    let row = row.filter(|row| !row.disabled);
    row.map(Client::read).transpose()
}

/// Who a client says it is.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Its id.
    pub(crate) id: String,
    /// Its secret, where it shows one.
    pub(crate) secret: Option<Secret>,
    /// The certificate of its connection, where it showed one.
    pub(crate) shown: Option<Shown>,
}

impl Claim {
    /// What is in the request: in the `Authorization` header or in the body,
    /// but not in both; `None` where there is nothing. Source: RFC 6749 §2.3.1.
    ///
    /// Errors: it is malformed, or in both places.
    pub(crate) fn read(
        basic: Option<&str>,
        id: Option<String>,
        secret: Option<Secret>,
        shown: Option<Shown>,
    ) -> Result<Option<Self>, Refused> {
        let id = id.filter(|id| !id.is_empty());
        let Some(basic) = basic else {
            return match (id, secret) {
                (None, None) => Ok(None),
                (None, Some(_)) => Err(Refused::Form("client_id: required")),
                (Some(id), secret) => Ok(Some(Self { id, secret, shown })),
            };
        };
        if secret.is_some() {
            return Err(Refused::Form(
                "client_secret: not beside an Authorization header",
            ));
        }
        let claim = Self::of_basic(basic).ok_or(Refused::Client)?;
        let claim = Self { shown, ..claim };
        if id.is_some_and(|id| id != claim.id) {
            return Err(Refused::Form("client_id: not that of the header"));
        }
        Ok(Some(claim))
    }

    fn of_basic(header: &str) -> Option<Self> {
        let (scheme, encoded) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = STANDARD.decode(encoded.trim()).ok()?;
        let decoded = Secret::new(String::from_utf8(decoded).ok()?);
        let (id, secret) = decoded.expose().split_once(':')?;
        // Both are encoded as in a form before they are joined.
        let plain = |text: &str| {
            let pair = format!("a={text}");
            let mut pairs = form_urlencoded::parse(pair.as_bytes());
            pairs.next().map(|(_, value)| value.into_owned())
        };
        Some(Self {
            id: plain(id)?,
            secret: Some(Secret::new(plain(secret)?)),
            shown: None,
        })
    }
}

/// The client that made `claim`, if it is registered, not disabled, and showed
/// its secret or its certificate where it has one.
///
/// Errors: [`Refused::Client`], [`Refused::ClientCertificate`]; the database did not answer.
pub(crate) async fn authenticate(db: &Db, claim: &Claim) -> Result<Client, Refused> {
    let client = find(db, &claim.id).await?.ok_or(Refused::Client)?;
    let shown = claim
        .secret
        .as_ref()
        .filter(|secret| !secret.expose().is_empty());
    let proven = match (&client.certificate, &client.secret_hash, shown) {
        (None, None, None) => true,
        (None, Some(hash), Some(secret)) => opaque::same(hash, &opaque::hash(secret.expose())),
        (Some(rule), None, None) => {
            judge_certificate(rule, claim.shown.as_ref())?;
            true
        }
        (Some(_), Some(_), _)
        | (Some(_), _, Some(_))
        | (None, None, Some(_))
        | (None, Some(_), None) => false,
    };
    proven.then_some(client).ok_or(Refused::Client)
}

/// Whether a certificate was shown, counts and says what it must. Source: RFC
/// 8705 §2.1.
fn judge_certificate(rule: &Rule, shown: Option<&Shown>) -> Result<(), Refused> {
    let shown = shown.ok_or(Refused::ClientCertificate("certificate"))?;
    let named = shown.named().map_err(Refused::ClientCertificate)?;
    match rule.fits(&named) {
        true => Ok(()),
        false => Err(Refused::ClientCertificate("certificate-other")),
    }
}
