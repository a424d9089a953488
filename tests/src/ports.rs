//! Ports that are free.

use std::net::{SocketAddr, TcpListener};

/// An address of the loopback network on which nothing listens now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
