//! A text that nothing prints by accident.

use std::fmt;

/// A password, key or token. `Debug` shows a placeholder; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Take a text out of sight.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to be sent or written to its file.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The value of an environment variable; `None` when unset or empty.
    pub(crate) fn from_env(name: &str) -> Option<Self> {
        std::env::var(name)
            .ok()
            .filter(|value| !value.is_empty())
            .map(Self)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
