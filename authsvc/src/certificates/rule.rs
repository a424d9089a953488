//! What the certificate of a client must say. Source: RFC 8705 §2.1.2.

use std::fmt;

use super::shown::normal_email;
use super::{Name, Named};

/// The longest name of a host, an address or a mail address, in bytes.
const LONGEST: usize = 1024;

/// What the certificate of a client must say: one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// This subject; and how it was written.
    Subject(Name, String),
    /// The name of this host.
    Dns(String),
    /// This address.
    Uri(String),
    /// This mail address.
    Email(String),
}

impl Rule {
    /// That the subject is `text`.
    ///
    /// Errors: what is wrong with it.
    pub(crate) fn subject(text: &str) -> Result<Self, &'static str> {
        Ok(Self::Subject(Name::parse(text)?, text.to_owned()))
    }

    /// That `text` is the name of a host, or one of them.
    ///
    /// Errors: it is none.
    pub(crate) fn dns(text: &str) -> Result<Self, &'static str> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(plain) {
            return Err("must be the name of a host, in ASCII and without *");
        }
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }

    /// That `text` is its address, or one of them.
    ///
    /// Errors: it is none.
    pub(crate) fn uri(text: &str) -> Result<Self, &'static str> {
        if !is_word(text) || !text.contains(':') {
            return Err("must be an address such as spiffe://example.org/job");
        }
        Ok(Self::Uri(text.to_owned()))
    }

    /// That `text` is its mail address, or one of them.
    ///
    /// Errors: it is none.
    pub(crate) fn email(text: &str) -> Result<Self, &'static str> {
        if !is_word(text) || !text.contains('@') {
            return Err("must be a mail address");
        }
        Ok(Self::Email(normal_email(text)))
    }

    /// The rule that [`Rule`]'s text stands for; `None` if it is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once(':')?;
        let rule = match kind {
            "subject" => Self::subject(value),
            "san-dns" => Self::dns(value),
            "san-uri" => Self::uri(value),
            "san-email" => Self::email(value),
            _ => return None,
        };
        rule.ok()
    }

    /// Whether a certificate that names `named` is meant.
    pub(crate) fn fits(&self, named: &Named) -> bool {
        match self {
            Self::Subject(subject, _) => named.subject.as_ref() == Some(subject),
            Self::Dns(host) => named.dns.iter().any(|dns| dns.eq_ignore_ascii_case(host)),
            Self::Uri(address) => named.uris.contains(address),
            Self::Email(mail) => named
                .emails
                .iter()
                .any(|other| normal_email(other) == *mail),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = match self {
            Self::Subject(_, written) => ("subject", written),
            Self::Dns(value) => ("san-dns", value),
            Self::Uri(value) => ("san-uri", value),
            Self::Email(value) => ("san-email", value),
        };
        write!(f, "{kind}:{value}")
    }
}

fn is_word(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
