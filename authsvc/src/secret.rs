//! Text that must not be seen.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use warrant_upkeep::{NotRead, read_argument, read_setting};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

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
    /// Errors: as [`read_setting`].
    pub(crate) fn read(key: &str, path: &Path) -> Result<Self> {
        Self::of(key, read_setting(path))
    }

    /// As [`Secret::read`], where the argument `key` names the file.
    ///
    /// Errors: as [`read_setting`].
    pub(crate) fn read_argument(key: &str, path: &Path) -> Result<Self> {
        Self::of(key, read_argument(path))
    }

    fn of(key: &str, read: Result<Zeroizing<String>, NotRead>) -> Result<Self> {
        let text = read.map_err(|NotRead { message, source }| Error {
            source: source.map(Into::into),
            ..Error::invalid(format!("{key}: {message}"))
        })?;
        Ok(Self::new(text.as_str()))
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
    fn a_file_that_is_refused_is_named_together_with_its_setting() {
        let error = Secret::read("shared_secret_file", Path::new("/dev/zero")).unwrap_err();
        assert!(
            error
                .message
                .starts_with("shared_secret_file: /dev/zero has mode"),
            "{error}"
        );
    }
}
