//! TLS of the server that `warrant up` runs: the certificate, and what clients
//! have to know of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ureq::tls::{PemItem, parse_pem};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::args::Up;
use crate::failure::Failure;
use crate::up::reachable_ip;

/// The largest file of certificates or of a key, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The certificate and the key of a server.
#[derive(Debug)]
pub(crate) struct Tls {
    /// The file of the certificate, as it was named.
    certificate: PathBuf,
    /// The file of its key.
    key: PathBuf,
    names: Names,
}

/// What a certificate says of itself.
#[derive(Debug, Default)]
struct Names {
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Whether it vouches for itself.
    self_signed: bool,
}

impl Tls {
    /// What was asked for; `None` where the server speaks plain HTTP.
    ///
    /// Errors: `Refused` where the files cannot be used.
    pub(crate) fn of(options: &Up) -> Result<Option<Self>, Failure> {
        let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else {
            return Ok(None);
        };
        // The services work in another directory.
        let whole = |what: &str, path: &Path| {
            path.canonicalize().map_err(|error| {
                Failure::Refused(format!(
                    "{what} {}: cannot be read: {error}",
                    path.display()
                ))
            })
        };
        let certificate = whole("--tls-cert", certificate)?;
        let names = Names::read(&certificate)?;
        Ok(Some(Self {
            key: whole("--tls-key", key)?,
            certificate,
            names,
        }))
    }

    /// Where clients find a server that listens at `listen`: by an address or
    /// a name that the certificate is for.
    pub(crate) fn url(&self, listen: SocketAddr) -> String {
        let ip = reachable_ip(listen);
        let by_name = self.names.hosts.first();
        match by_name.filter(|_| !self.names.addresses.contains(&ip)) {
            Some(name) => format!("https://{name}:{}", listen.port()),
            None => format!("https://{}", SocketAddr::new(ip, listen.port())),
        }
    }

    /// The authority that clients have to believe, where it is known.
    pub(crate) fn authority(&self) -> Option<&Path> {
        self.names.self_signed.then_some(&*self.certificate)
    }

    /// What the auth service is told.
    pub(crate) fn of_authsvc(&self) -> Vec<(&'static str, OsString)> {
        vec![
            (
                "AUTHSVC__LISTEN__TLS__CERTIFICATE",
                self.certificate.clone().into(),
            ),
            ("AUTHSVC__LISTEN__TLS__KEY", self.key.clone().into()),
        ]
    }

    /// What the broker is told.
    pub(crate) fn of_broker(&self) -> Vec<(&'static str, OsString)> {
        vec![
            (
                "BROKER__LISTEN__TLS__CERTIFICATE",
                self.certificate.clone().into(),
            ),
            ("BROKER__LISTEN__TLS__KEY", self.key.clone().into()),
        ]
    }

    /// The same with copies in `files` (certificate and key), for a service
    /// that cannot read what root can.
    pub(crate) fn copied_to(&self, [certificate, key]: [PathBuf; 2]) -> Self {
        Self {
            certificate,
            key,
            names: Names::default(),
        }
    }

    /// What is in the files.
    ///
    /// Errors: `Refused` where they cannot be read, or where somebody but
    /// root may read the key.
    pub(crate) fn contents(&self) -> Result<[Vec<u8>; 2], Failure> {
        let wrong =
            |why: &str| Failure::Refused(format!("--tls-key {}: {why}", self.key.display()));
        let found = fs::metadata(&self.key).map_err(|_| wrong("cannot be read"))?;
        let mode = found.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 || found.uid() != 0 {
            return Err(wrong(&format!(
                "has owner {} and mode {mode:04o}; root alone may read it (0600)",
                found.uid()
            )));
        }
        Ok([
            read("--tls-cert", &self.certificate)?,
            read("--tls-key", &self.key)?,
        ])
    }
}

impl Names {
    /// What the first certificate in the file at `path` says.
    fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = || {
            let path = path.display();
            Failure::Refused(format!("--tls-cert {path}: holds no certificate in PEM"))
        };
        let pem = read("--tls-cert", path)?;
        let first = parse_pem(&pem).find_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            Ok(_) | Err(_) => None,
        });
        let first = first.ok_or_else(wrong)?;
        let (_, certificate) = parse_x509_certificate(first.der()).map_err(|_| wrong())?;
        let mut names = Self {
            self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            ..Self::default()
        };
        // A certificate without the extension, or with a broken one, names nobody.
        let listed = certificate.subject_alternative_name().ok().flatten();
        for name in listed.iter().flat_map(|listed| &listed.value.general_names) {
            names.take(name);
        }
        Ok(names)
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the library's enum, of which two sorts name servers"
    )]
    fn take(&mut self, name: &GeneralName<'_>) {
        match name {
            // Of many hosts, nobody can say which one this is.
            GeneralName::DNSName(host) if is_host(host) => {
                self.hosts.push(host.to_ascii_lowercase());
            }
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                self.addresses.extend(address.ok());
            }
            _ => {}
        }
    }
}

/// Whether `text` is one host's name, and nothing that a terminal or an
/// address would take for something else.
fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(plain)
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |why: String| Failure::Refused(format!("{what} {}: {why}", path.display()));
    let file = File::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    let done = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    done.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong("is larger than 1 MiB".to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn tls(names: &[&str]) -> Tls {
        let scratch = Scratch::new();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        let path = scratch.path("c.pem");
        fs::write(&path, own.cert.pem()).unwrap();
        Tls {
            names: Names::read(&path).unwrap(),
            certificate: path.clone(),
            key: path,
        }
    }

    #[test]
    fn clients_are_sent_to_what_the_certificate_is_for() {
        for (names, url) in [
            (&["jobs.example.org"][..], "https://jobs.example.org:5000"),
            (&["jobs.example.org", "127.0.0.1"], "https://127.0.0.1:5000"),
            (
                &["*.example.org", "b.example.org"],
                "https://b.example.org:5000",
            ),
            (&["*.example.org"], "https://127.0.0.1:5000"),
            (&["192.0.2.1"], "https://127.0.0.1:5000"),
        ] {
            let listen = "0.0.0.0:5000".parse().unwrap();
            assert_eq!(tls(names).url(listen), url, "{names:?}");
        }
        let listen = "[::1]:5000".parse().unwrap();
        assert_eq!(tls(&["localhost", "::1"]).url(listen), "https://[::1]:5000");
    }

    #[test]
    fn a_certificate_that_vouches_for_itself_is_what_clients_believe() {
        let tls = tls(&["localhost"]);
        assert_eq!(tls.authority(), Some(&*tls.certificate));
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let scratch = Scratch::new();
        let path = scratch.path("c.pem");
        fs::write(&path, "nothing").unwrap();
        let Err(Failure::Refused(message)) = Names::read(&path) else {
            panic!("it was taken");
        };
        assert!(message.contains("--tls-cert") && message.contains("c.pem"));
    }
}
