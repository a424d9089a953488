//! Requests that two readers could understand in two ways.

use http::header::{AUTHORIZATION, HOST, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, Uri, Version};

/// The header of API keys.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
}

/// See that a request can be understood in one way only.
///
/// Errors: what is wrong with it, for the caller.
pub(crate) fn check(head: &Head<'_>) -> Result<(), &'static str> {
    if head.uri.scheme().is_some() || head.uri.authority().is_some() {
        return Err("The request's target must be a path.");
    }
    match count(head.headers, &HOST) {
        1 => {}
        // Source: RFC 9112 §3.2; older requests need none.
        0 if head.version < Version::HTTP_11 => {}
        _ => return Err("The header Host is needed once."),
    }
    if count(head.headers, &AUTHORIZATION) > 1 {
        return Err("The header Authorization may be there once.");
    }
    if count(head.headers, &API_KEY) > 1 {
        return Err("The header X-API-Key may be there once.");
    }
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let plain = codings
        .next()
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !plain || codings.next().is_some() {
        return Err("The only Transfer-Encoding that is understood is chunked.");
    }
    if is_plain(head.uri.path()) {
        Ok(())
    } else {
        Err("The path holds dot segments, or encoded slashes or zeros.")
    }
}

fn count(headers: &HeaderMap, name: &HeaderName) -> usize {
    headers.get_all(name).iter().count()
}

/// Whether a path names the same thing before and after it is decoded.
fn is_plain(path: &str) -> bool {
    if !path.contains(['%', '.', '\\']) {
        return true;
    }
    let lower = path.to_ascii_lowercase();
    let hidden = ["%2f", "%5c", "%00", "\\"];
    let dots = |segment: &str| matches!(segment.replace("%2e", ".").as_str(), "." | "..");
    !hidden.iter().any(|piece| lower.contains(piece)) && !lower.split('/').any(dots)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judged(uri: &str, headers: &[(&str, &str)]) -> Result<(), &'static str> {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        check(&Head {
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
        })
    }

    #[test]
    fn t111_an_ordinary_request_passes() {
        let host = ("host", "x");
        for path in [
            "/v1/jobs/%C6%92abc/output?path=../..%2f",
            "/v1/jobs/0000.0000.0000.002a",
            "/.well-known/jwks.json",
            "/docs/swagger-ui.css",
        ] {
            assert_eq!(judged(path, &[host]), Ok(()), "{path}");
        }
        let chunked = [host, ("transfer-encoding", "Chunked")];
        assert_eq!(judged("/", &chunked), Ok(()));
    }

    #[test]
    fn t111_what_has_two_meanings_is_refused() {
        let host = ("host", "x");
        for (uri, headers) in [
            ("/", &[][..]),
            ("/", &[host, host]),
            ("/", &[host, ("authorization", "a"), ("authorization", "a")]),
            ("/", &[host, ("x-api-key", "a"), ("x-api-key", "b")]),
            ("/", &[host, ("transfer-encoding", "gzip, chunked")]),
            ("http://x/v1/jobs", &[host]),
            ("/v1/%2e%2E/x", &[host]),
            ("/v1/./x", &[host]),
            ("/v1/..", &[host]),
            ("/v1/jobs%2F1", &[host]),
            ("/docs/..%5cx", &[host]),
            ("/v1/jobs/1%00", &[host]),
        ] {
            assert!(judged(uri, headers).is_err(), "{uri} {headers:?}");
        }
    }
}
