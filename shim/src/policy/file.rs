//! Reading the policy file: `key = value` lines, a small part of TOML.

use std::fmt;
use std::ops::RangeInclusive;

use warrant_wire::launch::MAX_PROCESSES;
use warrant_wire::warrant::MAX_TEXT_BYTES;

use super::{Cgroup, DeniedGroup, Policy, Verdict};
use crate::identity::{NO_UID_FROM, is_account_name};

/// Most bytes of a policy file.
pub const MAX_FILE_BYTES: usize = 64 * 1024;
/// Most bytes of a path of a socket. Source: unix(7), less the final NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// What is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The line, from 1; 0 if it is the file as a whole.
    pub line: usize,
    /// What, and what is allowed. It never quotes a value.
    pub text: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.text),
            line => write!(f, "line {line}: {}", self.text),
        }
    }
}

/// A value as it stands in the file.
#[derive(Debug)]
enum Value {
    Text(String),
    Number(u64),
    Truth(bool),
    List(Vec<String>),
}

/// Reads a policy file. A key that is absent has its default.
///
/// Errors: the first line that is wrong; unknown keys and keys given twice
/// are.
pub fn parse(file: &[u8]) -> Result<Policy, Wrong> {
    let whole = |text: &str| Wrong {
        line: 0,
        text: text.into(),
    };
    if file.len() > MAX_FILE_BYTES {
        return Err(whole("must be at most 64 KiB"));
    }
    let text = std::str::from_utf8(file).map_err(|_| whole("must be UTF-8"))?;
    let mut policy = Policy::default();
    let mut seen = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let wrong = |text: String| Wrong { line: number, text };
        let Some((key, value)) = entry(line).map_err(|text| wrong(text.into()))? else {
            continue;
        };
        if seen.contains(&key) {
            return Err(wrong(format!("{key}: must be given once")));
        }
        seen.push(key);
        set(&mut policy, key, value).map_err(|allowed| match allowed {
            UNKNOWN => wrong("there is no such key".into()),
            allowed => wrong(format!("{key}: must be {allowed}")),
        })?;
    }
    if policy.min_uid > policy.max_uid {
        return Err(whole("min_uid: must be at most max_uid"));
    }
    Ok(policy)
}

/// The key and the value of a line, if it has any.
fn entry(line: &str) -> Result<Option<(&str, Value)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (key, rest) = line
        .split_once('=')
        .ok_or("must be a key, = and a value, or begin with #")?;
    let (value, rest) = value(rest.trim_start())?;
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(Some((key.trim_end(), value)))
    } else {
        Err("must end after the value, or go on with #")
    }
}

/// The value at the front of a text, and what is behind it.
fn value(text: &str) -> Result<(Value, &str), &'static str> {
    const NEITHER: &str =
        "the value must be \"text\", a whole number, true, false or [\"a\", \"b\"]";
    if text.starts_with('"') {
        return quoted(text).map(|(text, rest)| (Value::Text(text.into()), rest));
    }
    if let Some(list) = text.strip_prefix('[') {
        return items(list).map(|(items, rest)| (Value::List(items), rest));
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric());
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let value = match word {
        "true" => Value::Truth(true),
        "false" => Value::Truth(false),
        _ => Value::Number(number(word).ok_or(NEITHER)?),
    };
    Ok((value, rest))
}

/// A whole number in decimal or, behind `0o`, in octal.
fn number(word: &str) -> Option<u64> {
    let (digits, radix) = match word.strip_prefix("0o") {
        Some(digits) => (digits, 8),
        None if word.len() > 1 && word.starts_with('0') => return None,
        None => (word, 10),
    };
    u64::from_str_radix(digits, radix).ok()
}

fn quoted(text: &str) -> Result<(&str, &str), &'static str> {
    let (text, rest) = text
        .strip_prefix('"')
        .and_then(|text| text.split_once('"'))
        .ok_or("a text must be between two quotation marks")?;
    if text
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\')
    {
        Ok((text, rest))
    } else {
        Err("a text must be printable ASCII without \\")
    }
}

/// The items of a list behind its `[`.
fn items(mut text: &str) -> Result<(Vec<String>, &str), &'static str> {
    let mut items = Vec::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix(']') {
            return Ok((items, rest));
        }
        let (item, rest) = quoted(text)?;
        items.push(item.to_owned());
        let rest = rest.trim_start();
        text = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with(']') => rest,
            None => return Err("a list must have commas between its items and ] at its end"),
        };
    }
}

/// What stands for a key that there is not.
const UNKNOWN: &str = "";
const ON_OFF: [(&str, bool); 2] = [("on", true), ("off", false)];
const VERDICTS: [(&str, Verdict); 2] = [("allow", Verdict::Allow), ("deny", Verdict::Deny)];
const DENIED_GROUPS: [(&str, DeniedGroup); 2] = [
    ("refuse", DeniedGroup::Refuse),
    ("remove", DeniedGroup::Remove),
];
const CGROUPS: [(&str, Cgroup); 3] = [
    ("auto", Cgroup::Auto),
    ("require", Cgroup::Require),
    ("off", Cgroup::Off),
];
const UID: &str = "a whole number from 1 to 4294967293";
const LAST_UID: u32 = NO_UID_FROM - 1;
const PROCESSES: &str = "a whole number from 1 to 4096";

