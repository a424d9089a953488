//! The settings of TLS and of the certificates of clients.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use warrant_door::tls::{ClientFiles, Files};

use super::Config;
use crate::certificates::{From, Users};
use crate::error::{Error, Result};

/// TLS on the TCP address.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    /// The certificate in PEM, and those between it and its root.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key in PEM, which its owner alone may read.
    pub(crate) key: Option<PathBuf>,
    /// The authorities whose certificates clients may show.
    pub(crate) client_ca: Option<PathBuf>,
    /// What these authorities have revoked.
    pub(crate) client_crl: Option<PathBuf>,
}

impl Tls {
    /// The files, where TLS is on.
    pub(crate) fn files(&self) -> Option<Files> {
        let (certificate, key) = self.certificate.clone().zip(self.key.clone())?;
        let crl = self.client_crl.clone();
        Some(Files {
            certificate,
            key,
            client: self.client_ca.clone().map(|ca| ClientFiles { ca, crl }),
        })
    }
}

/// Users who log in by certificate.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Certificates {
    /// Which part of a certificate says whose it is; nobody logs in so where
    /// it is unset.
    pub(crate) from: Option<From>,
    /// The users, by that part.
    pub(crate) users: BTreeMap<String, String>,
}

impl Config {
    /// Check what is set for TLS and for certificates.
    ///
    /// Errors: a value is not allowed; the message names the key.
    pub(super) fn check_tls(&self) -> Result<()> {
        let tls = &self.listen.tls;
        let wrong = |text: &str| Err(Error::invalid(text));
        if tls.certificate.is_some() != tls.key.is_some() {
            return wrong("listen.tls.certificate and listen.tls.key: both are needed, or neither");
        }
        let on = tls.key.is_some();
        if tls.client_ca.is_some() && !on {
            return wrong("listen.tls.client_ca: needs listen.tls.certificate");
        }
        if tls.client_ca.is_some() && self.listen.tcp.is_none() {
            return wrong("listen.tls.client_ca: needs listen.tcp, the address that it is for");
        }
        if tls.client_crl.is_some() && tls.client_ca.is_none() {
            return wrong("listen.tls.client_crl: needs listen.tls.client_ca");
        }
        if on && !self.oauth.url.starts_with("https://") {
            return wrong("oauth.url: must begin with https:// where listen.tls is set");
        }
        match &self.oauth.mtls_url {
            Some(_) if tls.client_ca.is_none() => {
                wrong("oauth.mtls_url: needs listen.tls.client_ca")
            }
            Some(url) if !url.starts_with("https://") => {
                wrong("oauth.mtls_url: must begin with https://")
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The users of certificates, where users log in so.
    ///
    /// Errors: a value is not allowed; the message names the key.
    pub(super) fn certificate_users(&self) -> Result<Option<Users>> {
        let Certificates { from, users } = &self.certificates;
        match from {
            None if users.is_empty() => Ok(None),
            None => Err(Error::invalid(
                "certificates.from: is needed with certificates.users",
            )),
            Some(_) if self.listen.tls.client_ca.is_none() => Err(Error::invalid(
                "certificates.from: needs listen.tls.client_ca",
            )),
            Some(from) => Users::new(*from, users).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(config: &mut Config) {
        config.listen.tcp = Some("127.0.0.1:5001".parse().unwrap());
        config.listen.tls.certificate = Some("/c.pem".into());
        config.listen.tls.key = Some("/k.pem".into());
        config.oauth.url = "https://jobs.example.org".into();
    }

    #[test]
    fn a_setting_that_lacks_another_is_named() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 9] = [
            ("listen.tls.certificate and", |config| {
                config.listen.tls.key = None
            }),
            ("listen.tls.certificate and", |config| {
                config.listen.tls.certificate = None;
            }),
            ("listen.tls.client_ca: needs listen.tcp", |config| {
                config.listen.tls.client_ca = Some("/a.pem".into());
                config.listen.tcp = None;
            }),
            ("oauth.url: must begin with https", |config| {
                config.oauth.url = "http://jobs.example.org".into();
            }),
            ("listen.tls.client_crl", |config| {
                config.listen.tls.client_crl = Some("/r.pem".into());
            }),
            ("listen.tls.client_ca", |config| {
                config.listen.tls = Tls {
                    client_ca: Some("/a.pem".into()),
                    ..Tls::default()
                };
            }),
            ("oauth.mtls_url: needs", |config| {
                config.oauth.mtls_url = Some("https://a".into());
            }),
            ("oauth.mtls_url: must", |config| {
                config.listen.tls.client_ca = Some("/a.pem".into());
                config.oauth.mtls_url = Some("http://a".into());
            }),
            ("certificates.from: needs", |config| {
                config.certificates.from = Some(From::Cn);
            }),
        ];
        for (starts, change) in cases {
            let mut config = Config::default();
            on(&mut config);
            config.check_tls().unwrap();
            change(&mut config);
            let checked = config
                .check_tls()
                .and(config.certificate_users().map(|_| ()));
            let message = checked.unwrap_err().message;
            assert!(message.starts_with(starts), "{starts}: {message}");
        }
        Config::default().check_tls().unwrap();
    }

    #[test]
    fn a_subject_that_stands_there_twice_in_two_spellings_is_refused() {
        let mut config = Config::default();
        on(&mut config);
        config.listen.tls.client_ca = Some("/a.pem".into());
        config.certificates.from = Some(From::Subject);
        let message = config.certificate_users().unwrap_err().message;
        assert!(
            message.starts_with("certificates.users: is needed"),
            "{message}"
        );
        let users = &mut config.certificates.users;
        users.insert("CN=Ann,O=Example".into(), "ann".into());
        assert!(config.certificate_users().unwrap().is_some());
        let users = &mut config.certificates.users;
        users.insert("cn = ANN , o = \\45xample".into(), "bob".into());
        let message = config.certificate_users().unwrap_err().message;
        assert!(message.contains("twice"), "{message}");
        config.certificates.users.clear();
        config.certificates.users.insert("CN".into(), "bob".into());
        assert!(config.certificate_users().is_err());
    }
}
