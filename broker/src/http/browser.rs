//! What a browser shows by itself, whoever asks it to: cookies and HTTP Basic.
//! Another page can have it send them, so that it must be seen which page asks.

use std::sync::Arc;

use axum::http::header::{COOKIE, ORIGIN};
use axum::http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use warrant_api::credential::{CSRF_HEADER, WEB_COOKIE, WEB_COOKIE_BELOW};
use warrant_door::origin::{FETCH_MODE, Origin, Sender};

/// What a caller was let in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum By {
    /// What no browser shows by itself: a token, a key, or nothing at all.
    Program,
    /// A name and a password.
    Basic,
    /// A cookie.
    Cookie {
        /// What must come with whatever changes something.
        csrf: Arc<str>,
    },
}

/// Why a request is refused that a browser sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unasked {
    /// A page of another server asked for it, or none that says so.
    Origin,
    /// It does not show that the page was given to this browser.
    Csrf,
}

impl Unasked {
    /// In one stable word.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Csrf => "csrf",
        }
    }

    /// For people.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Origin => "The request was not sent by a page of this server.",
            Self::Csrf => {
                "The header X-Warrant-CSRF is needed, with the value that GET /v1/session tells."
            }
        }
    }
}

/// See that whoever is at the browser asked for this: what changes something
/// comes from a page of `own` and, with a cookie, shows its token; what another
/// page asks for is never read, unless somebody followed a link to it.
///
/// Errors: [`Unasked`].
pub(super) fn check(
    by: &By,
    method: &Method,
    headers: &HeaderMap,
    own: &Origin,
) -> Result<(), Unasked> {
    let sender = match by {
        By::Program => return Ok(()),
        By::Basic | By::Cookie { .. } => own.sender(headers),
    };
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let followed = !headers.contains_key(ORIGIN)
        && headers
            .get(FETCH_MODE)
            .is_some_and(|mode| mode == "navigate");
    match (by, sender) {
        (_, Sender::Foreign) if reads && followed => Ok(()),
        (_, Sender::Foreign) => Err(Unasked::Origin),
        (By::Cookie { csrf }, Sender::Own) if !reads => {
            let shown = headers.get(CSRF_HEADER).map(|shown| shown.as_bytes());
            let same = |shown| Sha256::digest(shown) == Sha256::digest(csrf.as_bytes());
            shown.is_some_and(same).then_some(()).ok_or(Unasked::Csrf)
        }
        (By::Cookie { .. }, Sender::Person | Sender::Unsaid) if !reads => Err(Unasked::Origin),
        (By::Cookie { .. } | By::Basic | By::Program, _) => Ok(()),
    }
}

/// The cookie called `name` of a browser that somebody signed in with, where it is
/// there once.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = pairs(headers)
        .filter_map(|pair| pair.split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value);
    found.next().filter(|_| found.next().is_none())
}

/// Cookies of ours, to be handed on to the auth service.
pub(super) fn our_cookies(headers: &HeaderMap) -> Option<String> {
    let ours: Vec<_> = pairs(headers)
        .filter(|pair| pair.starts_with(WEB_COOKIE) || pair.starts_with(WEB_COOKIE_BELOW))
        .collect();
    (!ours.is_empty()).then(|| ours.join("; "))
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "http://127.0.0.1:5000";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn judged(by: &By, method: &Method, pairs: &[(&'static str, &str)]) -> Result<(), Unasked> {
        check(by, method, &headers(pairs), &Origin::of_url(OWN).unwrap())
    }

    #[test]
    fn t113_with_a_cookie_nothing_is_changed_without_its_token_and_its_page() {
        let by = By::Cookie {
            csrf: "token".into(),
        };
        let own = ("origin", OWN);
        let same = ("sec-fetch-site", "same-origin");
        let token = ("x-warrant-csrf", "token");
        for method in [Method::POST, Method::DELETE, Method::PUT] {
            let judge = |pairs: &[(&'static str, &str)]| judged(&by, &method, pairs);
            assert_eq!(judge(&[own, token]), Ok(()));
            assert_eq!(judge(&[same, token]), Ok(()));
            for origin in [
                &[][..],
                &[("sec-fetch-site", "none")],
                &[("sec-fetch-site", "same-site")],
                &[("sec-fetch-site", "cross-site")],
                &[("origin", "null"), same],
                &[("origin", "http://127.0.0.1:5001")],
                &[own, own],
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                ],
            ] {
                let pairs = [origin, &[token]].concat();
                assert_eq!(judge(&pairs), Err(Unasked::Origin), "{pairs:?}");
            }
            for shown in ["", "Token", "token2"] {
                let shown = ("x-warrant-csrf", shown);
                assert_eq!(judge(&[own, shown]), Err(Unasked::Csrf));
            }
            assert_eq!(judge(&[own]), Err(Unasked::Csrf));
        }
    }

    #[test]
    fn t113_what_another_page_asks_for_is_not_read_with_a_cookie_or_a_password() {
        let csrf = "token".into();
        for by in [By::Cookie { csrf }, By::Basic] {
            let read = |pairs: &[(&'static str, &str)]| judged(&by, &Method::GET, pairs);
            for ours in [
                &[][..],
                &[("origin", OWN)],
                &[("sec-fetch-site", "none")],
                &[("sec-fetch-site", "same-origin")],
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                ],
            ] {
                assert_eq!(read(ours), Ok(()), "{ours:?}");
            }
            for foreign in [
                &[("origin", "http://evil.test")][..],
                &[
                    ("origin", "http://evil.test"),
                    ("sec-fetch-mode", "navigate"),
                ],
                &[
                    ("origin", "http://evil.test"),
                    ("sec-fetch-mode", "websocket"),
                ],
                &[("sec-fetch-site", "same-site")],
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                ],
            ] {
                assert_eq!(read(foreign), Err(Unasked::Origin), "{foreign:?}");
            }
        }
    }

    #[test]
    fn t113_a_password_that_a_browser_resends_by_itself_changes_nothing_for_others() {
        let post = |pairs: &[(&'static str, &str)]| judged(&By::Basic, &Method::POST, pairs);
        for ours in [
            &[][..],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", OWN)],
        ] {
            assert_eq!(post(ours), Ok(()), "{ours:?}");
        }
        for foreign in [
            &[("sec-fetch-site", "same-site")][..],
            &[("sec-fetch-site", "cross-site")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
            ],
            &[("origin", "null")],
        ] {
            assert_eq!(post(foreign), Err(Unasked::Origin), "{foreign:?}");
        }
    }

    #[test]
    fn programs_say_nothing_of_pages() {
        let evil = [("origin", "http://evil.test")];
        assert_eq!(judged(&By::Program, &Method::POST, &evil), Ok(()));
    }

    #[test]
    fn ours_are_found_among_other_cookies() {
        let map = headers(&[
            ("cookie", "a=b; __Host-warrant=one; c"),
            ("cookie", "__Host-warrant-login=two; __host-warrant=x"),
        ]);
        assert_eq!(cookie(&map, WEB_COOKIE), Some("one"));
        assert_eq!(
            our_cookies(&map).as_deref(),
            Some("__Host-warrant=one; __Host-warrant-login=two")
        );
        let twice = headers(&[("cookie", "__Host-warrant=one; __Host-warrant=two")]);
        assert_eq!(cookie(&twice, WEB_COOKIE), None);
        assert_eq!(
            (
                cookie(&headers(&[]), WEB_COOKIE),
                our_cookies(&headers(&[]))
            ),
            (None, None)
        );
    }
}
