//! The address of the server, as the user gave it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ureq::http::Uri;

use crate::failure::Failure;

/// The address used when none is given: the default of the Flux client.
pub(crate) const DEFAULT: &str = "http://127.0.0.1:5000";

/// A base URL: scheme, host and port, and perhaps a path below which the
/// server lives behind a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

impl Server {
    /// The URL of a route, given from its leading slash on.
    pub(crate) fn url(&self, route: &str) -> String {
        format!("{self}{route}")
    }

    /// Whether the address names this very machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    /// Whether whatever is sent there can be read on the way.
    pub(crate) fn is_readable_on_the_way(&self) -> bool {
        !self.https && !self.is_loopback()
    }

    /// Whether `other` is at the same scheme, host and port. The names of
    /// the loopback interface count as one host.
    pub(crate) fn is_origin_of(&self, other: &Self) -> bool {
        self.https == other.https
            && self.port == other.port
            && (self.host == other.host || (self.is_loopback() && other.is_loopback()))
    }
}

impl FromStr for Server {
    type Err = Failure;

    /// Errors: `Usage` for anything but `http://` or `https://`, a host, and
    /// perhaps a port and a path. A user name or password in a URL is refused,
    /// since it would end up in logs.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::Usage(format!(
                "the server's address must look like {DEFAULT} or https://jobs.example.org: {why}"
            ))
        };
        let uri: Uri = text
            .trim()
            .parse()
            .map_err(|_| wrong("it is not a valid URL"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(wrong("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it must not contain a user name or password"));
        }
        if uri.query().is_some() {
            return Err(wrong("it must not contain a query"));
        }
        if authority.host().is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => usual_port(https),
            rest => rest
                .and_then(|rest| rest.strip_prefix(':')?.parse().ok())
                .ok_or_else(|| wrong("its port is not a number from 0 to 65535"))?,
        };
        Ok(Self {
            https,
            host: authority.host().to_ascii_lowercase(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != usual_port(self.https) {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

fn usual_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_spelled_one_way() {
        assert_eq!(
            server("HTTP://LocalHost:80/").to_string(),
            "http://localhost"
        );
        assert_eq!(
            server("https://a.example:8443/flux/").url("/v1/jobs"),
            "https://a.example:8443/flux/v1/jobs"
        );
        assert_eq!(server("http://[::1]:5000").to_string(), "http://[::1]:5000");
    }

    #[test]
    fn an_address_that_is_no_web_address_is_refused() {
        for text in [
            "",
            "localhost:5000",
            "ftp://a",
            "http://",
            "/v1",
            "http://a/?x=1",
            "http://a:99999",
        ] {
            assert!(
                matches!(text.parse::<Server>(), Err(Failure::Usage(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        let Err(Failure::Usage(message)) = "http://ann:hunter2@a".parse::<Server>() else {
            panic!("accepted");
        };
        assert!(!message.contains("hunter2"));
    }

    #[test]
    fn the_names_of_the_loopback_interface_are_one_origin() {
        assert!(server("http://localhost:5000").is_origin_of(&server("http://127.0.0.1:5000/v1")));
        assert!(server("http://[::1]:5000").is_origin_of(&server("http://127.0.0.1:5000")));
        assert!(!server("http://localhost:5000").is_origin_of(&server("http://localhost:5001")));
        assert!(!server("http://localhost:80").is_origin_of(&server("https://localhost:80")));
        assert!(!server("http://a.example").is_origin_of(&server("http://b.example")));
        assert!(!server("http://127.0.0.1.example").is_loopback());
    }
}
