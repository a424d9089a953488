//! Where a request came from, as far as throttling and the log care.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::http::HeaderMap;
use warrant_door::proxies::{Hop, Proxies, SOURCE};

use crate::peer::Peer;

/// A network address, an IPv6 network of 64 bits (one customer commonly has
/// all of it), or the user id of a peer on this machine.
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

    /// The source of a request from `peer` for the client at `address`, where
    /// that is known.
    pub(crate) fn of_request(peer: Peer, address: Option<IpAddr>) -> Self {
        match (address, peer) {
            (Some(address), _) => Self::of_address(address),
            (None, Peer::Unix(Some(uid))) => Self(format!("local uid {uid}")),
            (None, Peer::Unix(None) | Peer::Forwarded | Peer::Tcp(_)) => Self::of_this_machine(),
        }
    }

    /// A program of this machine: the broker for itself, or a peer that is not
    /// known.
    pub(crate) fn of_this_machine() -> Self {
        Self("local".into())
    }
}

/// The peers that may say for whom they send a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forwarders {
    /// The proxies.
    pub(crate) proxies: Arc<Proxies>,
    /// The user ids of the broker.
    pub(crate) broker_uids: Arc<[u32]>,
}

impl Forwarders {
    /// Whether `peer` is one of the proxies.
    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        self.proxies.trusts(hop(peer))
    }

    /// The address of the client whose request came from `peer`, and the source
    /// that stands for it in throttles and records. Nothing that any other peer
    /// says of it is read.
    pub(crate) fn source(&self, peer: Peer, headers: &HeaderMap) -> (Option<IpAddr>, Source) {
        let is_broker = self.broker_uids.iter().any(|uid| peer.is_user(*uid));
        if !is_broker {
            let address = self.proxies.client(hop(peer), headers);
            return (address, Source::of_request(peer, address));
        }
        let mut values = headers.get_all(SOURCE).iter();
        let value = values.next().filter(|_| values.next().is_none());
        let text = value.and_then(|value| value.to_str().ok());
        let address = text.and_then(|text| text.trim().parse().ok());
        let source = address.map_or_else(Source::of_this_machine, Source::of_address);
        (address, source)
    }
}

fn hop(peer: Peer) -> Hop {
    match peer {
        Peer::Tcp(address) => Hop::Address(address),
        Peer::Unix(uid) => Hop::Account(uid),
        Peer::Forwarded => Hop::Account(None),
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

    const BROKER: Peer = Peer::Unix(Some(7));

    fn source(peer: Peer, values: &[&str]) -> String {
        let forwarders = Forwarders {
            proxies: Arc::new(Proxies::parse(&["uid:33"]).unwrap()),
            broker_uids: [7].into(),
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SOURCE, value.parse().unwrap());
        }
        forwarders.source(peer, &headers).1.to_string()
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let a = source(BROKER, &["2001:db8::1"]);
        assert_eq!(a, source(BROKER, &["2001:db8::ffff:2"]));
        assert_ne!(a, source(BROKER, &["2001:db8:0:1::1"]));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert_eq!(source(BROKER, &["::ffff:192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn without_an_address_a_peer_of_this_machine_is_known_by_its_user_id() {
        assert_eq!(source(BROKER, &[]), "local");
        assert_eq!(source(BROKER, &["192.0.2.1", "192.0.2.1"]), "local");
        assert_eq!(source(Peer::Unix(None), &[]), "local");
        assert_eq!(source(Peer::Unix(Some(33)), &[]), "local uid 33");
    }

    #[test]
    fn t131_the_source_header_counts_from_the_broker_and_from_proxies_alone() {
        let made_up = ["192.0.2.1"];
        assert_eq!(source(BROKER, &made_up), "192.0.2.1");
        assert_eq!(source(Peer::Unix(Some(33)), &made_up), "192.0.2.1");
        assert_eq!(source(Peer::Unix(Some(1000)), &made_up), "local uid 1000");
        assert_eq!(source(Peer::Unix(Some(0)), &made_up), "local uid 0");
        assert_eq!(source(Peer::Unix(None), &made_up), "local");
        let tcp = Peer::Tcp([127, 0, 0, 1].into());
        assert_eq!(source(tcp, &made_up), "127.0.0.1");
    }

    #[test]
    fn t131_words_in_the_source_header_reach_no_record() {
        for words in ["root granted", "192.0.2.1 ok", "x\ty", "999.1.1.1", " "] {
            assert_eq!(source(BROKER, &[words]), "local", "{words:?}");
        }
    }
}
