//! Where codes may be sent.

/// The longest address, in bytes.
const LONGEST: usize = 1024;

/// Whether `uri` may be registered: `https`, `http` on the user's own machine,
/// or a scheme with a dot in its name, which a program can own. Source: RFC
/// 6749 §3.1.2, RFC 8252 §7 and §8.4.
pub(crate) fn may_be_registered(uri: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}*".contains(&byte);
    let Some((scheme, rest)) = uri.split_once(':') else {
        return false;
    };
    let host_is_plain = || {
        let rest = rest.strip_prefix("//").unwrap_or_default();
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        !host.is_empty() && !host.contains('@')
    };
    let allowed = match scheme {
        "https" => host_is_plain(),
        "http" => loopback(uri).is_some(),
        // As the reversed name of a domain.
        private => {
            let mut bytes = private.bytes();
            private.contains('.')
                && bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
                && bytes.all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-+".contains(&byte)
                })
                && rest.starts_with('/')
        }
    };
    uri.len() <= LONGEST && uri.bytes().all(plain) && allowed
}

/// Whether `uri` is one that was registered: the same, byte for byte; on the
/// user's own machine it may vary in the port. Source: RFC 6749 §3.1.2.3, RFC
/// 8252 §7.3, RFC 9700 §2.1.
pub(crate) fn is_registered(uri: &str, registered: &[String]) -> bool {
    uri.len() <= LONGEST
        && registered.iter().any(|known| {
            known == uri || matches!((loopback(known), loopback(uri)), (Some(a), Some(b)) if a == b)
        })
}

/// The host, and what comes after the port, of an address on the user's own
/// machine: 127.0.0.1 or \[::1\], not a name, which may lead elsewhere.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = ["127.0.0.1", "[::1]"]
        .into_iter()
        .find(|host| rest.starts_with(host))?;
    let after = rest.strip_prefix(host)?;
    let after = match after.strip_prefix(':') {
        None => after,
        Some(port) => {
            let end = port
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(port.len());
            let (port, after) = port.split_at_checked(end)?;
            port.parse::<u16>().ok().filter(|port| *port > 0)?;
            after
        }
    };
    (after.is_empty() || after.starts_with(['/', '?'])).then_some((host, after))
}

/// `uri` with these fields in its query besides. Source: RFC 6749 §4.1.2.
pub(crate) fn with(uri: &str, fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields);
    let between = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{between}{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_a_program_can_own_are_registered() {
        for uri in [
            "https://app.example.org/callback",
            "https://app.example.org",
            "https://app.example.org:8443/a?b=c",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:8000/",
            "http://[::1]/callback",
            "org.example.app:/callback",
        ] {
            assert!(may_be_registered(uri), "{uri}");
        }
        for uri in [
            "",
            "https://",
            "https:///callback",
            "https:app.example.org",
            "https://user@app.example.org/",
            "https://app.example.org/#fragment",
            "https://*.example.org/",
            "https://app.example.org/a b",
            "https://app.example.org/\n",
            "http://app.example.org/callback",
            "http://localhost/callback",
            "http://127.0.0.1.example.org/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:99999/",
            "javascript:alert(1)",
            "data:text/html,x",
            "app:/callback",
            "Org.example:/callback",
            "//app.example.org",
        ] {
            assert!(!may_be_registered(uri), "{uri}");
        }
    }

    #[test]
    fn t107_only_the_registered_address_gets_a_code_and_on_loopback_any_port() {
        let registered = [
            "https://app.example.org/callback".to_owned(),
            "http://127.0.0.1/callback".to_owned(),
        ];
        for uri in [
            "https://app.example.org/callback",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:1/callback",
            "http://127.0.0.1:65535/callback",
        ] {
            assert!(is_registered(uri, &registered), "{uri}");
        }
        for uri in [
            "https://app.example.org/callback/",
            "https://app.example.org/callback2",
            "https://app.example.org/callback?x=1",
            "https://app.example.org/callback#x",
            "https://app.example.org/callback/../evil",
            "https://app.example.org/%63allback",
            "https://app.example.org:443/callback",
            "https://APP.example.org/callback",
            "https://app.example.org.evil.test/callback",
            "https://evil.test/https://app.example.org/callback",
            "https://app.example.org@evil.test/callback",
            "https://evil.app.example.org/callback",
            "http://app.example.org/callback",
            "http://127.0.0.1:80@evil.test/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:8000/other",
            "http://127.0.0.1:8000/callback?x=1",
            "http://127.0.0.1:8000/callback#x",
            "http://127.0.0.1.evil.test/callback",
            "http://127.0.0.2:8000/callback",
            "http://localhost:8000/callback",
            "http://[::1]:8000/callback",
            "https://127.0.0.1:8000/callback",
            "",
        ] {
            assert!(!is_registered(uri, &registered), "{uri}");
        }
    }

    #[test]
    fn what_is_added_cannot_be_taken_for_more() {
        let uri = with("https://a.test/c?x=1", &[("state", "a&code=b#c d")]);
        assert_eq!(uri, "https://a.test/c?x=1&state=a%26code%3Db%23c+d");
        assert_eq!(with("app.a:/c", &[("code", "x")]), "app.a:/c?code=x");
    }
}
