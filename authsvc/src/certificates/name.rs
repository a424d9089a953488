//! Distinguished names, as people write them and as certificates hold them.
//! Source: RFC 4514, RFC 5280 §4.1.2.4 and §7.1.
//!
//! Two names are one where they differ in the case of ASCII letters, in how
//! many spaces stand together or in how characters are escaped alone. Letters
//! beyond ASCII are compared as they stand: what looks alike is not the same.

use std::collections::BTreeSet;

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// No name has more parts.
const MOST_PARTS: usize = 64;
/// No written name is longer, in bytes.
const LONGEST: usize = 4096;

/// The common name's type.
pub(super) const COMMON_NAME: &str = "2.5.4.3";

/// Types that have a word of their own. Source: RFC 4514 §3, and what OpenSSL
/// prints besides.
const TYPES: [(&str, &str); 16] = [
    ("CN", COMMON_NAME),
    ("SN", "2.5.4.4"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("TITLE", "2.5.4.12"),
    ("GN", "2.5.4.42"),
    ("DNQUALIFIER", "2.5.4.46"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("USERID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

/// A type and a value, in normal form.
type Part = (String, String);

/// A name in normal form: from the least particular part to the most, as a
/// certificate holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(Vec<BTreeSet<Part>>);

impl Name {
    /// Read a name as RFC 4514 writes it, the most particular part first;
    /// spaces around `,`, `+` and `=` are let pass.
    ///
    /// Errors: what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("is longer than 4096 bytes");
        }
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let mut part = BTreeSet::new();
            let end = loop {
                let (pair, end, after) = attribute(rest)?;
                part.insert(pair);
                rest = after;
                if end != Some('+') {
                    break end;
                }
            };
            parts.push(part);
            if parts.len() > MOST_PARTS {
                return Err("has more than 64 parts");
            }
            if end.is_none() {
                break;
            }
        }
        parts.reverse();
        Ok(Self(parts))
    }

    /// The name that a certificate holds; `None` where it is empty.
    pub(super) fn of(name: &X509Name<'_>) -> Option<Self> {
        let parts = name.iter_rdn().map(|part| {
            let pairs = part.iter().map(|pair| {
                let kind = pair.attr_type().to_id_string();
                (kind, normal(&value(pair)))
            });
            pairs.collect()
        });
        let parts: Vec<BTreeSet<_>> = parts.collect();
        (!parts.is_empty() && parts.len() <= MOST_PARTS).then_some(Self(parts))
    }
}

/// The values of type `kind` in a name, as they stand.
pub(super) fn values(name: &X509Name<'_>, kind: &str) -> Vec<String> {
    name.iter_attributes()
        .filter(|pair| pair.attr_type().to_id_string() == kind)
        .map(value)
        .collect()
}

/// The value as text; what is none, as the hexadecimal form of its bytes.
fn value(pair: &AttributeTypeAndValue<'_>) -> String {
    pair.as_str()
        .map_or_else(|_| hex(pair.as_slice()), str::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("#");
    text.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
    text
}

/// Source: RFC 4518 §2.6.1, of ASCII alone.
fn normal(value: &str) -> String {
    let words = value.split(' ').filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join(" ");
    joined.to_ascii_lowercase()
}

/// One `TYPE=VALUE`, what ended it, and what follows.
fn attribute(text: &str) -> Result<(Part, Option<char>, &str), &'static str> {
    let (kind, rest) = text
        .split_once('=')
        .ok_or("must look like CN=…,O=…: a type lacks its value")?;
    let kind = kind_of(kind.trim_matches(' '))?;
    let (value, end, rest) = written(rest)?;
    if value.is_empty() {
        return Err("has an empty value");
    }
    Ok(((kind, value), end, rest))
}

fn kind_of(word: &str) -> Result<String, &'static str> {
    let known = |(name, _): &&(&str, &str)| word.eq_ignore_ascii_case(name);
    if let Some((_, oid)) = TYPES.iter().find(known) {
        return Ok((*oid).to_owned());
    }
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    if word.contains('.') && word.split('.').all(number) {
        return Ok(word.to_owned());
    }
    Err(
        "has a type that is not known: CN, O, OU, C, ST, L, STREET, DC, UID, SN, GN, title, \
         serialNumber, dnQualifier, emailAddress and numbers with dots are",
    )
}

/// A value in normal form, up to an end that is not escaped.
fn written(text: &str) -> Result<(String, Option<char>, &str), &'static str> {
    let mut value = Vec::new();
    let mut characters = text.char_indices();
    let mut end = (None, "");
    while let Some((at, character)) = characters.next() {
        match character {
            ',' | '+' => {
                end = (Some(character), text.get(at + 1..).unwrap_or_default());
                break;
            }
            '\\' => {
                let (_, escaped) = characters.next().ok_or("ends within an escape")?;
                match escaped.to_digit(16) {
                    Some(high) => {
                        let low = characters.next().and_then(|(_, low)| low.to_digit(16));
                        let low = low.ok_or("has an escape of one hexadecimal digit")?;
                        value.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    }
                    None if " \"#+,;<=>\\".contains(escaped) => value.push(escaped as u8),
                    None => return Err("escapes what needs no escape"),
                }
            }
            '"' | ';' | '<' | '>' | '\0' => {
                return Err("holds one of \" ; < > without \\ before it");
            }
            other => value.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    let value = String::from_utf8(value).map_err(|_| "escapes bytes that are no UTF-8")?;
    Ok((normal(&value), end.0, end.1))
}
