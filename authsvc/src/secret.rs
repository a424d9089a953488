//! Text that must not be seen.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use zeroize::Zeroize;

use crate::error::{Error, Result};

/// The longest file that is read as a secret, in bytes.
const MAX_FILE_BYTES: u64 = 4096;

/// A password, a shared secret or a URL that may hold one. Printing it, also
/// for debugging, shows nothing of it; dropped, it is wiped from memory.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// Keep `text`.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The content of the file that the setting `key` names, without the
    /// newline at its end.
    ///
    /// Errors: the file cannot be read, is empty, is longer than 4096 bytes or
    /// is not UTF-8.
    pub(crate) fn read(key: &str, path: &Path) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("{key}: {} {why}", path.display()));
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
            .map_err(|source| Error {
                source: Some(source.into()),
                ..wrong("cannot be read as text")
            })?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(wrong("is longer than 4096 bytes"));
        }
        let line = without_newline(&text);
        if line.is_empty() {
            return Err(wrong("is empty"));
        }
        Ok(Self::new(line))
    }
}

/// `text` without one newline at its end: what an editor or `echo` adds.
pub(crate) fn without_newline(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix('\r').unwrap_or(line)
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_a_secret_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", Secret::new("canary")), "(secret)");
    }

    #[test]
    fn a_secret_file_loses_only_the_newline_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, " two words \n\n").unwrap();
        assert_eq!(
            Secret::read("key", &path).unwrap().expose(),
            " two words \n"
        );
    }

    #[test]
    fn an_empty_a_missing_and_an_endless_secret_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        for path in [
            empty.as_path(),
            Path::new("/dev/zero"),
            &dir.path().join("none"),
        ] {
            let error = Secret::read("shared_secret_file", path).unwrap_err();
            assert!(error.message.starts_with("shared_secret_file: "), "{error}");
        }
    }
}
