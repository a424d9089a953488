//! Reading the policy file: `key = value` lines, a small part of TOML.

use super::Policy;
use super::value::Value;

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
        let malformed = || wrong("must be a key, = and a value, or begin with #".into());
        let (key, value) = line.split_once('=').ok_or_else(malformed)?;
        let (key, text) = (key.trim_end(), value.trim_start());
        policy.set(key, Value { key, text }).map_err(wrong)?;
        if seen.contains(&key) {
            return Err(wrong(format!("{key}: must be given once")));
        }
        seen.push(key);
    }
    if policy.min_uid > policy.max_uid {
        return Err("min_uid: must be at most max_uid".into());
    }
    if policy.umask.is_none() && !policy.pam {
        return Err("umask: must be a number where pam is \"off\"".into());
    }
    Ok(policy)
}

/// What is before a `#` that is not in quotation marks.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut parts = line.split(|c| {
        if matches!(c, '"' | '\'') && quote.is_none_or(|open| open == c) {
            quote = quote.xor(Some(c));
        }
        c == '#' && quote.is_none()
    });
    parts.next().unwrap_or_default()
}
