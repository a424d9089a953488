//! A certificate that was shown, and what it says.

use std::fmt;
use std::sync::Arc;

use warrant_door::tls::{Chain, Tls, reason};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::name::{COMMON_NAME, Name, values};

/// The chain that a client showed over its connection.
#[derive(Clone)]
pub(crate) struct Shown {
    chain: Chain,
    tls: Arc<Tls>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// Whom a certificate names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its subject, where it has one.
    pub(crate) subject: Option<Name>,
    /// The common names in the subject, as they stand.
    pub(crate) common_names: Vec<String>,
    /// Names of hosts.
    pub(crate) dns: Vec<String>,
    /// Addresses.
    pub(crate) uris: Vec<String>,
    /// Addresses of electronic mail.
    pub(crate) emails: Vec<String>,
}

impl Shown {
    /// What was shown over a connection of `tls`.
    pub(crate) fn new(chain: Chain, tls: Arc<Tls>) -> Self {
        Self { chain, tls }
    }

    /// Whom the certificate names, if it counts now: connections may be older
    /// than the end of a certificate.
    ///
    /// Errors: why it does not count, in one stable word.
    pub(crate) fn named(&self) -> Result<Named, &'static str> {
        let bad = "certificate-invalid";
        self.tls
            .judge(&self.chain)
            .map_err(|error| reason(&error).unwrap_or(bad))?;
        let own = self.chain.first().ok_or(bad)?;
        Named::read(own).ok_or(bad)
    }
}

impl Named {
    /// What the certificate in `der` says.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let subject = certificate.subject();
        let mut named = Self {
            subject: Name::of(subject),
            common_names: values(subject, COMMON_NAME),
            ..Self::default()
        };
        if let Some(others) = certificate.subject_alternative_name().ok()? {
            for other in &others.value.general_names {
                match other {
                    GeneralName::DNSName(name) => named.dns.push((*name).to_owned()),
                    GeneralName::RFC822Name(name) => named.emails.push((*name).to_owned()),
                    GeneralName::URI(name) => named.uris.push((*name).to_owned()),
                    GeneralName::OtherName(..)
                    | GeneralName::X400Address(_)
                    | GeneralName::DirectoryName(_)
                    | GeneralName::EDIPartyName(_)
                    | GeneralName::IPAddress(_)
                    | GeneralName::RegisteredID(_)
                    | GeneralName::Invalid(..) => {}
                }
            }
        }
        Some(named)
    }
}

/// An address of electronic mail as it is compared: the host in lower case.
/// Source: RFC 5280 §7.5.
pub(super) fn normal_email(email: &str) -> String {
    match email.rsplit_once('@') {
        Some((user, host)) => format!("{user}@{}", host.to_ascii_lowercase()),
        None => email.to_owned(),
    }
}
