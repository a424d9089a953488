//! The claims of a warrant: who may run which bytes, once.
//!
//! A warrant is a JWS (RFC 7515) in compact form, signed with Ed25519
//! (RFC 8037). Its header and its payload are written in one way only: fixed
//! fields in a fixed order, no white space, and no escapes but those that the
//! account's name needs, each in one spelling. To any JWT library it is an
//! ordinary token; its reader here accepts nothing but these very bytes, so
//! there is nothing in it that two readers could take differently.

use crate::account::is_name;
use crate::cursor::Malformed;

/// Most bytes of a warrant in compact form: room for the longest texts, and
/// for a name of nothing but `\`. Only a name with more than a hundred control
/// characters may need more.
pub const MAX_WARRANT_BYTES: usize = 2048;
/// The longest life of a warrant, `exp` − `iat`, in seconds.
pub const MAX_LIFETIME_S: u64 = 60;
/// Most bytes of one text in the claims.
pub const MAX_TEXT_BYTES: usize = 255;
/// The `typ` of a warrant's header.
pub const TYPE: &str = "warrant+jwt";

const TEXT: Malformed =
    Malformed("warrant: texts must be 1 to 255 printable ASCII characters without \" and \\");

const NAME: Malformed =
    Malformed("warrant: the name must be one that an account can have, in its one spelling");

/// What a warrant says. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The auth service that made it.
    pub iss: String,
    /// The shim that it is for.
    pub aud: String,
    /// The account's name.
    pub sub: String,
    /// The account's user id.
    pub uid: u32,
    /// The SHA-256 of the encoded launch.
    pub job_sha256: [u8; 32],
    /// Its unique id, 128 random bits.
    pub jti: [u8; 16],
    /// When it was made.
    pub iat: u64,
    /// From when on it counts.
    pub nbf: u64,
    /// When it ends.
    pub exp: u64,
}

/// The header of a warrant that was signed with the key `kid`.
#[must_use]
pub fn header(kid: &str) -> String {
    format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{TYPE}"}}"#)
}

