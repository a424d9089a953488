//! `HOST` and `PORT`, as the container images of the Flux RESTful server take them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The address to listen on: `base`, with the IP address of `host` and the port
/// `port` where they are set. `localhost` is 127.0.0.1; other names are not looked up.
///
/// Errors: names the variable and what it may be.
pub fn listen_address(
    base: SocketAddr,
    host: Option<&str>,
    port: Option<&str>,
) -> Result<SocketAddr, String> {
    let mut address = base;
    if let Some(host) = host.map(str::trim) {
        let ip = match host {
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => host.parse(),
        };
        address.set_ip(ip.map_err(|_| {
            format!("HOST must be an IP address or localhost, found {host:?}; unset it if a shell has set it")
        })?);
    }
    if let Some(port) = port.map(str::trim) {
        let number = port.parse();
        address.set_port(
            number.map_err(|_| format!("PORT must be a number from 0 to 65535, found {port:?}"))?,
        );
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_replace_their_part_of_the_address() {
        let base = "127.0.0.1:5000".parse().unwrap();
        for (host, port, address) in [
            (None, None, "127.0.0.1:5000"),
            (Some("0.0.0.0"), None, "0.0.0.0:5000"),
            (Some("::1"), Some(" 80 "), "[::1]:80"),
            (Some("localhost"), Some("0"), "127.0.0.1:0"),
        ] {
            let found = listen_address(base, host, port).unwrap();
            assert_eq!(found.to_string(), address);
        }
        for (host, port, words) in [
            (Some("jobs.example.org"), None, "HOST must be"),
            (None, Some("65536"), "PORT must be"),
            (None, Some("http"), "PORT must be"),
        ] {
            let refused = listen_address(base, host, port).unwrap_err();
            assert!(refused.starts_with(words), "{refused}");
        }
    }
}
