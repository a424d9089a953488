//! Requests as they are before they are routed: one spelling for each target
//! and media type, and a note of what is wrong with the rest.

use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::header::{HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Uri};
use http::{Request, StatusCode, Version};

use crate::Prefix;
use crate::guarded::{Conversation, Turn};
use crate::shape;

/// Why a request is refused before a handler sees it; kept among its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// 400, or 415 for a body that is compressed.
    pub status: StatusCode,
    /// What is wrong, for the caller.
    pub why: String,
}

impl Misread {
    /// 400.
    pub fn bad(why: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            why: why.into(),
        }
    }

    /// What the answer's head says besides. Source: RFC 9110 §12.5.3, §15.5.16.
    pub fn write(&self, headers: &mut HeaderMap) {
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
    }
}

/// Give a request's target and media type their one spelling, and judge its
/// head: what is wrong is put among its extensions as a [`Misread`]. Returns the
/// request's turn, which takes its answer.
pub fn settle<B>(request: &mut Request<B>, conversation: &Conversation) -> Turn {
    let framed = conversation.next();
    settle_media_type(request.headers_mut());
    let settled = settle_target(request.uri(), request.headers());
    let judged = settled.and_then(|target| {
        if let Some(target) = target {
            *request.uri_mut() = target;
        }
        framed.map_or(Ok(()), |why| Err(Misread::bad(why)))?;
        let head = shape::Head {
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
        };
        shape::check(&head).map_err(Misread::bad)?;
        check_coding(request.headers())?;
        check_query(request.uri())
    });
    if let Err(misread) = judged {
        request.extensions_mut().insert(misread);
    }
    let closes = |value: &HeaderValue| {
        let words = value.as_bytes().split(|byte| *byte == b',');
        let mut words = words.map(<[u8]>::trim_ascii);
        words.any(|word| word.eq_ignore_ascii_case(b"close"))
    };
    let closed = request.headers().get_all(CONNECTION).iter().any(closes);
    conversation.turn(request.version() == Version::HTTP_11 && !closed)
}

/// The target in origin form, with letters, digits, `-`, `.`, `_` and `~` of
/// its path as themselves; `None` where it is so already. Source: RFC 9112
/// §3.2.2; RFC 3986 §6.2.2.2.
///
/// Errors: an absolute target of another host than `Host` names.
fn settle_target(uri: &Uri, headers: &HeaderMap) -> Result<Option<Uri>, Misread> {
    const NO_PATH: &str = "The request's target must be a path, or a URL of this host.";
    if let Some(scheme) = uri.scheme_str() {
        let usual = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return Err(Misread::bad(NO_PATH)),
        };
        let plain = |host: &str| {
            let host = host.to_ascii_lowercase();
            host.strip_suffix(usual).map(str::to_owned).unwrap_or(host)
        };
        let named = uri.authority().map(|authority| plain(authority.as_str()));
        let host = headers.get(HOST).map(|host| host.to_str().map(plain));
        match (named, host) {
            (Some(named), Some(Ok(host))) if named == host => {}
            // Older requests need no Host. Source: RFC 9112 §3.2.
            (Some(_), None) => {}
            _ => {
                return Err(Misread::bad(
                    "The target's host must be that of the header Host.",
                ));
            }
        }
    }
    let path = unreserved(uri.path());
    if uri.scheme().is_none() && path.is_none() {
        return Ok(None);
    }
    let mut target = path.unwrap_or_else(|| uri.path().to_owned());
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let target = PathAndQuery::try_from(target).map_err(|_| Misread::bad(NO_PATH))?;
    Ok(Some(Uri::from(target)))
}

/// A path whose unreserved letters are decoded; `None` where none is encoded.
fn unreserved(path: &str) -> Option<String> {
    path.contains('%').then_some(())?;
    let mut settled = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        settled.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                settled.push(byte.into());
                rest = after.get(2..).unwrap_or_default();
            }
            Some(_) | None => {
                settled.push('%');
                rest = after;
            }
        }
    }
    settled.push_str(rest);
    (settled != path).then_some(settled)
}

/// Media types in small letters, which is how all of them are compared. Source:
/// RFC 9110 §8.3.1. What stands behind the `;` may be a boundary, which is not.
fn settle_media_type(headers: &mut HeaderMap) {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else {
        return;
    };
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    let mut settled = kind.trim().to_ascii_lowercase();
    if !parameters.trim().is_empty() {
        settled.push_str("; ");
        settled.push_str(parameters.trim());
    }
    if settled != value
        && let Ok(value) = HeaderValue::from_str(&settled)
    {
        headers.insert(CONTENT_TYPE, value);
    }
}

/// The media type of a settled request, without its parameters.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
    let value = value.and_then(Result::ok).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Errors: 415 for a body that is compressed.
fn check_coding(headers: &HeaderMap) -> Result<(), Misread> {
    let body = headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !body || headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    Err(Misread {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        why: "Content-Encoding: bodies are taken as they are, not compressed.".into(),
    })
}

/// Errors: a name or value that is not UTF-8.
fn check_query(uri: &Uri) -> Result<(), Misread> {
    match wrong_text(uri.query().unwrap_or_default().as_bytes()) {
        None => Ok(()),
        Some(name) => Err(Misread::bad(format!("The query's {name} is not UTF-8."))),
    }
}

