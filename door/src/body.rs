//! Bodies as the handlers read them: forms in one coding, text as UTF-8.

use std::convert::Infallible;

use bytes::Bytes;
use form_urlencoded::Serializer;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use multer::Multipart;

use crate::settled::{Misread, media_type, wrong_text};

/// The media type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// The most fields of a form.
const FIELDS: usize = 1000;

/// A whole body of a settled request, as handlers read it: a multipart form
/// is an ordinary one, and `headers` say so; JSON is UTF-8 without a byte order
/// mark.
///
/// Errors: text that is not UTF-8, with its field; a form that is broken or
/// holds files.
pub async fn readable(headers: &mut HeaderMap, body: Bytes) -> Result<Bytes, Misread> {
    let kind = media_type(headers);
    if kind == "multipart/form-data" {
        let form = ordinary(headers, body).await?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(form.len()));
        return Ok(form);
    }
    if kind == FORM {
        return match wrong_text(&body) {
            None => Ok(body),
            Some(name) => Err(Misread::bad(format!("The form's {name} is not UTF-8."))),
        };
    }
    let plain = unmarked(body)?;
    if headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(plain.len()));
    }
    Ok(plain)
}

async fn ordinary(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Misread> {
    let broken = |_| Misread::bad("The form is no multipart/form-data.");
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(broken)?;
    let whole = stream::iter([Ok::<_, Infallible>(body)]);
    let mut parts = Multipart::new(whole, boundary);
    let mut fields: Vec<(String, String)> = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        if part.file_name().is_some() || fields.len() >= FIELDS {
            return Err(Misread::bad(format!(
                "The form's {name:.64} must be text, and there may be {FIELDS} fields."
            )));
        }
        let value = part.bytes().await.map_err(broken)?;
        let value = std::str::from_utf8(&value)
            .map_err(|_| Misread::bad(format!("The form's {name:.64} is not UTF-8.")))?;
        fields.push((name, value.to_owned()));
    }
    let mut form = Serializer::new(String::new());
    Ok(form.extend_pairs(fields).finish().into())
}

/// Text without its byte order mark, in UTF-8; other bytes as they are. Source:
/// what Python's `json.loads` takes.
///
/// Errors: it has a mark and is not what the mark says.
fn unmarked(body: Bytes) -> Result<Bytes, Misread> {
    let unreadable = || Misread::bad("The body is not the Unicode that its byte order mark says.");
    let wide = |bytes: &[u8], read: fn([u8; 4]) -> u32| {
        let (letters, rest) = bytes.as_chunks::<4>();
        let text = letters.iter().map(|letter| char::from_u32(read(*letter)));
        let text = text.collect::<Option<String>>().filter(|_| rest.is_empty());
        text.map(Bytes::from).ok_or_else(unreadable)
    };
    let half = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes.as_chunks::<2>();
        let text = char::decode_utf16(units.iter().map(|unit| read(*unit)));
        let text = text
            .collect::<Result<String, _>>()
            .ok()
            .filter(|_| rest.is_empty());
        text.map(Bytes::from).ok_or_else(unreadable)
    };
    match &*body {
        [0xEF, 0xBB, 0xBF, ..] => Ok(body.slice(3..)),
        [0xFF, 0xFE, 0, 0, rest @ ..] => wide(rest, u32::from_le_bytes),
        [0, 0, 0xFE, 0xFF, rest @ ..] => wide(rest, u32::from_be_bytes),
        [0xFF, 0xFE, rest @ ..] => half(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => half(rest, u16::from_be_bytes),
        _ => Ok(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(kind: &str, body: &[u8]) -> Result<(String, Bytes), String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        let body = readable(&mut headers, Bytes::copy_from_slice(body)).await;
        let body = body.map_err(|misread| misread.why)?;
        Ok((media_type(&headers).to_owned(), body))
    }

    #[tokio::test]
    async fn a_multipart_form_is_an_ordinary_one() {
        let body =
            b"--x\r\nContent-Disposition: form-data; name=\"user name\"\r\n\r\na&b=\xc3\xa9\r\n\
                     --x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n\r\n--x--\r\n";
        let (kind, form) = read("multipart/form-data; BOUNDARY=x", body).await.unwrap();
        assert_eq!(kind, FORM);
        assert_eq!(&*form, b"user+name=a%26b%3D%C3%A9&b=");
        for (what, body) in [
            ("cut", &b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb"[..]),
            ("latin", b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\xe9\r\n--x--\r\n"),
            ("file", b"--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n\r\nc\r\n--x--\r\n"),
        ] {
            assert!(read("multipart/form-data; boundary=x", body).await.is_err(), "{what}");
        }
        assert!(read("multipart/form-data", body).await.is_err());
    }

    #[tokio::test]
    async fn text_is_utf_8_or_refused_by_name() {
        assert!(read(FORM, b"a=%C3%A9&b=\xc3\xa9").await.is_ok());
        let why = read(FORM, b"a=1&pass%77ord=%E9").await.unwrap_err();
        assert_eq!(why, "The form's password is not UTF-8.");
        let utf16: Vec<u8> = "\u{feff}{\"é\":\"😀\"}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let utf32: Vec<u8> = "\u{feff}{}"
            .chars()
            .flat_map(|c| u32::from(c).to_be_bytes())
            .collect();
        for (body, expected) in [
            (&b"\xef\xbb\xbf{}"[..], "{}"),
            (b"{}", "{}"),
            (&utf16, "{\"é\":\"😀\"}"),
            (&utf32, "{}"),
        ] {
            assert_eq!(
                &*read("application/json", body).await.unwrap().1,
                expected.as_bytes()
            );
        }
        assert!(read("application/json", b"\xff\xfe{").await.is_err());
        assert!(read("application/json", b"\xff\xfe\x00\xd8").await.is_err());
    }
}
