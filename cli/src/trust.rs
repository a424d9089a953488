//! Whose certificates we believe, and the one that we show.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::{CertificateError, Error as TlsError};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::failure::Failure;

/// Whose certificates we believe, and the one that we show.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    roots: RootCerts,
    own: Option<ClientCert>,
    blind: bool,
}

impl Default for Trust {
    /// The machine's own authorities; we show nothing.
    fn default() -> Self {
        Self {
            roots: RootCerts::PlatformVerifier,
            own: None,
            blind: false,
        }
    }
}

impl Trust {
    /// Believe whoever answers: for a question that holds no secret, where
    /// nothing hangs on the answer.
    pub(crate) fn anybody() -> Self {
        Self {
            blind: true,
            ..Self::default()
        }
    }

    /// Believe the authorities in the file at `path` besides the machine's.
    ///
    /// Errors: `Refused` where there are none.
    pub(crate) fn with_ca_file(self, path: &Path) -> Result<Self, Failure> {
        let mut all = certificates(path, "the file of authorities")?;
        // A machine without authorities of its own is none the worse for it.
        let machine = rustls_native_certs::load_native_certs().certs;
        all.extend(
            machine
                .iter()
                .map(|der| Certificate::from_der(der).to_owned()),
        );
        Ok(Self {
            roots: RootCerts::new_with_certs(&all),
            ..self
        })
    }

    /// Show the certificate at `certificate` with the key at `key`.
    ///
    /// Errors: `Refused` where they cannot be used, or others may read the key.
    pub(crate) fn showing(self, certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let chain = certificates(certificate, "the certificate")?;
        let wrong = |why: &str| Failure::Refused(format!("the key {key:?} {why}"));
        let unreadable = |error| wrong(&format!("cannot be read: {error}"));
        let mode = fs::metadata(key).map_err(unreadable)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(wrong(&format!(
                "has mode {mode:04o}; nobody else may read it: chmod 600"
            )));
        }
        let pem = fs::read(key).map_err(unreadable)?;
        let key = PrivateKey::from_pem(&pem)
            .map_err(|_| wrong("holds no private key in PEM without a passphrase"))?;
        Ok(Self {
            own: Some(ClientCert::new_with_certs(&chain, key)),
            ..self
        })
    }

    /// As the HTTP library takes it.
    pub(crate) fn config(&self) -> TlsConfig {
        TlsConfig::builder()
            .root_certs(self.roots.clone())
            .client_cert(self.own.clone())
            .disable_verification(self.blind)
            .build()
    }
}

fn certificates(path: &Path, what: &str) -> Result<Vec<Certificate<'static>>, Failure> {
    let wrong = |why: String| Failure::Refused(format!("{what} {path:?} {why}"));
    let pem = fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            Ok(_) | Err(_) => None,
        })
        .collect();
    if found.is_empty() {
        return Err(wrong("holds no certificates in PEM".to_owned()));
    }
    Ok(found)
}

/// What is wrong with TLS, in plain words; `None` where it is something else.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library's errors, most of which are told apart nowhere"
)]
pub(crate) fn explain(error: &ureq::Error) -> Option<String> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<TlsError>()?,
        _ => return None,
    };
    let text = match error {
        TlsError::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: is this machine's clock right?"
            }
            CertificateError::UnknownIssuer => {
                "its certificate is of an authority that this machine does not know; if you do, \
                 name the authority's file with --ca-file"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name than this address has"
            }
            CertificateError::Revoked => "its certificate was revoked",
            _ => return Some(format!("its certificate cannot be believed ({why})")),
        },
        TlsError::InvalidMessage(_) => "it does not speak TLS: is it http:// and not https://?",
        TlsError::AlertReceived(_) => "it refused the connection, or the certificate we showed",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;

    fn refused(result: Result<Trust, Failure>) -> String {
        match result {
            Err(Failure::Refused(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_that_hold_nothing_of_use_are_named() {
        let scratch = Scratch::new();
        let file = scratch.path("file.pem");
        std::fs::write(&file, "nothing").unwrap();
        let message = refused(Trust::default().with_ca_file(&file));
        assert!(message.contains("holds no certificates"), "{message}");
        let message = refused(Trust::default().with_ca_file(&scratch.path("none")));
        assert!(message.contains("cannot be read"), "{message}");
    }

    #[test]
    fn a_key_that_others_may_read_is_not_shown() {
        let scratch = Scratch::new();
        let own = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap();
        let (certificate, key) = (scratch.path("c.pem"), scratch.path("k.pem"));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&key, mode).unwrap();
        };
        mode(0o640);
        let message = refused(Trust::default().showing(&certificate, &key));
        assert!(message.contains("has mode 0640"), "{message}");
        mode(0o600);
        assert!(Trust::default().showing(&certificate, &key).is_ok());
        assert!(
            Trust::default()
                .showing(&certificate, &certificate)
                .is_err()
        );
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_in_plain_words() {
        let told = |why| explain(&ureq::Error::Rustls(TlsError::InvalidCertificate(why)));
        assert_eq!(
            told(CertificateError::Expired).as_deref(),
            Some("its certificate has expired")
        );
        let unknown = told(CertificateError::UnknownIssuer).unwrap();
        assert!(unknown.contains("--ca-file"), "{unknown}");
        let io = std::io::Error::other(TlsError::InvalidCertificate(CertificateError::Revoked));
        assert!(explain(&ureq::Error::Io(io)).is_some());
        assert_eq!(explain(&ureq::Error::HostNotFound), None);
    }
}
