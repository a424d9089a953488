//! Which page a browser says a request comes from. Source: the Fetch Standard
//! (`Origin`), Fetch Metadata Request Headers (`Sec-Fetch-Site`).

use http::HeaderMap;
use http::header::{HeaderName, ORIGIN};

/// How far the page that sends a request is from the one that it is sent to.
pub const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What a browser wants the answer for.
pub const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Where a server's own pages are: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(Box<str>);

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A page of the server's own.
    Own,
    /// The person at the browser: an address that was typed in, a bookmark.
    Person,
    /// Another page, or one that does not say which.
    Foreign,
    /// Nobody says: no browser, or an old one.
    Unsaid,
}

impl Origin {
    /// The origin of `url`, which is `http` or `https`; `None` where it has
    /// none. Source: RFC 6454 §4, §6.2.
    pub fn of_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let host = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
        let host = host.strip_suffix(usual).unwrap_or(&host);
        let plain = !host.is_empty() && !host.contains(['@', '\\', ' ']);
        plain.then(|| Self(format!("{scheme}://{host}").into()))
    }

    /// As browsers write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nobody can listen on the way: `https`, or this very machine.
    pub fn is_private(&self) -> bool {
        let Some(host) = self.0.strip_prefix("http://") else {
            return true;
        };
        ["127.0.0.1", "[::1]", "localhost"]
            .iter()
            .filter_map(|here| host.strip_prefix(here))
            .any(|rest| rest.is_empty() || rest.starts_with(':'))
    }

    /// Who sends a request with these headers. No page can set them.
    pub fn sender(&self, headers: &HeaderMap) -> Sender {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (Some(origin), None) if origin.as_bytes() == self.0.as_bytes() => Sender::Own,
            (Some(_), _) => Sender::Foreign,
            (None, _) => match headers.get(FETCH_SITE).map(|site| site.as_bytes()) {
                None => Sender::Unsaid,
                Some(b"same-origin") => Sender::Own,
                Some(b"none") => Sender::Person,
                Some(_) => Sender::Foreign,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (url, origin) in [
            ("https://jobs.example.org", "https://jobs.example.org"),
            (
                "https://Jobs.example.org:443/a/b",
                "https://jobs.example.org",
            ),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("http://host:80?x", "http://host"),
            ("https://host:80", "https://host:80"),
        ] {
            assert_eq!(Origin::of_url(url).unwrap().as_str(), origin, "{url}");
        }
        for url in ["", "host", "ftp://host", "https://", "https://a@b", "null"] {
            assert_eq!(Origin::of_url(url), None, "{url}");
        }
    }

    #[test]
    fn what_travels_in_the_clear_is_private_on_this_machine_alone() {
        let private = |url| Origin::of_url(url).unwrap().is_private();
        assert!(private("https://jobs.example.org") && private("http://[::1]:5000"));
        assert!(private("http://localhost") && private("http://127.0.0.1:5000"));
        assert!(!private("http://jobs.example.org") && !private("http://127.0.0.1.evil.test"));
        assert!(!private("http://localhost.evil.test:5000"));
    }

    #[test]
    fn t113_only_what_the_servers_own_pages_send_is_its_own() {
        let own = Origin::of_url("http://127.0.0.1:5000").unwrap();
        let sender = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            own.sender(&map)
        };
        let here = ("origin", "http://127.0.0.1:5000");
        assert_eq!(sender(&[here]), Sender::Own);
        assert_eq!(sender(&[("sec-fetch-site", "same-origin")]), Sender::Own);
        assert_eq!(sender(&[("sec-fetch-site", "none")]), Sender::Person);
        assert_eq!(sender(&[]), Sender::Unsaid);
        for foreign in [
            &[("origin", "http://127.0.0.1:5001")][..],
            &[("origin", "https://127.0.0.1:5000")],
            &[("origin", "http://127.0.0.1:5000.evil.test")],
            &[("origin", "http://localhost:5000")],
            &[("origin", "null")],
            &[("origin", "")],
            &[here, here],
            &[here, ("origin", "http://evil.test")],
            &[("origin", "null"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "")],
        ] {
            assert_eq!(sender(foreign), Sender::Foreign, "{foreign:?}");
        }
    }
}