/// The first name, of a form or a query, whose text is not UTF-8.
pub(crate) fn wrong_text(pairs: &[u8]) -> Option<String> {
    if !pairs.contains(&b'%') && pairs.is_ascii() {
        return None;
    }
    pairs.split(|byte| *byte == b'&').find_map(|pair| {
        let decoded: Vec<u8> = percent_encoding::percent_decode(pair).collect();
        std::str::from_utf8(&decoded).err()?;
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        let name = percent_encoding::percent_decode(name).decode_utf8_lossy();
        Some(name.chars().take(64).collect())
    })
}

/// Where a client of a server below `prefix` is sent that asked for one of `routes`
/// with a slash at its end: to the route, with the query. In a route, `{name}` stands
/// for a part of a path. Source: Starlette's `redirect_slashes`.
pub fn redirected_slash(
    uri: &Uri,
    routes: impl IntoIterator<Item = &'static str>,
    prefix: &Prefix,
) -> Option<String> {
    let path = without_slash(uri.path(), routes)?;
    let query = uri.query().map(|query| format!("?{query}"));
    Some(format!("{prefix}{path}{}", query.unwrap_or_default()))
}

/// `path` without the slash at its end, where one of `routes` then serves it.
fn without_slash(path: &str, routes: impl IntoIterator<Item = &'static str>) -> Option<&str> {
    let plain = path.strip_suffix('/')?;
    let serves = |route: &str| {
        let mut asked = plain.split('/');
        let fits = |part: &str| match asked.next() {
            Some(asked) => asked == part || (part.starts_with('{') && !asked.is_empty()),
            None => false,
        };
        !route.contains('*') && route.split('/').all(fits) && asked.next().is_none()
    };
    routes.into_iter().any(serves).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a request: its target and media type, or its refusal.
    fn settled(target: &str, headers: &[(&str, &str)]) -> Result<(String, String), u16> {
        let mut request = Request::post(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        settle(&mut request, &Conversation::default());
        if let Some(misread) = request.extensions().get::<Misread>() {
            return Err(misread.status.as_u16());
        }
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind.map_or("", |kind| kind.to_str().unwrap());
        Ok((request.uri().to_string(), kind.to_owned()))
    }

    #[test]
    fn t111_a_target_has_one_spelling() {
        for (target, host, expected) in [
            ("/v1/%6eodes?x=%6e", "x", Ok("/v1/nodes?x=%6e")),
            ("/v1/jobs/%C6%92a%2D", "x", Ok("/v1/jobs/%C6%92a-")),
            ("http://x/v1/nodes?a", "x", Ok("/v1/nodes?a")),
            ("http://X:80", "x", Ok("/")),
            ("https://x/", "x:443", Ok("/")),
            ("http://x:5000/", "x:5000", Ok("/")),
            ("http://x:5001/", "x:5000", Err(400)),
            ("http://evil/", "x", Err(400)),
            ("http://a@x/", "x", Err(400)),
            ("ftp://x/", "x", Err(400)),
            ("/v1/%2e%2E/x", "x", Err(400)),
            ("/v1/%2e/x", "x", Err(400)),
            ("/v1/jobs%2F1", "x", Err(400)),
            ("http://x/v1/..", "x", Err(400)),
            ("/?a=%FF", "x", Err(400)),
            ("/?%C0=a", "x", Err(400)),
        ] {
            let found = settled(target, &[("host", host)]).map(|(target, _)| target);
            assert_eq!(found, expected.map(str::to_owned), "{target}");
        }
    }

    #[test]
    fn media_types_are_the_same_in_any_letters() {
        for (kind, expected) in [
            (
                "Application/JSON ;Charset=UTF-8",
                "application/json; Charset=UTF-8",
            ),
            (
                "MULTIPART/Form-Data; Boundary=aB",
                "multipart/form-data; Boundary=aB",
            ),
            ("text/plain;", "text/plain"),
        ] {
            let headers = [("host", "x"), ("content-type", kind)];
            assert_eq!(settled("/", &headers).unwrap().1, expected);
        }
    }

    #[test]
    fn a_compressed_body_is_refused_and_none_is_none() {
        for (length, coding, expected) in [
            ("1", "gzip", true),
            ("1", "Identity", false),
            ("0", "gzip", false),
            ("9", "br", true),
        ] {
            let headers = [
                ("host", "x"),
                ("content-length", length),
                ("content-encoding", coding),
            ];
            assert_eq!(
                settled("/", &headers) == Err(415),
                expected,
                "{length} {coding}"
            );
        }
    }

    #[test]
    fn a_slash_too_many_leads_to_a_route_alone() {
        let routes = [
            "/v1/nodes",
            "/v1/jobs/{jobid}",
            "/v1/jobs/{jobid}/cancel",
            "/docs/{*path}",
        ];
        for (path, plain) in [
            ("/v1/nodes/", Some("/v1/nodes")),
            ("/v1/jobs/7/cancel/", Some("/v1/jobs/7/cancel")),
            ("/v1/jobs/7/", Some("/v1/jobs/7")),
            ("/v1/nodes", None),
            ("/", None),
            ("//evil.example/", None),
            ("//v1/nodes/", None),
            ("/v1/nodes//", None),
            ("/v1/jobs//cancel/", None),
            ("/docs/x/", None),
        ] {
            assert_eq!(without_slash(path, routes), plain, "{path}");
        }
    }
}
