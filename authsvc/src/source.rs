//! Where a request came from, as far as throttling and the log care.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::user_name::shown;

/// A network address, an IPv6 network of 64 bits (one customer commonly has
/// all of it), or a name that the broker gave.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Source(String);

impl Source {
    /// Whoever gives a command on this machine.
    pub(crate) fn of_operator() -> Self {
        Self(warrant_trail::operator())
    }

    /// The service's own configuration.
    pub(crate) fn of_configuration() -> Self {
        Self("configuration".into())
    }

    /// The service itself.
    pub(crate) fn of_service() -> Self {
        Self("service".into())
    }

    /// The source of a connection over TCP.
    pub(crate) fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_string()),
            IpAddr::V6(v6) => {
                let network = Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64));
                Self(format!("{network}/64"))
            }
        }
    }

    /// The source of a request over the Unix socket: what the broker says in
    /// `X-Warrant-Source`, or `local` when it says nothing.
    pub(crate) fn of_header(value: Option<&str>) -> Self {
        match value.map(str::trim).filter(|text| !text.is_empty()) {
            None => Self("local".into()),
            Some(text) => match text.parse() {
                Ok(address) => Self::of_address(address),
                Err(_) => Self(shown(text).to_owned()),
            },
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let a = Source::of_header(Some("2001:db8::1"));
        assert_eq!(a, Source::of_header(Some("2001:db8::ffff:2")));
        assert_ne!(a, Source::of_header(Some("2001:db8:0:1::1")));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let plain = Source::of_header(Some("192.0.2.1"));
        assert_eq!(plain, Source::of_header(Some("::ffff:192.0.2.1")));
        assert_ne!(plain, Source::of_header(Some("192.0.2.2")));
    }

    #[test]
    fn no_header_means_local() {
        assert_eq!(Source::of_header(None), Source::of_header(Some(" ")));
        assert_eq!(Source::of_header(None).to_string(), "local");
    }
}
