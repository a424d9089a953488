//! The key to which our tokens are bound, where the server binds them: with
//! each request goes a proof that we hold it, so that a token that is stolen
//! on its way, or by the server it was shown to, is good for nothing. Source:
//! RFC 9449.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use warrant_dpop::{Draft, Key};

use crate::auth::random_text;
use crate::clock::now_s;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::server::Server;
use crate::token_file::TokenFile;

/// The file of a user's key. It never leaves the machine.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile(PathBuf);

impl KeyFile {
    /// `dpop.key` beside the file of tokens at `token_file`.
    pub(crate) fn beside(token_file: &Path) -> Self {
        Self(token_file.with_file_name("dpop.key"))
    }

    /// The key. A file that is missing, damaged or readable by others counts
    /// as none.
    pub(crate) fn read(&self) -> Option<Key> {
        let mode = fs::metadata(&self.0).ok()?.permissions().mode();
        if mode & 0o077 != 0 {
            return None;
        }
        let text = Secret::new(fs::read_to_string(&self.0).ok()?);
        seed(text.reveal().trim_end()).map(|seed| Key::from_seed(&seed))
    }

    /// The key, made if there is none. Of two who make one at once, both get
    /// the same.
    ///
    /// Errors: it cannot be kept.
    pub(crate) fn read_or_make(&self) -> Result<Key, Failure> {
        if let Some(key) = self.read() {
            return Ok(key);
        }
        let trouble = |error: io::Error| {
            Failure::Refused(format!("cannot keep a key in {:?}: {error}", self.0))
        };
        let text = Secret::new(random_text::<32>()?);
        let draft = self.0.with_extension(format!("{}", std::process::id()));
        // Left by a process of the same id that died on the way.
        let _ = fs::remove_file(&draft);
        write_private(&draft, &text).map_err(trouble)?;
        // What could not be read is no key; what another made meanwhile is.
        if self.0.exists() && self.read().is_none() {
            let _ = fs::remove_file(&self.0);
        }
        let made = fs::hard_link(&draft, &self.0);
        let _ = fs::remove_file(&draft);
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(trouble(error)),
        }
        self.read()
            .ok_or_else(|| trouble(io::Error::other("what was written there is gone")))
    }
}

fn write_private(path: &Path, text: &Secret) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).create(dir)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.reveal().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn seed(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// A key that is used once and kept nowhere.
///
/// Errors: the machine gives no random numbers.
pub(crate) fn passing_key() -> Result<Key, Failure> {
    let text = Secret::new(random_text::<32>()?);
    let seed = seed(text.reveal());
    let seed = seed.ok_or_else(|| Failure::Refused("no random numbers are to be had".into()))?;
    Ok(Key::from_seed(&seed))
}

/// Makes proofs for the requests to one server.
#[derive(Debug, Clone)]
pub(crate) struct Prover {
    key: Arc<Key>,
    /// How the server calls itself: proofs name their request by it.
    base: String,
}

impl Prover {
    /// With `key`, for the server that calls itself `base`.
    pub(crate) fn new(key: Key, base: String) -> Self {
        Self {
            key: Arc::new(key),
            base,
        }
    }

    /// With the key that is kept beside `file`, if there is one, for the server
    /// that calls itself `base`.
    pub(crate) fn kept(file: &TokenFile, base: String) -> Option<Self> {
        let key = KeyFile::beside(file.path()).read()?;
        Some(Self::new(key, base))
    }

    /// With the same key, for the server that calls itself `base`.
    pub(crate) fn called(self, base: String) -> Self {
        Self { base, ..self }
    }

    /// How the server calls itself.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A proof for one request, and for the token that goes with it.
    ///
    /// Errors: the machine gives no random numbers.
    pub(crate) fn proof(
        &self,
        method: &str,
        route: &str,
        token: Option<&Secret>,
        nonce: Option<&str>,
    ) -> Result<String, Failure> {
        Ok(self.key.proof(&Draft {
            method,
            url: &format!("{}{route}", self.base),
            token: token.map(Secret::reveal),
            nonce,
            id: &random_text::<16>()?,
            now_s: now_s(),
        }))
    }
}

/// Where tokens are had by OAuth 2.0.
pub(crate) const TOKEN_ROUTE: &str = "/oauth/token";

/// What matters here of a server's description. Source: RFC 8414 §2, RFC 9449
/// §5.1.
#[derive(Deserialize)]
struct Described {
    token_endpoint: String,
    #[serde(default)]
    grant_types_supported: Vec<String>,
    #[serde(default)]
    dpop_signing_alg_values_supported: Vec<String>,
}

/// How `server`, which describes itself so, calls itself, if it binds tokens to
/// keys like ours and gives them by `grant`. One that calls itself by the
/// name of another is not believed: it gets what the older servers get.
pub(crate) fn offered(server: &Server, description: &str, grant: &str) -> Option<String> {
    let about: Described = serde_json::from_str(description).ok()?;
    let has = |words: &[String], word: &str| words.iter().any(|known| known == word);
    if !has(&about.dpop_signing_alg_values_supported, "EdDSA")
        || !has(&about.grant_types_supported, grant)
    {
        return None;
    }
    let base = about.token_endpoint.strip_suffix(TOKEN_ROUTE)?;
    let named: Server = base.parse().ok()?;
    server.is_origin_of(&named).then(|| base.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let scratch = Scratch::new();
        let file = KeyFile::beside(&scratch.path("warrant/token.json"));
        assert!(file.read().is_none());
        let made = file.read_or_make().unwrap().thumbprint();
        assert_eq!(file.read_or_make().unwrap().thumbprint(), made);
        let mode = fs::metadata(&file.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let dir = fs::read_dir(scratch.path("warrant")).unwrap();
        assert_eq!(dir.count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_damaged_is_made_anew() {
        let scratch = Scratch::new();
        let file = KeyFile::beside(&scratch.path("token.json"));
        let first = file.read_or_make().unwrap().thumbprint();
        fs::set_permissions(&file.0, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.read().is_none());
        let second = file.read_or_make().unwrap().thumbprint();
        assert_ne!(first, second);
        fs::write(&file.0, "x").unwrap();
        assert_ne!(file.read_or_make().unwrap().thumbprint(), second);
    }

    #[test]
    fn only_a_server_that_offers_it_gets_proofs() {
        let server: Server = "http://127.0.0.1:5000".parse().unwrap();
        let about = |endpoint: &str, alg: &str, grant: &str| {
            let about = serde_json::json!({
                "token_endpoint": endpoint,
                "dpop_signing_alg_values_supported": [alg],
                "grant_types_supported": [grant],
            });
            offered(&server, &about.to_string(), "password")
        };
        let own = "http://localhost:5000/oauth/token";
        let base = about(own, "EdDSA", "password");
        assert_eq!(base.as_deref(), Some("http://localhost:5000"));
        assert_eq!(about(own, "ES512", "password"), None);
        assert_eq!(about(own, "EdDSA", "refresh_token"), None);
        for other in [
            "http://evil.example/oauth/token",
            "https://127.0.0.1:5000/oauth/token",
            "http://127.0.0.1:5001/oauth/token",
            "http://127.0.0.1:5000@evil.example/oauth/token",
            "http://127.0.0.1:5000/token",
        ] {
            assert_eq!(about(other, "EdDSA", "password"), None, "{other}");
        }
        assert_eq!(offered(&server, "{}", "password"), None);
        assert_eq!(offered(&server, "<html>", "password"), None);
    }
}
