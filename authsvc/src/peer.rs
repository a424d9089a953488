//! Who is at the other end of a connection, as the kernel says.

use std::net::IpAddr;

/// Over which socket a request came, and from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The Unix socket: the user id that the peer had when it connected, if
    /// the kernel told. Source: unix(7), `SO_PEERCRED`.
    Unix(Option<u32>),
    /// The Unix socket: handed on by the broker for somebody else, who has
    /// none of the broker's rights and none that the broker must not have.
    Forwarded,
    /// TCP: the address.
    Tcp(IpAddr),
}

impl Peer {
    /// Whether this is surely the user `uid` of this machine.
    pub(crate) fn is_user(self, uid: u32) -> bool {
        match self {
            Self::Unix(peer) => peer == Some(uid),
            Self::Forwarded | Self::Tcp(_) => false,
        }
    }

    /// Whether this is surely not the user `uid`. A Unix peer that is not
    /// known may be anybody.
    pub(crate) fn is_not_user(self, uid: u32) -> bool {
        match self {
            Self::Unix(peer) => peer.is_some_and(|peer| peer != uid),
            Self::Forwarded => false,
            Self::Tcp(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t4_a_peer_that_the_kernel_does_not_tell_is_surely_nobody() {
        let tcp = Peer::Tcp(std::net::Ipv4Addr::LOCALHOST.into());
        for (peer, is, is_not) in [
            (Peer::Unix(Some(7)), true, false),
            (Peer::Unix(Some(0)), false, true),
            (Peer::Unix(None), false, false),
            (Peer::Forwarded, false, false),
            (tcp, false, true),
        ] {
            assert_eq!((peer.is_user(7), peer.is_not_user(7)), (is, is_not));
        }
    }
}
