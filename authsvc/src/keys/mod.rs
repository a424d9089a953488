//! The Ed25519 keys that sign: access tokens, and, apart from these, warrants.
//!
//! Each key is one file whose name says when it begins to sign. A new key is
//! published before that, so that every verifier knows it by its first
//! token; an old one stays published until its last token has ended.

mod files;
mod ring;
mod watch;

pub(crate) use files::KeyDir;
pub(crate) use ring::{KeySet, Ring, SigningKey, State};
pub(crate) use watch::watch;

use crate::clock;
use crate::config::{Config, MAX_TOKEN_MINUTES};
use crate::error::Result;

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Access tokens.
    Access,
    /// Warrants.
    Warrants,
}

impl Purpose {
    /// In one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Warrants => "warrants",
        }
    }

    /// The directory of these keys.
    ///
    /// Errors: it cannot be used, or is open to others.
    pub(crate) fn dir(self, config: &Config) -> Result<KeyDir> {
        match self {
            Self::Access => KeyDir::open("keys.dir", &config.keys.dir),
            Self::Warrants => KeyDir::open("warrants.keys_dir", &config.warrants.keys_dir),
        }
    }

    /// The longest life of what these keys sign, in seconds.
    pub(crate) fn longest_s(self) -> u64 {
        match self {
            Self::Access => MAX_TOKEN_MINUTES * 60,
            Self::Warrants => warrant_wire::warrant::MAX_LIFETIME_S,
        }
    }

    /// Seconds for which a new key is known before it signs.
    pub(crate) fn activation_s(self, config: &Config) -> u64 {
        match self {
            Self::Access => config.keys.activation_s,
            Self::Warrants => config.warrants.activation_s,
        }
    }

    /// The keys as they are now; the first is made when there is none, and
    /// signs at once.
    ///
    /// Errors: the directory or a key in it cannot be used, or is open to
    /// others.
    pub(crate) fn open(self, config: &Config) -> Result<(KeyDir, Ring)> {
        let dir = self.dir(config)?;
        let mut keys = dir.load()?;
        if keys.is_empty() {
            keys.push(dir.add(clock::now_s())?);
        }
        Ok((dir, Ring::new(keys, self.longest_s())))
    }
}