/// Puts a value into its place.
///
/// Errors: what is allowed there; [`UNKNOWN`].
fn set(policy: &mut Policy, key: &str, value: Value) -> Result<(), &'static str> {
    match key {
        "broker_user" => policy.broker_user = value.account()?,
        "broker_group" => policy.broker_group = value.account()?,
        "issuer" => policy.issuer = value.claim()?,
        "audience" => policy.audience = value.claim()?,
        "keys" => policy.keys = value.place()?.into(),
        "socket" => policy.socket = value.socket()?.into(),
        "spool" => policy.spool = value.place()?.into(),
        "state" => policy.state = value.place()?.into(),
        "min_uid" => policy.min_uid = value.number(1..=LAST_UID, UID)?,
        "max_uid" => policy.max_uid = value.number(1..=LAST_UID, UID)?,
        "deny_users" => policy.deny_users = value.accounts()?,
        "deny_groups" => policy.deny_groups = value.accounts()?,
        "denied_group" => {
            policy.denied_group = value.choice(&DENIED_GROUPS, "\"refuse\" or \"remove\"")?;
        }
        "locked" => policy.locked = value.choice(&VERDICTS, "\"allow\" or \"deny\"")?,
        "nologin" => policy.nologin = value.choice(&VERDICTS, "\"allow\" or \"deny\"")?,
        "pam" => policy.pam = value.choice(&ON_OFF, "\"on\" or \"off\"")?,
        "no_new_privs" => policy.no_new_privs = value.truth()?,
        "cgroup" => policy.cgroup = value.choice(&CGROUPS, "\"auto\", \"require\" or \"off\"")?,
        "path" => policy.path = value.search_path()?,
        "umask" => policy.umask = value.number(0..=0o777, "a whole number from 0 to 0o777")?,
        "max_processes" => policy.max_processes = value.number(1..=MAX_PROCESSES, PROCESSES)?,
        "max_pids" => policy.max_pids = value.size()?,
        "max_time_s" => policy.max_time_s = value.size()?,
        "max_output_bytes" => policy.max_output_bytes = value.size()?,
        "max_memory_bytes" => policy.max_memory_bytes = value.size()?,
        "max_admitted" => policy.max_admitted = value.size()?,
        _ => return Err(UNKNOWN),
    }
    Ok(())
}

/// What a value is where it must be of one kind. Errors: what is allowed.
impl Value {
    fn text(
        self,
        fits: impl Fn(&str) -> bool,
        allowed: &'static str,
    ) -> Result<String, &'static str> {
        match self {
            Self::Text(text) if fits(&text) => Ok(text),
            Self::Text(_) | Self::Number(_) | Self::Truth(_) | Self::List(_) => Err(allowed),
        }
    }

    fn claim(self) -> Result<String, &'static str> {
        let fits = |text: &str| (1..=MAX_TEXT_BYTES).contains(&text.len());
        self.text(fits, "1 to 255 characters in quotation marks")
    }

    fn account(self) -> Result<String, &'static str> {
        self.text(is_account_name, "the name of an account")
    }

    fn accounts(self) -> Result<Vec<String>, &'static str> {
        match self {
            Self::List(names) if names.iter().all(|name| is_account_name(name)) => Ok(names),
            Self::Text(_) | Self::Number(_) | Self::Truth(_) | Self::List(_) => {
                Err("a list of names of accounts")
            }
        }
    }

    fn place(self) -> Result<String, &'static str> {
        self.text(is_place, "an absolute path")
    }

    fn socket(self) -> Result<String, &'static str> {
        let fits = |path: &str| is_place(path) && path.len() <= MAX_SOCKET_PATH_BYTES;
        self.text(fits, "an absolute path of at most 107 bytes")
    }

    fn search_path(self) -> Result<String, &'static str> {
        let fits = |path: &str| path.split(':').all(is_place);
        self.text(fits, "absolute paths with : between them")
    }

    fn size(self) -> Result<u64, &'static str> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Text(_) | Self::Truth(_) | Self::List(_) => Err("a whole number"),
        }
    }

    fn number(
        self,
        range: RangeInclusive<u32>,
        allowed: &'static str,
    ) -> Result<u32, &'static str> {
        let number = self.size().ok().and_then(|number| number.try_into().ok());
        number
            .filter(|number| range.contains(number))
            .ok_or(allowed)
    }

    fn truth(self) -> Result<bool, &'static str> {
        match self {
            Self::Truth(truth) => Ok(truth),
            Self::Text(_) | Self::Number(_) | Self::List(_) => Err("true or false"),
        }
    }

    fn choice<T: Copy>(
        self,
        choices: &[(&str, T)],
        allowed: &'static str,
    ) -> Result<T, &'static str> {
        let word = self.text(|_| true, allowed)?;
        let choice = choices.iter().find(|(name, _)| *name == word);
        choice.map(|(_, choice)| *choice).ok_or(allowed)
    }
}

/// An absolute path in its one plain form.
fn is_place(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}
