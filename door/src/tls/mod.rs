//! TLS for whoever connects: the files it takes, checked; kept in step with
//! what is on disk; and the handshake, with a bound on how long it may take.
//!
//! TLS 1.3 and 1.2 with the library's own choice of algorithms, and HTTP/1.1
//! alone: what is read along of requests is that of HTTP/1.1.

mod accept;
mod client;
mod files;
mod load;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

pub use accept::{HANDSHAKE, NotAccepted, TlsStream};
pub use client::reason;
pub use files::{ClientFiles, Files};

/// What is sent with every answer over TLS: browsers then come by TLS alone,
/// for a year. Source: RFC 6797 §6.1.
pub const STRICT_TRANSPORT: http::HeaderValue = http::HeaderValue::from_static("max-age=31536000");

/// Why TLS cannot be used as it is configured; names the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub(crate) String);

/// A client's certificate chain as it was shown, its own certificate first.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// TLS as the files on disk have it.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    current: RwLock<Arc<Loaded>>,
}

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Loaded {
    config: Arc<ServerConfig>,
    /// Judges the certificates of clients, where they may have some.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// When the certificate ends, in seconds since the Unix epoch.
    ends_s: i64,
    /// Of the bytes of all files.
    digest: [u8; 32],
}

impl Tls {
    /// Read and check `files`.
    ///
    /// Errors: a file cannot be read, is open to others, or does not fit; the
    /// message names the setting.
    pub fn open(files: Files) -> Result<Arc<Self>, Error> {
        let loaded = load::load(&files, &files.read()?)?;
        watch::warn_of_end(&files, &loaded);
        Ok(Arc::new(Self {
            files,
            current: RwLock::new(Arc::new(loaded)),
        }))
    }

    /// Whether clients may show certificates.
    pub fn asks_clients(&self) -> bool {
        self.files.client.is_some()
    }

    /// Whether the chain that a client showed counts now. It did when it was
    /// shown; since then it may have expired or been revoked.
    ///
    /// Errors: why it does not.
    pub fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let current = self.current();
        let none = rustls::Error::NoCertificatesPresented;
        match (&current.clients, chain.split_first()) {
            (Some(clients), Some((own, above))) => clients
                .verify_client_cert(own, above, UnixTime::now())
                .map(|_| ()),
            (None, _) | (_, None) => Err(none),
        }
    }

    fn current(&self) -> Arc<Loaded> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn replace(&self, loaded: Loaded) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }
}
