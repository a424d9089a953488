//! Who judges logins, and in which order they are asked.

use serde::{Deserialize, Deserializer};

use super::Config;
use crate::error::{Error, Result};

/// How users prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Nobody has to; no tokens are given.
    None,
    /// By user name and password.
    Database,
    /// As `database`, and there must be a shared secret.
    SharedSecret,
    /// By the name and password of an account of this machine.
    Pam,
    /// By an ID token of an OpenID provider.
    Oidc,
}

impl Backend {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Database,
        Self::SharedSecret,
        Self::Pam,
        Self::Oidc,
    ];

    /// The name that the configuration and `GET /v1/auth` use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Database => "database",
            Self::SharedSecret => "shared-secret",
            Self::Pam => "pam",
            Self::Oidc => "oidc",
        }
    }

    /// Whether it judges passwords.
    fn knows_passwords(self) -> bool {
        match self {
            Self::Database | Self::SharedSecret | Self::Pam => true,
            Self::None | Self::Oidc => false,
        }
    }

    /// The backend called `name`.
    ///
    /// Errors: there is none; the text says which there are.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|backend| backend.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{name:?} is none of {names}")
        })
    }

    /// The backends called `names`, with commas between.
    ///
    /// Errors: as [`Backend::parse`].
    pub(super) fn parse_list(names: &str) -> Result<Vec<Self>, String> {
        names
            .split(',')
            .map(|name| Self::parse(name.trim()))
            .collect()
    }
}

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

/// The backends in the order in which they are asked; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backends(Vec<Backend>);

impl Backends {
    /// What is configured, where there is a shared secret or none; whoever
    /// `serves` must have it where it is needed.
    ///
    /// Errors: backends that do not go together, or that lack something.
    pub(super) fn resolve(config: &Config, has_secret: bool, serves: bool) -> Result<Self> {
        let backends = match (config.backend, config.backends.as_slice()) {
            (Some(_), [_, ..]) => {
                return Err(Error::invalid(
                    "backend, backends: one of the two is to be set",
                ));
            }
            (Some(backend), []) => vec![backend],
            (None, []) if has_secret => vec![Backend::SharedSecret],
            (None, []) => vec![Backend::Database],
            (None, backends) => backends.to_vec(),
        };
        let backends = Self(backends);
        let has = |backend| backends.has(backend);
        let wrong = |why: &str| Err(Error::invalid(format!("backends: {why}")));
        if has(Backend::None) && backends.0.len() > 1 {
            return wrong("none stands alone");
        }
        if has(Backend::Database) && has(Backend::SharedSecret) {
            return wrong("shared-secret is database with a secret; one of the two is enough");
        }
        let twice = |at: usize| {
            backends
                .0
                .iter()
                .skip(at + 1)
                .any(|b| Some(b) == backends.0.get(at))
        };
        if (0..backends.0.len()).any(twice) {
            return wrong("each once");
        }
        if serves && has(Backend::SharedSecret) && !has_secret {
            return Err(Error::invalid(
                "the shared-secret backend needs a secret: set FLUX_SECRET_KEY or shared_secret_file",
            ));
        }
        match (has(Backend::Oidc), config.oidc.is_empty()) {
            (true, true) => wrong("oidc needs a provider: a section [[oidc]], or FLUX_OIDC_ISSUER"),
            (false, false) => {
                wrong("there is a section [[oidc]] or FLUX_OIDC_…, but oidc is not among them")
            }
            (true, false) | (false, true) => Ok(backends),
        }
    }

    /// Whether `backend` is one of them.
    pub(crate) fn has(&self, backend: Backend) -> bool {
        self.0.contains(&backend)
    }

    /// Whether passwords are kept in the database.
    pub(crate) fn stores_passwords(&self) -> bool {
        self.has(Backend::Database) || self.has(Backend::SharedSecret)
    }

    /// Whether a user name and a password are accepted.
    pub(crate) fn take_passwords(&self) -> bool {
        self.0.iter().any(|backend| backend.knows_passwords())
    }

    /// Whether tokens are given.
    pub(crate) fn give_tokens(&self) -> bool {
        !self.has(Backend::None)
    }

    /// In their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Backend> {
        self.0.iter().copied()
    }

    /// The name of the first: what `GET /v1/auth` calls the backend.
    pub(crate) fn first_name(&self) -> &'static str {
        self.0.first().map_or("none", |backend| backend.name())
    }

    /// Their names, with commas between.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.iter().map(Backend::name).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(names: &str, has_secret: bool) -> Result<String, String> {
        let mut config = Config {
            backends: Backend::parse_list(names).unwrap(),
            ..Config::default()
        };
        if names.contains("oidc") {
            config.oidc = super::super::oidc::example();
        }
        let backends = Backends::resolve(&config, has_secret, true);
        backends.map(|b| b.names()).map_err(|error| error.message)
    }

    #[test]
    fn backends_keep_their_order() {
        for names in ["pam", "pam, database", "database, pam, oidc", "oidc"] {
            assert_eq!(resolve(names, false).unwrap(), names);
        }
    }

    #[test]
    fn backends_that_do_not_go_together_are_refused() {
        for (names, why) in [
            ("none, pam", "none stands alone"),
            ("database, shared-secret", "one of the two"),
            ("pam, pam", "each once"),
            ("pam, shared-secret", "FLUX_SECRET_KEY"),
        ] {
            let message = resolve(names, false).unwrap_err();
            assert!(message.contains(why), "{names}: {message}");
        }
    }

    #[test]
    fn oidc_and_its_providers_come_together() {
        let with_provider = Config {
            oidc: super::super::oidc::example(),
            ..Config::default()
        };
        let without = Config {
            backends: vec![Backend::Oidc],
            ..Config::default()
        };
        for config in [with_provider, without] {
            let message = Backends::resolve(&config, false, true).unwrap_err().message;
            assert!(message.contains("[[oidc]]"), "{message}");
        }
    }

    #[test]
    fn backend_and_backends_are_not_both_set() {
        let config = Config {
            backend: Some(Backend::Pam),
            backends: vec![Backend::Database],
            ..Config::default()
        };
        let message = Backends::resolve(&config, false, true).unwrap_err().message;
        assert!(message.starts_with("backend, backends:"), "{message}");
    }
}
