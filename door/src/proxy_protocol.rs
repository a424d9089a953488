//! The PROXY protocol: a proxy says in the first bytes of a connection whose it
//! is. Source: HAProxy's "The PROXY protocol", versions 1 and 2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest the header may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// The most that may follow the first 16 bytes of version 2.
const LONGEST_REST: usize = 4096;

/// Read the header of a connection, and nothing behind it: the client's address;
/// `None` where the connection is the proxy's own, or its sort is unknown.
///
/// Errors: there is no such header, it is malformed, or it does not come in time.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    match tokio::time::timeout(PATIENCE, read_header(stream)).await {
        Ok(read) => read,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    // Both versions are longer than this.
    let mut first = [0; 12];
    stream.read_exact(&mut first).await?;
    if first == SIGNATURE {
        return read_binary(stream).await;
    }
    if !first.starts_with(b"PROXY ") {
        return Err(malformed("a connection without the PROXY protocol"));
    }
    let mut line = first.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LONGEST_LINE {
            return Err(malformed("a PROXY line without an end"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).map_err(|_| malformed("a PROXY line"))?;
    of_line(line.trim_end_matches("\r\n")).ok_or_else(|| malformed("a PROXY line"))
}

/// Version 1: `PROXY TCP4 SOURCE DESTINATION PORT PORT`.
fn of_line(line: &str) -> Option<Option<IpAddr>> {
    let words: Vec<&str> = line.split(' ').collect();
    let port = |text: &str| text.parse::<u16>().is_ok();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", "TCP4", from, to, port1, port2] if port(port1) && port(port2) => {
            to.parse::<Ipv4Addr>().ok()?;
            Some(Some(IpAddr::V4(from.parse().ok()?)))
        }
        ["PROXY", "TCP6", from, to, port1, port2] if port(port1) && port(port2) => {
            to.parse::<Ipv6Addr>().ok()?;
            Some(Some(IpAddr::V6(from.parse().ok()?)))
        }
        _ => None,
    }
}

/// Version 2, behind its signature.
async fn read_binary<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    let [command, family, high, low] = {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        head
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_REST {
        return Err(malformed("a PROXY header that is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (command, family) {
        (0x20, _) => Ok(None),
        (0x21, 0x11) => match (rest.get(..12), rest.first_chunk::<4>()) {
            (Some(_), Some(from)) => Ok(Some(Ipv4Addr::from(*from).into())),
            _ => Err(malformed("a PROXY header that is too short")),
        },
        (0x21, 0x21) => match (rest.get(..36), rest.first_chunk::<16>()) {
            (Some(_), Some(from)) => Ok(Some(Ipv6Addr::from(*from).into())),
            _ => Err(malformed("a PROXY header that is too short")),
        },
        // UNSPEC, UDP and Unix sockets: the receiver takes the proxy's address.
        (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Ok(None),
        _ => Err(malformed("a PROXY header of an unknown sort")),
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of `bytes`, and what is left behind it.
    async fn read_of(bytes: &[u8]) -> io::Result<(Option<String>, Vec<u8>)> {
        let mut stream = bytes;
        let client = read(&mut stream).await?;
        Ok((client.map(|address| address.to_string()), stream.to_vec()))
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest, b"GET"].concat()
    }

    #[tokio::test]
    async fn t131_both_versions_name_the_client_and_nothing_behind_is_read() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        v6[15] = 7;
        for (bytes, client) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 1 443\r\nGET".to_vec(),
                Some("192.0.2.1"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 1 443\r\nGET".to_vec(),
                Some("2001:db8::7"),
            ),
            (b"PROXY UNKNOWN\r\nGET".to_vec(), None),
            (b"PROXY UNKNOWN anything at all\r\nGET".to_vec(), None),
            (binary(0x21, 0x11, &v4), Some("192.0.2.1")),
            (
                binary(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()),
                Some("192.0.2.1"),
            ),
            (binary(0x21, 0x21, &v6), Some("2001:db8::7")),
            (binary(0x20, 0x11, &v4), None),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ] {
            let (read, left) = read_of(&bytes).await.unwrap();
            assert_eq!((read.as_deref(), left.as_slice()), (client, &b"GET"[..]));
        }
    }

    #[tokio::test]
    async fn t131_what_is_no_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107));
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.256 10.0.0.1 1 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 10.0.0.1 1 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 443 x\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.1 10.0.0.1 1 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 443".to_vec(),
            long.into_bytes(),
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x41, &[0; 12]),
            [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            read_of(&bytes).await.unwrap_err();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn t131_a_header_that_does_not_come_is_not_waited_for() {
        let (_silent, mut stream) = tokio::io::duplex(64);
        let error = read(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
