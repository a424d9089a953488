//! Where a browser may be sent after somebody signed in: to a page of this
//! server, and nowhere else.

use super::page;

/// The longest address, in bytes.
const LONGEST: usize = 8192;

/// A path of this server, with its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local(String);

impl Local {
    /// The page of one's own account.
    pub(crate) fn account() -> Self {
        Self("/account".into())
    }

    /// The path that `text` is, as it stands; the account where it is empty.
    /// `None` for whatever any browser could take for another server's: a path
    /// here needs neither escapes nor empty or dotted segments.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::account());
        }
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        let segments = path.strip_prefix('/')?;
        let named = |segment: &str| !matches!(segment, "" | "." | "..");
        let good = path.bytes().all(plain)
            && (segments.is_empty() || segments.split('/').all(named))
            && query
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&byte));
        // With the prefix, as browsers show it, it is the same address.
        let prefix = page::prefix();
        let route = prefix.strip(path).to_owned() + text.get(path.len()..)?;
        (good && text.len() <= LONGEST).then_some(Self(route))
    }

    /// The path.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The path `to`, asked for with this as its `next`.
    pub(crate) fn after(&self, to: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("next", &self.0);
        format!("{to}?{}", query.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_server_are_taken() {
        for path in [
            "/",
            "/account",
            "/oauth/device?user_code=BCDF-GHJK",
            "/oauth/authorize?client_id=a&redirect_uri=https%3A%2F%2Fapp.example.org%2F&state=%26",
            "/v1/jobs?search=//x",
        ] {
            assert_eq!(Local::parse(path).unwrap().as_str(), path);
        }
        assert_eq!(Local::parse(""), Some(Local::account()));
        assert_eq!(Local::account().after("/login"), "/login?next=%2Faccount");
    }

    #[test]
    fn t116_nothing_that_leads_to_another_server_is_taken() {
        let long = format!("/{}", "a".repeat(LONGEST));
        for text in [
            "//evil.test",
            "///evil.test",
            "/\\evil.test",
            "\\\\evil.test",
            "\\/evil.test",
            "/%2fevil.test",
            "/%2Fevil.test",
            "/%5cevil.test",
            "/%09/evil.test",
            "/\t/evil.test",
            "/\n/evil.test",
            "/ /evil.test",
            " //evil.test",
            "/a//evil.test",
            "/./evil.test",
            "/..//evil.test",
            "/.//evil.test",
            "/a/../evil.test",
            "/@evil.test",
            "/:80",
            "evil.test",
            "account",
            "?next=/",
            "http://evil.test",
            "https:evil.test",
            "javascript:alert(1)",
            "data:text/html,x",
            "%2f%2fevil.test",
            "/account#x",
            "/account?a#b",
            "/account?a\\b",
            "/account?a\r\nSet-Cookie: x=y",
            "/\u{ff0f}evil.test",
            &long,
        ] {
            assert_eq!(Local::parse(text), None, "{text:.60}");
        }
    }
}
