//! Reverse proxies whose word about the origin of a request is taken.
//!
//! Source: RFC 7239 (`Forwarded`); `X-Forwarded-For` as common proxies write it.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use nix::unistd::User;

/// The header in which the broker and the shipped nginx name the client.
pub const SOURCE: HeaderName = HeaderName::from_static("x-warrant-source");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The most proxies in a row; what is further away is not looked at.
const MOST_HOPS: usize = 32;
/// The longest an address may be, with brackets and a port.
const LONGEST: usize = 64;

/// The form of an entry, for messages.
const FORM: &str = "an address (192.0.2.1), a network (10.0.0.0/8, fd00::/8), user:NAME or uid:NUMBER \
                    for who connects to the Unix socket";

/// The peer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Its address, over TCP.
    Address(IpAddr),
    /// Its user id, over a Unix socket; `None` where the kernel did not say.
    Account(Option<u32>),
}

impl Hop {
    /// The address, over TCP.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.to_canonical()),
            Self::Account(_) => None,
        }
    }
}

/// The proxies that are trusted to name the client of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Vec<Network>,
    uids: Vec<u32>,
    /// Accounts that were named and do not exist.
    missing: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        (bits <= most).then_some(Self { address, bits })
    }

    fn holds(self, address: IpAddr) -> bool {
        let same = |one: u128, other: u128, width: u32| {
            let ignored = width.saturating_sub(self.bits);
            (one ^ other).checked_shr(ignored).unwrap_or(0) == 0
        };
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(own.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

impl Proxies {
    /// Read a list of addresses, networks and accounts.
    ///
    /// Errors: an entry has none of these forms; the text names it and the forms.
    /// An account that does not exist is no error: see [`Proxies::missing`].
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, String> {
        let mut proxies = Self::default();
        for entry in entries.iter().map(AsRef::as_ref) {
            let wrong = || format!("{entry:?} is not {FORM}");
            if let Some(name) = entry.strip_prefix("user:").filter(|name| !name.is_empty()) {
                match User::from_name(name) {
                    Ok(Some(user)) => proxies.uids.push(user.uid.as_raw()),
                    Ok(None) => proxies.missing.push(name.to_owned()),
                    Err(error) => return Err(format!("{entry:?} cannot be looked up: {error}")),
                }
            } else if let Some(uid) = entry.strip_prefix("uid:") {
                proxies.uids.push(uid.parse().map_err(|_| wrong())?);
            } else {
                let network = Network::parse(entry).ok_or_else(wrong)?;
                proxies.networks.push(network);
            }
        }
        Ok(proxies)
    }

    /// The accounts that were named and do not exist.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Whether `hop` is one of the proxies.
    pub fn trusts(&self, hop: Hop) -> bool {
        match hop {
            Hop::Address(address) => self.trusts_address(address),
            Hop::Account(uid) => uid.is_some_and(|uid| self.uids.contains(&uid)),
        }
    }

    fn trusts_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.holds(address))
    }

    /// The address of the client whose request `hop` sent with these headers;
    /// `None` where `hop` is no proxy, or names none, and has no address itself.
    ///
    /// Only a proxy's headers are read, from the right as far as each hop is a
    /// proxy; reading ends before what is malformed. A proxy sets one of
    /// `X-Forwarded-For`, `Forwarded` and `X-Warrant-Source`, and may pass on
    /// another that its client made up: where two of them name different
    /// clients, none is believed.
    pub fn client(&self, hop: Hop, headers: &HeaderMap) -> Option<IpAddr> {
        let own = hop.address();
        if !self.trusts(hop) {
            return own;
        }
        let values = |name: &HeaderName| -> Option<String> {
            let mut values = headers.get_all(name).iter().peekable();
            values.peek()?;
            let texts = values.map(|value| value.to_str().unwrap_or("?"));
            Some(texts.collect::<Vec<_>>().join(","))
        };
        let named = [
            values(&X_FORWARDED_FOR).map(|text| self.walk(own, text.rsplit(',').map(address))),
            values(&FORWARDED).map(|text| self.walk(own, forwarded(&text).into_iter().rev())),
            values(&SOURCE).map(|text| address(&text).or(own)),
        ];
        let mut named = named.into_iter().flatten();
        match named.next() {
            Some(first) if named.all(|other| other == first) => first,
            Some(_) | None => own,
        }
    }

    /// The first that is no proxy, from the nearest hop on.
    fn walk(
        &self,
        nearest: Option<IpAddr>,
        hops: impl Iterator<Item = Option<IpAddr>>,
    ) -> Option<IpAddr> {
        let mut client = nearest;
        for hop in hops.take(MOST_HOPS) {
            let Some(address) = hop else { break };
            client = Some(address);
            if !self.trusts_address(address) {
                break;
            }
        }
        client
    }
}

