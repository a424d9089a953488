//! One file for each thing that a user may ask of the server.

pub(crate) mod cancel;
mod interruption;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod nodes;
mod page;
pub(crate) mod submit;
mod usage;

use crate::client::{Answer, not_understood};
use crate::failure::Failure;
use crate::terminal::{Look, say, visible_json};

/// How results are to be shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    /// The server's JSON instead of a table.
    pub(crate) json: bool,
    /// What standard output is.
    pub(crate) look: Look,
}

/// Print an answer as it came: one JSON document.
fn print_json(answer: &Answer, look: Look) -> Result<(), Failure> {
    let document = answer.body.trim();
    serde_json::from_str::<serde::de::IgnoredAny>(document).map_err(|_| not_understood())?;
    if look.terminal {
        say(&visible_json(document))
    } else {
        say(document)
    }
}
