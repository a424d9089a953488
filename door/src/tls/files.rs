//! The files that TLS takes. Whoever can read the key can be this server, and
//! whoever can write one of the others can be anybody.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Error;

/// No certificate or key file is longer, in bytes.
const LONGEST: u64 = 256 * 1024;
/// No list of revoked certificates is longer, in bytes.
const LONGEST_LIST: u64 = 16 * 1024 * 1024;

const CERTIFICATE: &str = "listen.tls.certificate";
const KEY: &str = "listen.tls.key";
const CLIENT_CA: &str = "listen.tls.client_ca";
const CLIENT_CRL: &str = "listen.tls.client_crl";

/// Where the files are, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// What judges the certificates of clients, where they may have some.
    pub client: Option<ClientFiles>,
}

/// What judges the certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that sign them.
    pub ca: PathBuf,
    /// The certificates that were revoked, a list of each authority.
    pub crl: Option<PathBuf>,
}

/// What the files hold.
pub(super) struct Contents {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) ca: Option<Vec<u8>>,
    pub(super) crl: Option<Vec<u8>>,
}

impl Contents {
    /// Of all bytes, to see whether anything has changed.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let none = Vec::new();
        let parts = [
            &self.certificate,
            &*self.key,
            self.ca.as_ref().unwrap_or(&none),
            self.crl.as_ref().unwrap_or(&none),
        ];
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl Files {
    /// Read them all.
    ///
    /// Errors: one cannot be read, is too long or is open to others.
    pub(super) fn read(&self) -> Result<Contents, Error> {
        let client = self.client.as_ref();
        let crl = client.and_then(|client| client.crl.as_deref());
        Ok(Contents {
            certificate: read(CERTIFICATE, &self.certificate, LONGEST)?.to_vec(),
            key: read(KEY, &self.key, LONGEST)?,
            ca: client
                .map(|client| read(CLIENT_CA, &client.ca, LONGEST))
                .transpose()?
                .map(|bytes| bytes.to_vec()),
            crl: crl
                .map(|crl| read(CLIENT_CRL, crl, LONGEST_LIST))
                .transpose()?
                .map(|bytes| bytes.to_vec()),
        })
    }

    pub(super) fn certificate_error(&self, why: &str) -> Error {
        error(CERTIFICATE, &self.certificate, why)
    }

    pub(super) fn key_error(&self, why: &str) -> Error {
        error(KEY, &self.key, why)
    }

    pub(super) fn ca_error(&self, why: &str) -> Error {
        let path = self.client.as_ref().map(|client| client.ca.as_path());
        error(CLIENT_CA, path.unwrap_or(Path::new("")), why)
    }

    pub(super) fn crl_error(&self, why: &str) -> Error {
        let path = self
            .client
            .as_ref()
            .and_then(|client| client.crl.as_deref());
        error(CLIENT_CRL, path.unwrap_or(Path::new("")), why)
    }
}

fn error(setting: &str, path: &Path, why: &str) -> Error {
    Error(format!("{setting}: {} {why}", path.display()))
}

/// The bytes of the file that `setting` names. Links are followed: programs
/// that renew certificates keep a link to the newest.
fn read(setting: &str, path: &Path, longest: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wrong = |why: &str| error(setting, path, why);
    let unreadable = |source: std::io::Error| wrong(&format!("cannot be read: {source}"));
    // A pipe would be waited for.
    let found = fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() {
        return Err(wrong("is not a file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if let Some(why) = unsafe_to_use(&found, setting == KEY) {
        return Err(wrong(&why));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(longest + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > longest {
        return Err(wrong(&format!("is longer than {longest} bytes")));
    }
    Ok(bytes)
}

/// What is wrong with the owner or the mode of a file. Root may read whatever
/// it likes, so that its group may as well: so does systemd hand keys on.
fn unsafe_to_use(found: &Metadata, is_key: bool) -> Option<String> {
    let (owner, own) = (found.uid(), geteuid().as_raw());
    if owner != own && owner != 0 {
        return Some(format!(
            "belongs to uid {owner}; it must belong to root or to uid {own}"
        ));
    }
    let mode = found.mode() & 0o7777;
    let group = if found.gid() == 0 { 0o040 } else { 0 };
    let (denied, allowed) = match is_key {
        true => (0o077 & !group, "its owner alone may read it (0600 or 0400)"),
        false => (0o022, "its owner alone may write it (such as 0644)"),
    };
    (mode & denied != 0).then(|| format!("has mode {mode:04o}; {allowed}"))
}