/// An address, in brackets or not, with a port or without.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    if text.len() > LONGEST {
        return None;
    }
    let is_port = |port: &str| {
        (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
    };
    let address: IpAddr = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let plain = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
            IpAddr::V6(address.parse().ok().filter(|_| plain)?)
        }
        None => match text.split_once(':') {
            Some((address, port)) if is_port(port) => IpAddr::V4(address.parse().ok()?),
            Some(_) | None => text.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

/// The `for` of each element of a `Forwarded` header; `None` for one without,
/// and for whatever is malformed. Source: RFC 7239 §4, §6.
fn forwarded(text: &str) -> Vec<Option<IpAddr>> {
    let Some(elements) = split_outside_quotes(text, ',') else {
        return vec![None];
    };
    elements.into_iter().map(forwarded_for).collect()
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_outside_quotes(element, ';')? {
        let (name, value) = pair.split_once('=')?;
        if !name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for") {
            continue;
        }
        if found.is_some() {
            return None; // Each parameter may be there once.
        }
        let value = value.trim_matches([' ', '\t']);
        let quoted = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        found = Some(quoted.unwrap_or(value));
    }
    address(found?)
}

/// The parts of `text` between `separator`s that stand in no quoted string;
/// `None` where a quoted string does not end.
fn split_outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if letter == separator && !quoted => {
                parts.push(text.get(begin..at)?);
                begin = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..)?);
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn client(hop: Hop, headers: &[(&str, &str)]) -> Option<String> {
        let proxies = ["10.0.0.0/8", "2001:db8:1::/48", "uid:33"];
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(
                name,
                http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let client = Proxies::parse(&proxies).unwrap().client(hop, &map);
        client.map(|address| address.to_string())
    }

    fn from(address: &str) -> Hop {
        Hop::Address(address.parse().unwrap())
    }

    #[test]
    fn t131_a_proxys_word_is_read_from_the_right_as_far_as_proxies_go() {
        for (headers, expected) in [
            (&[][..], PROXY),
            (&[("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
            (
                &[("x-forwarded-for", "198.51.100.9, 192.0.2.1")],
                "192.0.2.1",
            ),
            (
                &[("x-forwarded-for", "198.51.100.9,192.0.2.1 , 10.9.9.9")],
                "192.0.2.1",
            ),
            (
                &[
                    ("x-forwarded-for", "198.51.100.9"),
                    ("x-forwarded-for", "192.0.2.1"),
                ],
                "192.0.2.1",
            ),
            (&[("x-forwarded-for", "10.1.1.1, 10.2.2.2")], "10.1.1.1"),
            (&[("x-forwarded-for", "192.0.2.1:4711")], "192.0.2.1"),
            (&[("x-forwarded-for", "2001:db8::7")], "2001:db8::7"),
            (&[("x-forwarded-for", "[2001:db8::7]:443")], "2001:db8::7"),
            (&[("x-forwarded-for", "::ffff:192.0.2.1")], "192.0.2.1"),
            (
                &[("forwarded", "for=192.0.2.1;proto=https;by=10.0.0.1")],
                "192.0.2.1",
            ),
            (&[("forwarded", "For=\"[2001:db8::7]:80\"")], "2001:db8::7"),
            (
                &[(
                    "forwarded",
                    "for=198.51.100.9, for=192.0.2.1;host=\"a,b;for=1.2.3.4\"",
                )],
                "192.0.2.1",
            ),
            (
                &[(
                    "forwarded",
                    "for=192.0.2.1, proto=https;for=\"[2001:db8:1::5]\"",
                )],
                "192.0.2.1",
            ),
            (&[("x-warrant-source", "192.0.2.1")], "192.0.2.1"),
            (
                &[
                    ("x-warrant-source", "192.0.2.1"),
                    ("x-forwarded-for", "192.0.2.1"),
                ],
                "192.0.2.1",
            ),
        ] {
            assert_eq!(
                client(from(PROXY), headers).as_deref(),
                Some(expected),
                "{headers:?}"
            );
            let unix = client(Hop::Account(Some(33)), headers);
            let known = (!headers.is_empty()).then(|| expected.to_owned());
            assert_eq!(unix, known, "{headers:?}");
        }
    }

    #[test]
    fn t131_what_is_malformed_or_contradicts_itself_is_not_believed() {
        let long = format!("192.0.2.1{}", " x".repeat(100));
        for headers in [
            &[("x-forwarded-for", "")][..],
            &[("x-forwarded-for", "192.0.2.1, ")],
            &[("x-forwarded-for", "192.0.2.1, unknown")],
            &[("x-forwarded-for", "192.0.2.1:")],
            &[("x-forwarded-for", "192.0.2.1:port")],
            &[("x-forwarded-for", "192.0.2.1:123456")],
            &[("x-forwarded-for", "[192.0.2.1]")],
            &[("x-forwarded-for", "[2001:db8::7")],
            &[("x-forwarded-for", "fe80::1%eth0")],
            &[("x-forwarded-for", "192.0.2.01")],
            &[("x-forwarded-for", "192.0.2.1\tADMIN granted")],
            &[("x-forwarded-for", "192.0.2.1\u{e9}")],
            &[("x-forwarded-for", &long)],
            &[("forwarded", "for=_hidden")],
            &[("forwarded", "for=\"192.0.2.1")],
            &[("forwarded", "for=192.0.2.1;for=192.0.2.2")],
            &[("forwarded", "192.0.2.1")],
            &[("forwarded", "by=192.0.2.1")],
            &[("x-warrant-source", "192.0.2.1, 192.0.2.2")],
            &[("x-warrant-source", "nginx")],
            &[
                ("x-warrant-source", "192.0.2.1"),
                ("x-warrant-source", "192.0.2.1"),
            ],
            &[
                ("x-warrant-source", "192.0.2.1"),
                ("x-forwarded-for", "192.0.2.2"),
            ],
            &[
                ("forwarded", "for=192.0.2.1"),
                ("x-forwarded-for", "192.0.2.2"),
            ],
        ] {
            assert_eq!(
                client(from(PROXY), headers).as_deref(),
                Some(PROXY),
                "{headers:?}"
            );
            assert_eq!(client(Hop::Account(Some(33)), headers), None, "{headers:?}");
        }
        // What a proxy could not read ends the way there, not before.
        let headers = [("x-forwarded-for", "192.0.2.1, rubbish, 10.3.3.3")];
        assert_eq!(client(from(PROXY), &headers).as_deref(), Some("10.3.3.3"));
    }

    #[test]
    fn t131_whoever_is_no_proxy_names_nobody_else() {
        let headers = [
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("x-warrant-source", "192.0.2.1"),
        ];
        assert_eq!(
            client(from("127.0.0.1"), &headers).as_deref(),
            Some("127.0.0.1")
        );
        for account in [Some(0), Some(34), None] {
            assert_eq!(client(Hop::Account(account), &headers), None);
        }
    }

    #[test]
    fn an_entry_that_is_none_is_named() {
        for entry in [
            "",
            "nginx",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "uid:",
            "uid:x",
            "user:",
        ] {
            let error = Proxies::parse(&[entry]).unwrap_err();
            assert!(error.contains(&format!("{entry:?}")), "{error}");
        }
        let root = Proxies::parse(&["user:root"]).unwrap();
        assert!(root.trusts(Hop::Account(Some(0))));
        let nobody = Proxies::parse(&["user:no-such-account"]).unwrap();
        assert_eq!(nobody.missing(), ["no-such-account"]);
        let all = Proxies::parse(&["0.0.0.0/0"]).unwrap();
        assert!(all.trusts(from("192.0.2.1")) && !all.trusts(from("2001:db8::1")));
    }
}
