//! The public keys that warrants may be signed with.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use warrant_wire::warrant::{header, hex, is_key_id};

use crate::self_check::{self, about, doubt};

/// More than anybody needs to change from one key to the next.
const MAX_KEYS: usize = 64;
/// Bytes of a public key. Source: RFC 8032, Ed25519.
const KEY_BYTES: usize = 32;

/// The points of small order, and their other forms, less the sign: for such
/// a key everybody can sign. Source: RFC 8032, sections 5.1.3 and 5.1.7.
const WEAK: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// The keys that are trusted, by the header of the warrants they sign.
#[derive(Default)]
pub struct Keys(BTreeMap<String, [u8; KEY_BYTES]>);

impl Keys {
    /// Reads every file `*.pub` of a directory.
    ///
    /// Errors: the directory or a file of it is not root's alone, or does not
    /// hold keys in their form; two keys have one name.
    pub fn load(dir: &Path) -> io::Result<Self> {
        self_check::directory(dir)?;
        let mut keys = Self::default();
        for entry in std::fs::read_dir(dir).map_err(about(dir))? {
            let path = entry.map_err(about(dir))?.path();
            if path.extension().is_some_and(|ending| ending == "pub") {
                keys.add(&self_check::read(&path)?)
                    .map_err(|text| doubt(&path, text))?;
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
            let parts = line.split_once(' ').filter(|(id, _)| is_key_id(id));
            let (id, encoded) = parts
                .ok_or("each line must be the name of a key, a space, and the key in base64url")?;
            let bytes = URL_SAFE_NO_PAD.decode(encoded).ok();
            let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
            let bytes = bytes.ok_or("a key must be 32 bytes in base64url without padding")?;
            if is_weak(bytes) {
                return Err("a key must not be one that everybody can sign for");
            }
            let encoded_header = URL_SAFE_NO_PAD.encode(header(id));
            if self.0.insert(encoded_header, bytes).is_some() {
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
    pub fn signer(&self, encoded_header: &str) -> Option<&[u8; KEY_BYTES]> {
        self.0.get(encoded_header)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

fn is_weak(mut key: [u8; KEY_BYTES]) -> bool {
    if let Some(last) = key.last_mut() {
        *last &= 0x7f;
    }
    WEAK.contains(&hex(&key).as_str())
}
