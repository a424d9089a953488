//! Reading the policy file: `key = value` lines, a small part of TOML.

use warrant_wire::launch::MAX_PROCESSES;
use warrant_wire::warrant::MAX_TEXT_BYTES;

use super::{Cgroup, DeniedGroup, Policy, Verdict};
use crate::identity::{NO_UID_FROM, is_account_name};

/// Most bytes of a policy file.
pub const MAX_FILE_BYTES: usize = 64 * 1024;
/// Most bytes of a path of a socket. Source: unix(7), less the final NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

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
/// Errors: what is wrong with the first line that is, and what is allowed;
/// unknown keys and keys given twice are wrong. No value is ever quoted.
pub fn parse(file: &[u8]) -> Result<Policy, String> {
    if file.len() > MAX_FILE_BYTES {
        return Err("must be at most 64 KiB".into());
    }
    let text = std::str::from_utf8(file).map_err(|_| "must be UTF-8")?;
    let mut policy = Policy::default();
    let mut seen = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let wrong = |text: &str| format!("line {number}: {text}");
        let Some((key, value)) = entry(line).map_err(wrong)? else {
            continue;
        };
        if seen.contains(&key) {
            return Err(wrong(&format!("{key}: must be given once")));
        }
        seen.push(key);
        set(&mut policy, key, value).map_err(|allowed| match allowed {
            UNKNOWN => wrong("there is no such key"),
            allowed => wrong(&format!("{key}: must be {allowed}")),
        })?;
    }
    match policy.min_uid > policy.max_uid {
        true => Err("min_uid: must be at most max_uid".into()),
        false => Ok(policy),
    }
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

/// The largest user id that is anybody's.
const LAST_UID: u32 = NO_UID_FROM - 1;
/// What stands for a key that there is not.
const UNKNOWN: &str = "";
const ACCOUNT: &str = "the name of an account";
const ACCOUNTS: &str = "a list of names of accounts";
const CLAIM: &str = "1 to 255 characters in quotation marks";
const PLACE: &str = "an absolute path";
const SOCKET: &str = "an absolute path of at most 107 bytes";
const SEARCH_PATH: &str = "absolute paths with : between them";
const UID: &str = "a whole number from 1 to 4294967293";
const VERDICT: &str = "\"allow\" or \"deny\"";

/// Puts a value into its place.
///
/// Errors: what is allowed there; [`UNKNOWN`].
fn set(policy: &mut Policy, key: &str, value: Value) -> Result<(), &'static str> {
    match key {
        "broker_user" => policy.broker_user = value.text(is_account_name).ok_or(ACCOUNT)?,
        "broker_group" => policy.broker_group = value.text(is_account_name).ok_or(ACCOUNT)?,
        "issuer" => policy.issuer = value.text(is_claim).ok_or(CLAIM)?,
        "audience" => policy.audience = value.text(is_claim).ok_or(CLAIM)?,
        "keys" => policy.keys = value.text(is_place).ok_or(PLACE)?.into(),
        "socket" => policy.socket = value.text(is_socket).ok_or(SOCKET)?.into(),
        "spool" => policy.spool = value.text(is_place).ok_or(PLACE)?.into(),
        "state" => policy.state = value.text(is_place).ok_or(PLACE)?.into(),
        "min_uid" => policy.min_uid = value.number(1, LAST_UID).ok_or(UID)?,
        "max_uid" => policy.max_uid = value.number(1, LAST_UID).ok_or(UID)?,
        "deny_users" => policy.deny_users = value.accounts().ok_or(ACCOUNTS)?,
        "deny_groups" => policy.deny_groups = value.accounts().ok_or(ACCOUNTS)?,
        "denied_group" => {
            policy.denied_group = match value.word() {
                "refuse" => DeniedGroup::Refuse,
                "remove" => DeniedGroup::Remove,
                _ => return Err("\"refuse\" or \"remove\""),
            }
        }
        "locked" => policy.locked = value.verdict().ok_or(VERDICT)?,
        "nologin" => policy.nologin = value.verdict().ok_or(VERDICT)?,
        "pam" => {
            policy.pam = match value.word() {
                "on" => true,
                "off" => false,
                _ => return Err("\"on\" or \"off\""),
            }
        }
        "no_new_privs" => policy.no_new_privs = value.truth().ok_or("true or false")?,
        "cgroup" => {
            policy.cgroup = match value.word() {
                "auto" => Cgroup::Auto,
                "require" => Cgroup::Require,
                "off" => Cgroup::Off,
                _ => return Err("\"auto\", \"require\" or \"off\""),
            }
        }
        "path" => policy.path = value.text(is_search_path).ok_or(SEARCH_PATH)?,
        "umask" => {
            policy.umask = value
                .number(0, 0o777)
                .ok_or("a whole number from 0 to 0o777")?;
        }
        "max_processes" => {
            let number = value.number(1, MAX_PROCESSES);
            policy.max_processes = number.ok_or("a whole number from 1 to 4096")?;
        }
        "max_pids" => policy.max_pids = value.size()?,
        "max_time_s" => policy.max_time_s = value.size()?,
        "max_output_bytes" => policy.max_output_bytes = value.size()?,
        "max_memory_bytes" => policy.max_memory_bytes = value.size()?,
        "max_admitted" => policy.max_admitted = value.size()?,
        _ => return Err(UNKNOWN),
    }
    Ok(())
}

impl Value {
    /// A text; empty if it is something else.
    fn word(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Number(_) | Self::Truth(_) | Self::List(_) => "",
        }
    }

    /// A text of a kind of which none is empty.
    fn text(&self, is_right: fn(&str) -> bool) -> Option<String> {
        is_right(self.word()).then(|| self.word().to_owned())
    }

    fn verdict(&self) -> Option<Verdict> {
        match self.word() {
            "allow" => Some(Verdict::Allow),
            "deny" => Some(Verdict::Deny),
            _ => None,
        }
    }

    fn accounts(self) -> Option<Vec<String>> {
        match self {
            Self::List(names) => names.iter().all(|it| is_account_name(it)).then_some(names),
            Self::Text(_) | Self::Number(_) | Self::Truth(_) => None,
        }
    }

    fn size(&self) -> Result<u64, &'static str> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(_) | Self::Truth(_) | Self::List(_) => Err("a whole number"),
        }
    }

    fn number(&self, least: u32, most: u32) -> Option<u32> {
        let number = u32::try_from(self.size().ok()?).ok()?;
        (least..=most).contains(&number).then_some(number)
    }

    fn truth(&self) -> Option<bool> {
        match self {
            Self::Truth(truth) => Some(*truth),
            Self::Text(_) | Self::Number(_) | Self::List(_) => None,
        }
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
