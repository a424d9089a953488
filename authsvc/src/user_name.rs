//! The name of a user.

use std::fmt;

use warrant_wire::account::{NAME_RULE, is_name};

use crate::error::{Error, Result};

/// A name that a user can have: one that the name service may be asked about,
/// see [`NAME_RULE`]. It is never read as a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UserName(String);

impl UserName {
    /// Check `name`.
    ///
    /// Errors: it breaks the rule; the message says what that is.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match is_name(name) {
            true => Ok(Self(name.to_owned())),
            false => Err(Error::invalid(format!(
                "{:?} is not a user name: {NAME_RULE}",
                shown(name)
            ))),
        }
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The beginning of `text`, short enough for a log line or a message. Print
/// it with `{:?}`, which escapes what could pass for another line.
pub(crate) fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(64).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t30_a_name_is_what_the_name_service_may_be_asked_about() {
        for name in [
            "a",
            "7of9",
            "1000",
            "Ann",
            "CORP\\ann",
            "ann@example.org",
            "a b",
        ] {
            assert_eq!(UserName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "-a", "a/b", "a\n", "a:b", "a,b", "..", &"a".repeat(256)] {
            assert!(UserName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_message_about_a_name_is_one_short_escaped_line() {
        let name = format!("x\n{}", "\u{e9}".repeat(10_000));
        let message = UserName::parse(&name).unwrap_err().message;
        assert!(message.len() < 400 && !message.contains('\n'), "{message}");
    }
}
