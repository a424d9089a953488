//! The path below which a server is reached, where that is not the root of its
//! host. Routes are written without it; it is taken off what comes in and put
//! before each path that goes out.

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;

/// Where the description of an authorization server is. Source: RFC 8414 §3.
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// A path such as `/flux`, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// The path of `url`, without the slash at its end.
    pub fn of_url(url: &str) -> Self {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let path = rest.find('/').and_then(|at| rest.get(at..));
        Self(path.unwrap_or_default().trim_end_matches('/').into())
    }

    /// The path: empty, or with a slash at its beginning and none at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the server is at the root of its host.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of a route for those outside.
    pub fn add(&self, route: &str) -> String {
        format!("{}{route}", self.0)
    }

    /// The route that a path names: as it is where the proxy took the prefix off
    /// already. The description of the server is also found where RFC 8414 §3.1
    /// puts it, between host and path.
    pub fn strip<'a>(&self, path: &'a str) -> &'a str {
        if self.is_empty() {
            return path;
        }
        if path.strip_prefix(METADATA) == Some(&self.0) {
            return path.get(..METADATA.len()).unwrap_or(path);
        }
        match path.strip_prefix(&*self.0) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) | None => path,
        }
    }

    /// Take the prefix off the target of a request.
    pub fn strip_from(&self, uri: &mut Uri) {
        let path = uri.path();
        let stripped = self.strip(path);
        if stripped.len() == path.len() {
            return;
        }
        let target = match uri.query() {
            Some(query) => format!("{stripped}?{query}"),
            None => stripped.to_owned(),
        };
        if let Ok(target) = PathAndQuery::try_from(target) {
            let mut parts = std::mem::take(uri).into_parts();
            parts.path_and_query = Some(target);
            *uri = Uri::from_parts(parts).unwrap_or_default();
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_path_of_the_public_url() {
        for (url, prefix) in [
            ("https://a", ""),
            ("https://a/", ""),
            ("https://a:1/flux", "/flux"),
            ("https://a/x/flux/?q", "/x/flux"),
        ] {
            assert_eq!(Prefix::of_url(url).as_str(), prefix, "{url}");
        }
    }

    #[test]
    fn a_request_is_understood_with_the_prefix_and_without() {
        let prefix = Prefix::of_url("https://a/flux");
        for (target, stripped) in [
            ("/v1/jobs?x=/flux", "/v1/jobs?x=/flux"),
            ("/flux/v1/jobs?x=1", "/v1/jobs?x=1"),
            ("/flux", "/"),
            ("/flux/", "/"),
            ("/fluxes", "/fluxes"),
            ("/flux/flux", "/flux"),
            ("/.well-known/oauth-authorization-server/flux", METADATA),
            ("/flux/.well-known/oauth-authorization-server", METADATA),
            (METADATA, METADATA),
        ] {
            let mut uri: Uri = target.parse().unwrap();
            prefix.strip_from(&mut uri);
            assert_eq!(uri.to_string(), stripped, "{target}");
        }
        let mut uri: Uri = "/flux/v1".parse().unwrap();
        Prefix::default().strip_from(&mut uri);
        assert_eq!(uri.to_string(), "/flux/v1");
    }
}
