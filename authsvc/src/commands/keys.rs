//! Rotating and listing the signing keys.

use clap::Subcommand;

use super::say;
use crate::clock;
use crate::config::Settings;
use crate::error::Result;
use crate::keys::{KeyDir, Ring, State};

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a new key: published at once, signing after `keys.activation_s`.
    Rotate,
    /// List the keys, what each is doing, and since or from when it signs, in
    /// seconds since the Unix epoch.
    List,
}

impl KeysCommand {
    /// Carry out the command.
    ///
    /// Errors: the key directory cannot be used, or is open to others.
    pub(super) fn run(self, settings: &Settings) -> Result<()> {
        let dir = KeyDir::open(&settings.config.keys.dir)?;
        let ring = Ring::new(dir.load()?);
        let now_s = clock::now_s();
        match self {
            Self::Rotate => {
                for (key, state) in ring.states(now_s) {
                    if state == State::Ended {
                        dir.remove(&key)?;
                    }
                }
                // The first key has no predecessor to sign until it may.
                let wait_s = match ring.signing(now_s) {
                    Some(_) => settings.config.keys.activation_s,
                    None => 0,
                };
                let key = dir.add(now_s + wait_s)?;
                say(&format!("{} signs in {wait_s} seconds", key.kid))
            }
            Self::List => ring.states(now_s).into_iter().try_for_each(|(key, state)| {
                let state = match state {
                    State::Next => "next",
                    State::Signing => "signing",
                    State::Old => "old",
                    State::Ended => "ended",
                };
                say(&format!("{} {state:<7} {}", key.kid, key.signs_from_s))
            }),
        }
    }
}
