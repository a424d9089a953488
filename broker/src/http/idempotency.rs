//! The header `Idempotency-Key`, for every dialect: a submission that is sent
//! again is not another job. Source: draft-ietf-httpapi-idempotency-key-header;
//! strings of RFC 9651 §3.3.3.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::model::{Dialect, RequestKey};

/// The header.
pub(super) const HEADER: &str = "Idempotency-Key";
/// The most bytes of a key.
const LONGEST: usize = 255;

/// The key of a request, if it has one. `request` is what the dialect read of it,
/// spelt the same whenever the same is asked for.
///
/// Errors: the header is not what it should be; names it and what is allowed.
pub(super) fn of_request(
    headers: &HeaderMap,
    dialect: Dialect,
    request: &[u8],
) -> Result<Option<RequestKey>, String> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    if given.next().is_some() {
        return Err(format!("{HEADER}: it may be given once"));
    }
    let key = parse(value.as_bytes()).ok_or_else(|| {
        format!(
            "{HEADER}: it must be 1 to {LONGEST} bytes of printable ASCII, as in \"8e03978e\"; \
             without quotation marks it may hold neither these nor commas"
        )
    })?;
    let mut hash = Sha256::new();
    hash.update(dialect.word());
    hash.update([0]);
    hash.update(request);
    Ok(Some(RequestKey {
        key,
        request_sha256: URL_SAFE_NO_PAD.encode(hash.finalize()),
    }))
}

/// A string in quotation marks, or the bare text that many clients send.
fn parse(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let key = match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
        None if text.contains(['"', ',']) => return None,
        None => text.to_owned(),
    };
    let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    ((1..=LONGEST).contains(&key.len()) && printable).then_some(key)
}

/// What stands between quotation marks. A backslash stands before a backslash or
/// a quotation mark, and these nowhere by themselves.
fn unquoted(text: &str) -> Option<String> {
    let mut key = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        key.push(match letter {
            '\\' => letters.next().filter(|it| ['\\', '"'].contains(it))?,
            '"' => return None,
            plain => plain,
        });
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn key(values: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).unwrap();
            headers.append("idempotency-key", value);
        }
        let of = of_request(&headers, Dialect::Flux, b"x")?;
        Ok(of.map(|of| of.key))
    }

    #[test]
    fn a_key_is_a_string_of_structured_fields_or_bare() {
        assert_eq!(key(&[]), Ok(None));
        let longest = "k".repeat(LONGEST);
        for (sent, means) in [
            (r#""8e03978e-40d5""#, "8e03978e-40d5"),
            ("8e03978e-40d5", "8e03978e-40d5"),
            (r#" "a \"b\" \\c" "#, r#"a "b" \c"#),
            (r#"",""#, ","),
            ("a=b/c+d;e", "a=b/c+d;e"),
            (&longest, &longest),
        ] {
            assert_eq!(key(&[sent.as_bytes()]), Ok(Some(means.into())), "{sent}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_the_header_named() {
        let long = "k".repeat(LONGEST + 1);
        let quoted = format!("\"{long}\"");
        for sent in [
            "",
            " ",
            "\"\"",
            "\"",
            "\"a",
            "a\"",
            "a, b",
            "\"a\", \"b\"",
            r#""a\b""#,
            r#""a\""#,
            "\"a\"b\"",
            "a\tb",
            "ü",
            "\"ü\"",
            &long,
            &quoted,
        ] {
            let why = key(&[sent.as_bytes()]).unwrap_err();
            assert!(why.starts_with("Idempotency-Key: "), "{sent}: {why}");
        }
        assert!(key(&[b"\xff"]).is_err() && key(&[b"a", b"a"]).is_err());
    }

    #[test]
    fn the_hash_tells_requests_apart() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", HeaderValue::from_static("k"));
        let hash = |request: &[u8]| {
            let of = of_request(&headers, Dialect::Flux, request).unwrap();
            of.unwrap().request_sha256
        };
        assert_eq!(hash(b"a"), hash(b"a"));
        assert_ne!(hash(b"a"), hash(b"b"));
    }
}
