//! Addresses, spelled one way: what a proof says of its request is compared
//! with what the request is. Source: RFC 9449 §4.3, RFC 3986 §6.2.2 and §6.2.3.

/// The longest address, in bytes.
const LONGEST: usize = 2048;

/// An address without query and fragment, spelled one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    origin: String,
    path: String,
}

impl At {
    /// Read an address; `None` where it is none of `http` or `https`, or holds
    /// a user's name. Its query and its fragment are left out.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let rest = rest.get(..end)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority_parts(authority)?;
        let mut origin = format!("{scheme}://{host}");
        if let Some(port) = port.filter(|port| *port != usual) {
            origin.push_str(&format!(":{port}"));
        }
        Some(Self {
            origin,
            path: plain_path(path)?,
        })
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

/// Where a service is reached: what comes before the paths of its routes. It
/// is configured; nothing of it is taken from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    origin: String,
    path: String,
}

impl Base {
    /// Read what is configured; `None` as in [`At::parse`].
    pub fn parse(text: &str) -> Option<Self> {
        let At { origin, path } = At::parse(text)?;
        Some(Self {
            origin,
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// The path, without a slash at its end: empty at the root of the host.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The address of the route at `path`, which begins with a slash; `None`
    /// where it is no path.
    pub fn at(&self, path: &str) -> Option<At> {
        let path = plain_path(path)?;
        Some(At {
            origin: self.origin.clone(),
            path: format!("{}{path}", self.path),
        })
    }
}

/// Host, in small letters, and port.
fn authority_parts(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let plain = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if !address.bytes().all(plain) || address.is_empty() {
                return None;
            }
            let port = match after {
                "" => "",
                after => after.strip_prefix(':')?,
            };
            (format!("[{}]", address.to_ascii_lowercase()), port)
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if host.is_empty() || !host.bytes().all(plain) {
                return None;
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    if port.is_empty() {
        return Some((host, None));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((host, Some(port.parse().ok()?)))
}

/// A path with unreserved characters as they are, everything else that is
/// encoded in capitals, and without dot segments.
fn plain_path(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("/".to_owned());
    }
    if !path.starts_with('/') || path.len() > LONGEST {
        return None;
    }
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_~".contains(&byte);
    if path.bytes().all(usual) {
        return Some(path.to_owned());
    }
    without_dots(&decoded(path)?)
}

/// A path with unreserved characters as they are, and everything else that is
/// encoded in capitals. Source: RFC 3986 §6.2.2.1 and §6.2.2.2.
fn decoded(path: &str) -> Option<String> {
    let mut plain = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let high = digit(bytes.next())?;
                let low = digit(bytes.next())?;
                let decoded = u8::try_from(high * 16 + low).ok()?;
                if decoded.is_ascii_alphanumeric() || b"-._~".contains(&decoded) {
                    plain.push(char::from(decoded));
                } else {
                    plain.push_str(&format!("%{decoded:02X}"));
                }
            }
            b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | b'?' | b'#' => {
                return None;
            }
            byte if byte.is_ascii_graphic() => plain.push(char::from(byte)),
            _ => return None,
        }
    }
    Some(plain)
}

/// Source: RFC 3986 §5.2.4.
fn without_dots(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (text, plain) in [
            ("https://a.test/x", "https://a.test/x"),
            ("HTTPS://A.Test:443/x", "https://a.test/x"),
            ("http://a.test:80", "http://a.test/"),
            ("http://a.test:", "http://a.test/"),
            ("http://a.test:0080/x", "http://a.test/x"),
            ("https://a.test:80/x", "https://a.test:80/x"),
            ("https://a.test/x?y=1#z", "https://a.test/x"),
            ("https://a.test?y", "https://a.test/"),
            (
                "https://a.test/%7Ex/%2f%c3%a9",
                "https://a.test/~x/%2F%C3%A9",
            ),
            ("https://a.test/a/./b/../c", "https://a.test/a/c"),
            ("https://a.test/a/%2e%2E/c/..", "https://a.test/"),
            ("https://a.test/../..", "https://a.test/"),
            ("https://a.test//x", "https://a.test//x"),
            ("http://[::1]:5000/x", "http://[::1]:5000/x"),
            ("http://[FE80::A]/", "http://[fe80::a]/"),
        ] {
            let at = At::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(at.to_string(), plain, "{text}");
            assert_eq!(At::parse(plain), Some(at), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            "/x",
            "a.test/x",
            "ftp://a.test/",
            "https:/a.test",
            "https:///x",
            "https://ann@a.test/",
            "https://ann:pw@a.test/",
            "https://a.test:x/",
            "https://a.test:65536/",
            "https://a.test:+80/",
            "https://a%2etest/",
            "https://a.test\\x/",
            "https://a.test/\\x",
            "https://a.test/%",
            "https://a.test/%4",
            "https://a.test/%4g",
            "https://a.test/x y",
            "https://a.test/\u{e9}",
            "https://[::1/",
            "https://[::1]x/",
            "https://[]/",
            "https://[::g]/",
        ] {
            assert_eq!(At::parse(text), None, "{text}");
        }
        assert_eq!(
            At::parse(&format!("https://a.test/{}", "x".repeat(2048))),
            None
        );
    }

    #[test]
    fn a_route_is_below_its_base() {
        for (base, at) in [
            ("https://a.test", "https://a.test/v1/jobs"),
            ("https://a.test/", "https://a.test/v1/jobs"),
            ("https://a.test/flux", "https://a.test/flux/v1/jobs"),
            (
                "https://a.test:8443/flux/",
                "https://a.test:8443/flux/v1/jobs",
            ),
        ] {
            let made = Base::parse(base).and_then(|base| base.at("/v1/jobs"));
            assert_eq!(made, At::parse(at), "{base}");
        }
        let base = Base::parse("https://a.test").unwrap();
        assert_eq!(base.at("v1"), None);
        assert_eq!(base.at("/v1/%zz"), None);
        assert_eq!(base.at("/v1/%6aobs"), At::parse("https://a.test/v1/jobs"));
        assert_ne!(base.at("/v1/jobs/"), At::parse("https://a.test/v1/jobs"));
    }
}
