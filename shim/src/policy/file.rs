//! Reading the policy file: `key = value` lines, a small part of TOML.

use std::ops::RangeInclusive;

use warrant_wire::launch::MAX_PROCESSES;
use warrant_wire::warrant::MAX_TEXT_BYTES;

use super::{Cgroup, DeniedGroup, Policy, Verdict};
use crate::identity::{NO_UID_FROM, is_account_name};

/// Most bytes of a path of a socket. Source: unix(7), less the final NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

const UIDS: RangeInclusive<u32> = 1..=NO_UID_FROM - 1;
const SIZES: RangeInclusive<u64> = 0..=u64::MAX;
const ACCOUNT: &str = "the name of an account in quotation marks";
const CLAIM: &str = "1 to 255 printable ASCII characters but \\ in quotation marks";
const PLACE: &str = "an absolute path in quotation marks";
const SOCKET: &str = "an absolute path of at most 107 bytes in quotation marks";
const SEARCH_PATH: &str = "absolute paths with : between them, in quotation marks";
const UID: &str = "a whole number from 1 to 4294967293";
const UMASK: &str = "a whole number from 0 to 0o777";
const RANKS: &str = "a whole number from 1 to 4096";
const SIZE: &str = "a whole number";
const VERDICTS: [(&str, Verdict); 2] = [("\"allow\"", Verdict::Allow), ("\"deny\"", Verdict::Deny)];

/// Reads a policy file. A key that is absent has its default.
///
/// Errors: what is wrong with the first line that is, and what is allowed;
/// unknown keys and keys given twice are wrong. No value is ever quoted.
pub fn parse(file: &[u8]) -> Result<Policy, String> {
    let text = std::str::from_utf8(file).map_err(|_| "must be UTF-8")?;
    let mut policy = Policy::default();
    let mut seen = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = without_comment(line).trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |text: String| format!("line {number}: {text}");
        let (key, value) = line
            .split_once('=')
            .map(|(key, value)| (key.trim_end(), value.trim_start()))
            .ok_or_else(|| wrong("must be a key, = and a value, or begin with #".into()))?;
        set(&mut policy, key, value).map_err(wrong)?;
        if seen.contains(&key) {
            return Err(wrong(format!("{key}: must be given once")));
        }
        seen.push(key);
    }
    match policy.min_uid > policy.max_uid {
        true => Err("min_uid: must be at most max_uid".into()),
        false => Ok(policy),
    }
}

/// What is before a `#` that is not in quotation marks.
fn without_comment(line: &str) -> &str {
    let mut is_quoted = false;
    let mut parts = line.split(|c| {
        is_quoted ^= c == '"';
        c == '#' && !is_quoted
    });
    parts.next().unwrap_or_default()
}

/// Puts a value into its place.
///
/// Errors: the key, and what is allowed there.
fn set(policy: &mut Policy, key: &str, value: &str) -> Result<(), String> {
    let value = Value { key, text: value };
    match key {
        "broker_user" => policy.broker_user = value.text(is_account_name, ACCOUNT)?,
        "broker_group" => policy.broker_group = value.text(is_account_name, ACCOUNT)?,
        "issuer" => policy.issuer = value.text(is_claim, CLAIM)?,
        "audience" => policy.audience = value.text(is_claim, CLAIM)?,
        "keys" => policy.keys = value.text(is_place, PLACE)?.into(),
        "socket" => policy.socket = value.text(is_socket, SOCKET)?.into(),
        "spool" => policy.spool = value.text(is_place, PLACE)?.into(),
        "state" => policy.state = value.text(is_place, PLACE)?.into(),
        "min_uid" => policy.min_uid = value.number(UIDS, UID)?,
        "max_uid" => policy.max_uid = value.number(UIDS, UID)?,
        "deny_users" => policy.deny_users = value.accounts()?,
        "deny_groups" => policy.deny_groups = value.accounts()?,
        "denied_group" => {
            let (refuse, remove) = (DeniedGroup::Refuse, DeniedGroup::Remove);
            policy.denied_group = value.one_of([("\"refuse\"", refuse), ("\"remove\"", remove)])?;
        }
        "locked" => policy.locked = value.one_of(VERDICTS)?,
        "nologin" => policy.nologin = value.one_of(VERDICTS)?,
        "pam" => policy.pam = value.one_of([("\"on\"", true), ("\"off\"", false)])?,
        "no_new_privs" => policy.no_new_privs = value.one_of([("true", true), ("false", false)])?,
        "cgroup" => {
            policy.cgroup = value.one_of([
                ("\"auto\"", Cgroup::Auto),
                ("\"require\"", Cgroup::Require),
                ("\"off\"", Cgroup::Off),
            ])?;
        }
        "path" => policy.path = value.text(is_search_path, SEARCH_PATH)?,
        "umask" => policy.umask = value.number(0..=0o777, UMASK)?,
        "max_processes" => policy.max_processes = value.number(1..=MAX_PROCESSES, RANKS)?,
        "max_pids" => policy.max_pids = value.number(SIZES, SIZE)?,
        "max_time_s" => policy.max_time_s = value.number(SIZES, SIZE)?,
        "max_output_bytes" => policy.max_output_bytes = value.number(SIZES, SIZE)?,
        "max_memory_bytes" => policy.max_memory_bytes = value.number(SIZES, SIZE)?,
        "max_admitted" => policy.max_admitted = value.number(SIZES, SIZE)?,
        _ => return Err("there is no such key".into()),
    }
    Ok(())
}

/// A value as it stands in the file. What it is read as says what is wrong
/// with it.
#[derive(Clone, Copy)]
struct Value<'a> {
    key: &'a str,
    text: &'a str,
}

impl Value<'_> {
    fn must_be(self, allowed: impl std::fmt::Display) -> String {
        format!("{}: must be {allowed}", self.key)
    }

    /// Printable ASCII in quotation marks, in which nothing is escaped.
    fn text(self, is_right: fn(&str) -> bool, allowed: &str) -> Result<String, String> {
        let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let text = self
            .text
            .strip_prefix('"')
            .and_then(|it| it.strip_suffix('"'));
        text.filter(|text| text.bytes().all(is_plain) && is_right(text))
            .map(str::to_owned)
            .ok_or_else(|| self.must_be(allowed))
    }

    /// Names of accounts, or of groups, in a list.
    fn accounts(self) -> Result<Vec<String>, String> {
        let inner = self
            .text
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'));
        let inner = inner.ok_or_else(|| self.must_be("names of accounts as [\"a\", \"b\"]"))?;
        let mut items: Vec<&str> = inner.split(',').map(str::trim).collect();
        // A list may be empty, or end with a comma.
        items.pop_if(|last| last.is_empty());
        let name = |text| Value { text, ..self }.text(is_account_name, ACCOUNT);
        items.into_iter().map(name).collect()
    }

    /// A whole number in decimal or, behind `0o`, in octal.
    fn number<T>(self, range: RangeInclusive<T>, allowed: &str) -> Result<T, String>
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

    /// One of these words.
    fn one_of<T: Copy, const COUNT: usize>(self, words: [(&str, T); COUNT]) -> Result<T, String> {
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
