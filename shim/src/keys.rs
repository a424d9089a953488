//! The public keys that warrants may be signed with.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use warrant_wire::warrant::{header, is_key_id};

use crate::self_check::{self, Doubt};

/// More than anybody needs to change from one key to the next.
const MAX_KEYS: usize = 64;
/// Most bytes of one file of keys.
const MAX_FILE_BYTES: usize = 64 * 1024;
/// Bytes of a public key. Source: RFC 8032, Ed25519.
const KEY_BYTES: usize = 32;

/// The keys that are trusted, by the header of the warrants they sign.
#[derive(Default)]
pub struct Keys(BTreeMap<String, Key>);

/// A key that is trusted.
pub struct Key {
    /// Its name.
    pub id: String,
    /// Its bytes.
    pub bytes: [u8; KEY_BYTES],
}

impl Keys {
    /// Reads every file `*.pub` of a directory.
    ///
    /// Errors: the directory or a file of it is not root's alone, or does not
    /// hold keys in their form; two keys have one name.
    pub fn load(dir: &Path) -> Result<Self, Doubt> {
        self_check::directory(dir)?;
        let mut keys = Self::default();
        let about = |error| Doubt::about(dir, error);
        for entry in std::fs::read_dir(dir).map_err(about)? {
            let path = entry.map_err(about)?.path();
            if path.extension().is_some_and(|ending| ending == "pub") {
                let content = self_check::read(&path, MAX_FILE_BYTES)?;
                keys.add(&content)
                    .map_err(|text| Doubt::new(path.as_path(), text))?;
            }
        }
        Ok(keys)
    }

    /// Adds the keys of a file, which has a line `KID BASE64URL` for each.
    ///
    /// Errors: what is wrong with the file.
    pub fn add(&mut self, file: &[u8]) -> Result<(), &'static str> {
        let text = std::str::from_utf8(file).map_err(|_| "must be text")?;
        for line in text.lines() {
            let (id, encoded) = line
                .split_once(' ')
                .filter(|(id, _)| is_key_id(id))
                .ok_or("each line must be the name of a key, a space, and the key in base64url")?;
            let bytes = URL_SAFE_NO_PAD
                .decode(encoded)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or("a key must be 32 bytes in base64url without padding")?;
            let key = Key {
                id: id.to_owned(),
                bytes,
            };
            if self
                .0
                .insert(URL_SAFE_NO_PAD.encode(header(id)), key)
                .is_some()
            {
                return Err("each key must have a name of its own");
            }
        }
        if self.0.len() > MAX_KEYS {
            return Err("there must be at most 64 keys");
        }
        Ok(())
    }

    /// The key whose warrants have this header, byte for byte.
    #[must_use]
    pub fn signer(&self, encoded_header: &str) -> Option<&Key> {
        self.0.get(encoded_header)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
