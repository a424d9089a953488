//! From the bytes of the files to what serves connections.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error as TlsError, RootCertStore, ServerConfig, version};
use x509_parser::prelude::{FromDer, Validity, X509Certificate};

use super::files::Contents;
use super::{Error, Files, Loaded};

/// Certificates in one file.
const MOST: usize = 256;

/// Make of `contents`, the bytes of `files`, what serves connections.
///
/// Errors: something in them does not fit; names the setting.
pub(super) fn load(files: &Files, contents: &Contents) -> Result<Loaded, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (certified, ends_s) = pair(files, contents, &provider)?;
    let clients = clients(files, contents, &provider)?;
    let failed = |source: TlsError| files.certificate_error(&format!("cannot be used: {source}"));
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(failed)?;
    let builder = match &clients {
        Some(clients) => builder.with_client_cert_verifier(clients.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if clients.is_some() {
        // A session that is taken up again is not judged again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Loaded {
        config: Arc::new(config),
        clients,
        ends_s,
        digest: contents.digest(),
    })
}

/// The certificate with its key, and when it ends.
fn pair(
    files: &Files,
    contents: &Contents,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, i64), Error> {
    let chain = certificates(&contents.certificate)
        .ok_or_else(|| files.certificate_error("holds no certificates in PEM"))?;
    let own = chain
        .first()
        .and_then(validity)
        .ok_or_else(|| files.certificate_error("holds a certificate that cannot be read"))?;
    let (begins_s, ends_s) = (own.not_before.timestamp(), own.not_after.timestamp());
    let now_s = now_s();
    if ends_s < now_s {
        let why = format!("holds a certificate that expired: {}", own.not_after);
        return Err(files.certificate_error(&why));
    }
    if begins_s > now_s {
        let why = format!(
            "holds a certificate that is not valid before {}",
            own.not_before
        );
        return Err(files.certificate_error(&why));
    }
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|_| files.key_error("holds no private key in PEM without a passphrase"))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        if matches!(error, TlsError::InconsistentKeys(_)) {
            return files.key_error("is not the key of the certificate in listen.tls.certificate");
        }
        files.key_error(&format!("cannot be used: {error}"))
    })?;
    Ok((certified, ends_s))
}

/// What judges the certificates of clients. Whoever shows none is let in all
/// the same, and is nobody yet.
fn clients(
    files: &Files,
    contents: &Contents,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    let Some(ca) = &contents.ca else {
        return Ok(None);
    };
    let authorities =
        certificates(ca).ok_or_else(|| files.ca_error("holds no certificates in PEM"))?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        // The library takes an authority's word without looking at its dates.
        let dates = validity(&authority)
            .ok_or_else(|| files.ca_error("holds a certificate that cannot be read"))?;
        if dates.not_after.timestamp() < now_s() {
            let ended = dates.not_after;
            tracing::warn!(%ended, "listen.tls.client_ca: an authority that expired is left out");
            continue;
        }
        roots
            .add(authority)
            .map_err(|why| files.ca_error(&format!("cannot be used: {why}")))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated();
    if let Some(crl) = &contents.crl {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(crl)
            .take(MOST)
            .collect();
        let lists = lists.ok().filter(|lists| !lists.is_empty());
        let lists = lists.ok_or_else(|| files.crl_error("holds no revocation lists in PEM"))?;
        // Of a list that is over nobody knows what it would say today.
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    let verifier = builder.build().map_err(|error| {
        let why = format!("cannot be used: {error}");
        if matches!(error, VerifierBuilderError::InvalidCrl(_)) {
            return files.crl_error(&why);
        }
        files.ca_error(&why)
    })?;
    Ok(Some(verifier))
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MOST).collect();
    found.ok().filter(|found| !found.is_empty())
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().clone())
}

/// Seconds since the Unix epoch.
pub(super) fn now_s() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}