/// Whether `kid` can name a key: 1 to 64 letters, digits, `-` and `_`.
#[must_use]
pub fn is_key_id(kid: &str) -> bool {
    (1..=64).contains(&kid.len())
        && kid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Claims {
    /// The payload.
    ///
    /// Errors: a text that the payload cannot hold.
    pub fn encode(&self) -> Result<String, Malformed> {
        if ![&self.iss, &self.aud]
            .into_iter()
            .all(|text| is_text(text.as_bytes()))
        {
            return Err(TEXT);
        }
        if !is_name(&self.sub) {
            return Err(NAME);
        }
        Ok(format!(
            r#"{{"iss":"{}","aud":"{}","sub":"{}","uid":{},"job_sha256":"{}","jti":"{}","iat":{},"nbf":{},"exp":{}}}"#,
            self.iss,
            self.aud,
            escaped(&self.sub),
            self.uid,
            hex(&self.job_sha256),
            hex(&self.jti),
            self.iat,
            self.nbf,
            self.exp,
        ))
    }

    /// Reads a payload.
    ///
    /// Errors: anything that [`Claims::encode`] would not have written.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut from = Payload(payload);
        let claims = Self {
            iss: from.text(r#"{"iss":""#)?,
            aud: from.text(r#","aud":""#)?,
            sub: from.name(r#","sub":""#)?,
            uid: u32::try_from(from.number(r#","uid":"#)?)
                .map_err(|_| Malformed("warrant: uid must be below 2^32"))?,
            job_sha256: from.bytes(r#","job_sha256":""#)?,
            jti: from.bytes(r#","jti":""#)?,
            iat: from.number(r#","iat":"#)?,
            nbf: from.number(r#","nbf":"#)?,
            exp: from.number(r#","exp":"#)?,
        };
        from.expect("}")?;
        match from.0 {
            [] => Ok(claims),
            _ => Err(FORM),
        }
    }
}

const FORM: Malformed = Malformed("warrant: the claims are not in the one form that is accepted");

/// What is left of a payload.
struct Payload<'a>(&'a [u8]);

impl Payload<'_> {
    fn expect(&mut self, text: &str) -> Result<(), Malformed> {
        self.0 = self.0.strip_prefix(text.as_bytes()).ok_or(FORM)?;
        Ok(())
    }

    fn take_while(&mut self, mut fits: impl FnMut(&u8) -> bool) -> &[u8] {
        let end = self.0.iter().position(|byte| !fits(byte));
        let (taken, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A text behind `label`, and the quotation mark that ends it.
    fn text(&mut self, label: &str) -> Result<String, Malformed> {
        self.expect(label)?;
        let text = self.take_while(|byte| *byte != b'"');
        if !is_text(text) {
            return Err(TEXT);
        }
        let text = String::from_utf8(text.to_vec()).map_err(|_| TEXT)?;
        self.expect("\"")?;
        Ok(text)
    }

    /// The name of an account behind `label`, and the quotation mark that ends
    /// it.
    fn name(&mut self, label: &str) -> Result<String, Malformed> {
        self.expect(label)?;
        let mut is_escaped = false;
        let written = self.take_while(|byte| {
            let ends = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            !ends
        });
        let written = std::str::from_utf8(written).map_err(|_| NAME)?;
        let name = unescaped(written).ok_or(FORM)?;
        // The one spelling of this name, and a name.
        if escaped(&name) != written || !is_name(&name) {
            return Err(NAME);
        }
        self.expect("\"")?;
        Ok(name)
    }

    /// A whole number behind `label`, without sign or leading zeros.
    fn number(&mut self, label: &str) -> Result<u64, Malformed> {
        self.expect(label)?;
        let digits = self.take_while(u8::is_ascii_digit);
        if digits.is_empty() || (digits.len() > 1 && digits.first() == Some(&b'0')) {
            return Err(FORM);
        }
        let text = std::str::from_utf8(digits).map_err(|_| FORM)?;
        text.parse()
            .map_err(|_| Malformed("warrant: numbers must be below 2^64"))
    }

    /// `N` bytes in lower-case hexadecimal behind `label`, and the quotation
    /// mark that ends them.
    fn bytes<const N: usize>(&mut self, label: &str) -> Result<[u8; N], Malformed> {
        self.expect(label)?;
        let digits = self.take_while(|byte| *byte != b'"');
        let bytes = from_hex(digits).ok_or(FORM)?;
        self.expect("\"")?;
        Ok(bytes)
    }
}

/// Printable ASCII that JSON needs no escape for.
fn is_text(text: &[u8]) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len())
        && text
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
}

/// A name within quotation marks in JSON: `"` and `\` behind a `\`, control
/// characters as `\u00xx`, all else as it is. Source: RFC 8259 §7.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

/// What [`escaped`] wrote, and perhaps more; `None` if it is none of that.
fn unescaped(written: &str) -> Option<String> {
    let mut out = String::with_capacity(written.len());
    let mut rest = written;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        rest = match escape.strip_prefix("u00") {
            Some(digits) => {
                let (digits, behind) = digits.split_at_checked(2)?;
                out.push(char::from(u8::from_str_radix(digits, 16).ok()?));
                behind
            }
            None => {
                let mut rest = escape.chars();
                out.push(rest.next()?);
                rest.as_str()
            }
        };
    }
    out.push_str(rest);
    Some(out)
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// `N` bytes from exactly 2·`N` lower-case hexadecimal digits.
#[must_use]
pub fn from_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a')?.checked_add(10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            iss: "https://jobs.example.org".into(),
            aud: "node-1".into(),
            sub: "alice".into(),
            uid: 1001,
            job_sha256: [0xab; 32],
            jti: [0x0f; 16],
            iat: 1_760_000_000,
            nbf: 1_760_000_000,
            exp: 1_760_000_060,
        }
    }

    #[test]
    fn claims_that_are_written_are_read_back() {
        let payload = claims().encode().unwrap();
        assert_eq!(Claims::decode(payload.as_bytes()), Ok(claims()));
        let largest = Claims {
            uid: u32::MAX,
            iat: u64::MAX,
            nbf: 0,
            ..claims()
        };
        let payload = largest.encode().unwrap();
        assert_eq!(Claims::decode(payload.as_bytes()), Ok(largest));
    }

    #[test]
    fn no_other_spelling_of_the_same_claims_is_read() {
        let good = claims().encode().unwrap();
        let other = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        for payload in [
            String::new(),
            good[..good.len() - 1].to_owned(),
            format!("{good} "),
            format!(" {good}"),
            format!("{good}{good}"),
            other(r#","aud""#, r#", "aud""#),
            other("\"uid\":1001", "\"uid\":\"1001\""),
            other("\"uid\":1001", "\"uid\":1001.0"),
            other("\"uid\":1001", "\"uid\":1e3"),
            other("\"uid\":1001", "\"uid\":-1"),
            other("\"uid\":1001", "\"uid\":+1001"),
            other("\"uid\":1001", "\"uid\":01001"),
            other("\"uid\":1001", "\"uid\":4294967296"),
            other("\"uid\":1001", "\"uid\":1001,\"uid\":0"),
            other("\"uid\":1001", "\"uid\":null"),
            other("\"exp\":1760000060", "\"exp\":18446744073709551616"),
            other("\"exp\":1760000060", "\"exp\":NaN"),
            other("}", ",\"admin\":true}"),
            other("\"sub\":\"alice\"", "\"sub\":\"\""),
            other("\"sub\":\"alice\"", "\"sub\":\"\\u0061lice\""),
            other("\"sub\":\"alice\"", "\"sub\":\"al\u{1}ce\""),
            other("\"sub\":\"alice\"", "\"sub\":\"al\\u001Bce\""),
            other("\"sub\":\"alice\"", "\"sub\":\"al\\tce\""),
            other("\"sub\":\"alice\"", "\"sub\":\"al\\/ce\""),
            other("\"sub\":\"alice\"", "\"sub\":\"al\\u00e9ce\""),
            other("\"sub\":\"alice\"", "\"sub\":\"alice\\\""),
            other("\"sub\":\"alice\"", "\"sub\":\"-alice\""),
            other("\"iss\":\"https", "\"iss\":\"ħttps"),
            other("\"sub\":\"alice\",", ""),
            other("\"aud\":\"node-1\"", "\"aud\":[\"node-1\",\"node-2\"]"),
            other("abab", "ABAB"),
            other("abab", "ab"),
            other("0f0f", "0f0f0f"),
            other("job_sha256", "job_sha1"),
        ] {
            assert!(Claims::decode(payload.as_bytes()).is_err(), "{payload}");
        }
    }

    #[test]
    fn changing_any_byte_changes_or_breaks_the_claims() {
        let good = claims().encode().unwrap().into_bytes();
        for at in 0..good.len() {
            for byte in 0..=u8::MAX {
                let mut payload = good.clone();
                payload[at] = byte;
                let Ok(read) = Claims::decode(&payload) else {
                    continue;
                };
                assert_eq!(read.encode().unwrap().into_bytes(), payload);
            }
        }
    }

    #[test]
    fn a_text_that_would_need_an_escape_is_not_written() {
        for iss in ["", "a\"b", "a\\b", "a\nb", "é", &"a".repeat(256)] {
            let claims = Claims {
                iss: iss.into(),
                ..claims()
            };
            assert!(claims.encode().is_err(), "{iss}");
        }
    }

    #[test]
    fn t134_any_name_of_an_account_is_written_in_one_way_that_every_reader_takes() {
        let longest = "\u{1}".repeat(255);
        for (sub, written) in [
            ("CORP\\alice", r"CORP\\alice"),
            ("a\"b", r#"a\"b"#),
            ("a\\\"", r#"a\\\""#),
            ("\\", r"\\"),
            ("a\tb", r"a\u0009b"),
            ("0day", "0day"),
            ("first last", "first last"),
            ("jürgen@example.org", "jürgen@example.org"),
            (&*longest, &*r"\u0001".repeat(255)),
        ] {
            let claims = Claims {
                sub: sub.into(),
                ..claims()
            };
            let payload = claims.encode().unwrap();
            assert!(
                payload.contains(&format!("\"sub\":\"{written}\"")),
                "{payload}"
            );
            assert_eq!(Claims::decode(payload.as_bytes()), Ok(claims), "{sub}");
        }
        for sub in ["", "-a", "a/b", "a\nb", &"a".repeat(256)] {
            let claims = Claims {
                sub: sub.into(),
                ..claims()
            };
            assert!(claims.encode().is_err(), "{sub}");
        }
    }

    #[test]
    fn the_id_of_a_key_is_a_plain_word() {
        assert!(is_key_id("2026-11_a"));
        for kid in ["", "../../etc/passwd", "' OR 1=1", "a\0", &"k".repeat(65)] {
            assert!(!is_key_id(kid), "{kid}");
        }
        assert_eq!(
            header("k1"),
            r#"{"alg":"EdDSA","kid":"k1","typ":"warrant+jwt"}"#
        );
    }
}
