//! The values of a policy file, and what is allowed for them.

use std::ops::RangeInclusive;

use warrant_wire::account::{MAX_UID, is_name};
use warrant_wire::warrant::MAX_TEXT_BYTES;

use super::{Cgroup, DeniedGroup};

/// Most bytes of a path of a socket. Source: unix(7), less the final NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Which texts are right, and how that is said.
type Text = (fn(&str) -> bool, &'static str);
/// Which numbers are right, and how that is said.
type Number<T> = (RangeInclusive<T>, &'static str);

pub(super) const ACCOUNT: Text = (is_name, "the name of an account");
pub(super) const CLAIM: Text = (is_claim, "1 to 255 characters");
pub(super) const PLACE: Text = (is_place, "an absolute path");
pub(super) const SOCKET: Text = (is_socket, "an absolute path of at most 107 bytes");
pub(super) const SEARCH_PATH: Text = (is_search_path, "absolute paths with : between them");
pub(super) const UID: Number<u32> = (1..=MAX_UID, "a whole number from 1 to 4294967293");
const UMASK: Number<u32> = (0..=0o777, "a whole number from 0 to 0o777, or \"pam\"");
pub(super) const SIZE: Number<u64> = (0..=u64::MAX, "a whole number");
pub(super) const VERDICTS: [(&str, bool); 2] = [("\"allow\"", true), ("\"deny\"", false)];
pub(super) const DENIED: [(&str, DeniedGroup); 2] = [
    ("\"refuse\"", DeniedGroup::Refuse),
    ("\"remove\"", DeniedGroup::Remove),
];
pub(super) const CGROUPS: [(&str, Cgroup); 3] = [
    ("\"auto\"", Cgroup::Auto),
    ("\"require\"", Cgroup::Require),
    ("\"off\"", Cgroup::Off),
];

/// A value as it stands in the file. What it is read as says what is wrong
/// with it.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) key: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Value<'a> {
    fn must_be(self, allowed: impl std::fmt::Display) -> String {
        format!("{}: must be {allowed}", self.key)
    }

    /// What is between two marks.
    fn between(self, begin: char, end: char) -> Option<&'a str> {
        self.text.strip_prefix(begin)?.strip_suffix(end)
    }

    /// Text in quotation marks of either kind, in which nothing is escaped:
    /// printable ASCII, but for names.
    pub(super) fn text<T: From<String>>(self, (is_right, allowed): Text) -> Result<T, String> {
        const FORM: &str = "printable ASCII in quotation marks, without \\";
        let is_plain = |text: &&str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let double = self
            .between('"', '"')
            .filter(|text| !text.contains(['"', '\\']));
        let literal = self.between('\'', '\'').filter(|text| !text.contains('\''));
        let text = double
            .or(literal)
            .filter(|text| allowed == ACCOUNT.1 || is_plain(text));
        match text.ok_or_else(|| self.must_be(FORM))? {
            text if is_right(text) => Ok(text.to_owned().into()),
            _ => Err(self.must_be(allowed)),
        }
    }

    /// Names of accounts, or of groups, in a list.
    pub(super) fn accounts(self) -> Result<Vec<String>, String> {
        let inner = self.between('[', ']');
        let inner = inner.ok_or_else(|| self.must_be("names of accounts as [\"a\", \"b\"]"))?;
        let mut items: Vec<&str> = inner.split(',').map(str::trim).collect();
        // A list may be empty, or end with a comma.
        items.pop_if(|last| last.is_empty());
        let name = |text| Value { text, ..self }.text(ACCOUNT);
        items.into_iter().map(name).collect()
    }

    /// A whole number in decimal or, behind `0o`, in octal.
    pub(super) fn number<T>(self, (range, allowed): Number<T>) -> Result<T, String>
    where
        T: TryFrom<u64> + PartialOrd,
    {
        let number = match self.text.strip_prefix("0o") {
            Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 8).ok(),
            None if self.text == "0" || !self.text.starts_with(['0', '+']) => {
                self.text.parse().ok()
            }
            Some(_) | None => None,
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.must_be(allowed))
    }

    /// A file mode creation mask, or `"pam"`.
    pub(super) fn umask(self) -> Result<Option<u32>, String> {
        match self.text {
            "\"pam\"" => Ok(None),
            _ => self.number(UMASK).map(Some),
        }
    }

    /// One of these words.
    pub(super) fn one_of<T: Copy, const COUNT: usize>(
        self,
        words: [(&str, T); COUNT],
    ) -> Result<T, String> {
        let found = words.iter().find(|(word, _)| *word == self.text);
        let allowed = || self.must_be(words.map(|(word, _)| word).join(" or "));
        found.map(|(_, value)| *value).ok_or_else(allowed)
    }
}

fn is_claim(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len())
}

/// An absolute path in its one plain form.
fn is_place(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

fn is_socket(path: &str) -> bool {
    is_place(path) && path.len() <= MAX_SOCKET_PATH_BYTES
}

fn is_search_path(path: &str) -> bool {
    path.split(':').all(is_place)
}
