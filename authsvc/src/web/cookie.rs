//! Cookies: what a browser shows once somebody signed in with it, and what it
//! shows until then.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use warrant_api::credential::web_cookie;

use super::page;
use crate::opaque;
use crate::secret::Secret;

/// The end of the name of the cookie of a browser that shows the form to sign in.
const BEFORE: &str = "-login";
/// The end of the name of the cookie of a browser that is at a provider's.
const AWAY: &str = "-oidc";
/// How long that form is good, in seconds.
const BEFORE_S: u64 = 3600;

/// What a browser shows that somebody signed in with.
pub(super) fn session(headers: &HeaderMap) -> Option<Secret> {
    find(headers, "")
}

/// What a browser shows that was given the form to sign in.
pub(super) fn before(headers: &HeaderMap) -> Option<Secret> {
    find(headers, BEFORE)
}

/// What a browser shows that was sent to a provider.
pub(super) fn away(headers: &HeaderMap) -> Option<Secret> {
    find(headers, AWAY)
}

/// Have the browser keep `value` while it is at a provider.
pub(super) fn keep_away(response: &mut Response, value: &Secret, life_s: u64) {
    set(response, AWAY, value.expose(), life_s);
}

/// Have the browser forget it.
pub(super) fn forget_away(response: &mut Response) {
    set(response, AWAY, "", 0);
}

/// The name of the cookie with this end. Its beginning makes browsers refuse one
/// that was set without TLS and, at the root of a host, one that was set for
/// several hosts. Source: RFC 6265bis, section 4.1.3.
fn name(end: &str) -> String {
    format!("{}{end}", web_cookie(page::prefix().as_str()))
}

/// The cookie whose name has this end, if there is one and it can be ours.
fn find(headers: &HeaderMap, end: &str) -> Option<Secret> {
    let name = name(end);
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name.as_str())
        .map(|(_, value)| Secret::new(value));
    let value = found.next().filter(|_| found.next().is_none())?;
    opaque::read(opaque::WEB, &value).map(|_| value)
}

/// Have the browser keep `value` for `life_s` seconds, to show it when somebody
/// signed in.
pub(super) fn keep_session(response: &mut Response, value: &Secret, life_s: u64) {
    set(response, "", value.expose(), life_s);
}

/// Have the browser forget it.
pub(super) fn forget_session(response: &mut Response) {
    set(response, "", "", 0);
}

/// Have the browser keep `value` while it shows the form to sign in.
pub(super) fn keep_before(response: &mut Response, value: &Secret) {
    set(response, BEFORE, value.expose(), BEFORE_S);
}

/// Have the browser forget it.
pub(super) fn forget_before(response: &mut Response) {
    set(response, BEFORE, "", 0);
}

/// Source: RFC 6265 §4.1.
fn set(response: &mut Response, end: &str, value: &str, life_s: u64) {
    let prefix = page::prefix();
    let path = match prefix.as_str() {
        "" => "/",
        path => path,
    };
    let name = name(end);
    let text =
        format!("{name}={value}; Path={path}; Max-Age={life_s}; Secure; HttpOnly; SameSite=Lax");
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use warrant_api::credential::WEB_COOKIE;

    use super::*;

    #[test]
    fn a_cookie_is_found_where_it_is_there_once() {
        let one = opaque::make(opaque::WEB).unwrap().0;
        let one = one.expose();
        let shown = |texts: &[String]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(header::COOKIE, text.parse().unwrap());
            }
            session(&headers).map(|found| found.expose().to_owned())
        };
        let own = format!("{WEB_COOKIE}={one}");
        assert_eq!(shown(std::slice::from_ref(&own)).as_deref(), Some(one));
        assert_eq!(shown(&[format!("a=b; {own}; c")]).as_deref(), Some(one));
        assert_eq!(shown(&["a=b".into(), own.clone()]).as_deref(), Some(one));
        for other in [
            vec![],
            vec![own.clone(), own.clone()],
            vec![format!("{own}; {own}")],
            vec![format!("warrant={one}")],
            vec![format!("{}={one}", WEB_COOKIE.to_lowercase())],
            vec![format!("{own}x")],
            vec![format!("{WEB_COOKIE}=\"{one}\"")],
            vec![format!("{WEB_COOKIE}{BEFORE}={one}")],
        ] {
            assert_eq!(shown(&other), None, "{other:?}");
        }
    }
}
