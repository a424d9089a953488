//! The name of a user.

use std::fmt;

use crate::error::{Error, Result};

/// The longest name, in bytes.
const MAX_BYTES: usize = 32;

/// A name that the service accepts: 1 to 32 of `A-Z a-z 0-9 _ . @ -`, the
/// first a letter, a digit or `_`, the last no dot, and not digits alone, so
/// that no name can be mistaken for a user id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UserName(String);

impl UserName {
    /// Check `name`.
    ///
    /// Errors: it breaks a rule; the message says which are the rules.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let first = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let rest = |byte: &u8| first(byte) || matches!(byte, b'.' | b'@' | b'-');
        let bytes = name.as_bytes();
        let good = bytes.len() <= MAX_BYTES
            && bytes.first().is_some_and(first)
            && bytes.iter().all(rest)
            && bytes.last() != Some(&b'.')
            && !bytes.iter().all(u8::is_ascii_digit);
        if !good {
            return Err(Error::invalid(format!(
                "{:?} is not a user name: 1 to {MAX_BYTES} of A-Z a-z 0-9 _ . @ -, \
                 beginning with a letter, a digit or _, not ending with a dot, and not digits alone",
                shown(name)
            )));
        }
        Ok(Self(name.to_owned()))
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
    fn ordinary_names_are_accepted() {
        for name in [
            "a",
            "_svc",
            "ann.b-c_d",
            "7of9",
            "ann@example.org",
            &"a".repeat(32),
        ] {
            assert_eq!(UserName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn t30_names_that_could_be_taken_for_something_else_are_refused() {
        let long = "a".repeat(33);
        let names = [
            "",
            "0",
            "1000",
            "-a",
            ".a",
            "@a",
            "a b",
            "a/b",
            "a\n",
            "a\0",
            "a:b",
            "ann\u{e9}",
            "a,b",
            "~a",
            "+a",
            "a\u{1b}[m",
            "a.",
            "..",
            "a\r",
            "\u{430}nn",
            "\u{ff41}nn",
            &long,
        ];
        for name in names {
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
