//! The host names a dashboard answers to, and the proxies it trusts.
//!
//! Without a check of `Host`, a page of any site can have its own name resolve to this machine and
//! then read the dashboard as its own (DNS rebinding). Such an attack needs a name, so IP addresses
//! and `localhost` are always accepted.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use url::Host;

/// The longest host name, in bytes.
const MAX_NAME: usize = 253;

/// A host name of a dashboard, in lower case and without a final dot.
///
/// ```
/// use cohortist::server::HostName;
/// assert_eq!("Stats.Example.ORG.".parse::<HostName>().unwrap().to_string(), "stats.example.org");
/// assert!("https://stats.example.org".parse::<HostName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName(String);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim();
        let bad = || {
            format!("`{bare}` is not a host name: write the name alone, such as stats.example.org")
        };
        // Browsers send international names in ASCII (`xn--…`). This parser does the same.
        match Host::parse(bare).map_err(|_| bad())? {
            Host::Domain(name) => match Addressed::parse(&name) {
                Some(Addressed::Name(name)) => Ok(HostName(name)),
                _ => Err(bad()),
            },
            Host::Ipv4(_) | Host::Ipv6(_) => Err(format!(
                "`{bare}` is an IP address, and those are always accepted"
            )),
        }
    }
}

/// The host of a request, from `Host` or an absolute request target.
#[derive(Debug, PartialEq, Eq)]
enum Addressed {
    Ip,
    Name(String),
}

impl Addressed {
    /// Parses `host` or `host:port`. `None` for anything else, such as two hosts.
    fn parse(text: &str) -> Option<Self> {
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(rest) = text.strip_prefix('[') {
            let (ip, port) = rest.split_once(']')?;
            // A link-local address may include a zone.
            let ip = ip
                .split('%')
                .next()
                .expect("split returns at least one part");
            let fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return (fits && ip.parse::<Ipv6Addr>().is_ok()).then_some(Addressed::Ip);
        }
        let (host, port) = text.split_once(':').unwrap_or((text, ""));
        let host = host.strip_suffix('.').unwrap_or(host);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !is_port(port) || host.is_empty() || host.len() > MAX_NAME || !host.bytes().all(plain) {
            return None;
        }
        if host.parse::<Ipv4Addr>().is_ok() {
            return Some(Addressed::Ip);
        }
        Some(Addressed::Name(host.to_ascii_lowercase()))
    }
}

/// Why a request is rejected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has no host, or an invalid one.
    Malformed,
    /// It names a host that is not in the list.
    Unknown(String),
}

/// The host names of a dashboard, besides `localhost`, its subdomains, and IP addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(BTreeSet<HostName>);

impl FromIterator<HostName> for Hosts {
    fn from_iter<I: IntoIterator<Item = HostName>>(names: I) -> Self {
        Hosts(names.into_iter().collect())
    }
}

/// Lists the names in order, separated by commas.
impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|name| name.0.as_str()).collect();
        f.write_str(&names.join(", "))
    }
}

impl Hosts {
    /// Combines two lists.
    #[must_use]
    pub fn and(&self, others: &Hosts) -> Hosts {
        Hosts(self.0.union(&others.0).cloned().collect())
    }

    /// Checks the `Host` header and the host of the target of a request. If both are present both
    /// must match, because a browser or a proxy may have used either.
    pub(super) fn admit(&self, header: Option<&str>, target: Option<&str>) -> Result<(), Refusal> {
        let mut named = [target, header].into_iter().flatten().peekable();
        if named.peek().is_none() {
            return Err(Refusal::Malformed);
        }
        named.try_for_each(|text| match Addressed::parse(text) {
            None => Err(Refusal::Malformed),
            Some(Addressed::Ip) => Ok(()),
            Some(Addressed::Name(name)) if name == "localhost" || name.ends_with(".localhost") => {
                Ok(())
            }
            Some(Addressed::Name(name)) => {
                let name = HostName(name);
                if self.0.contains(&name) {
                    Ok(())
                } else {
                    Err(Refusal::Unknown(name.0))
                }
            }
        })
    }
}

/// An IP address or an address range: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: u128,
    bits: u32,
}

impl Network {
    fn holds(self, address: IpAddr) -> bool {
        let differ = self.first ^ wide(address);
        self.bits == 0 || differ >> (128 - self.bits) == 0
    }
}

/// Converts an address to IPv6; an IPv4 address is mapped.
fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` is not an address: write one such as 10.0.0.7, or a range such as 10.0.0.0/8"
            )
        };
        let (address, bits) = text
            .trim()
            .split_once('/')
            .map_or((text.trim(), None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let (most, before) = if address.is_ipv4() {
            (32, 96)
        } else {
            (128, 0)
        };
        let bits: u32 = bits.map_or(Ok(most), str::parse).map_err(|_| bad())?;
        if bits > most {
            return Err(bad());
        }
        Ok(Network {
            first: wide(address),
            bits: bits + before,
        })
    }
}

/// The proxies whose `X-Forwarded-…` headers are trusted. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

impl FromIterator<Network> for Proxies {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Proxies(networks.into_iter().collect())
    }
}

impl Proxies {
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(address))
    }

    /// Returns the client behind a connection's peer, given the values of `X-Forwarded-For` in
    /// order. Each proxy appends the address of its client, so the list is trusted from its end up
    /// to the first address that is not a trusted proxy.
    pub(super) fn client<'h>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'h str>,
    ) -> IpAddr {
        let mut client = peer;
        let mut before = forwarded.flat_map(|value| value.split(',')).rev();
        while self.trusts(client) {
            match before.next().map(|text| address(text.trim())) {
                Some(Some(address)) => client = address,
                // Invalid or exhausted: the last trusted value counts.
                _ => break,
            }
        }
        client
    }
}

/// Parses an address as proxies write it, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .parse()
        .ok()
        .or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()));
    bare.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Hosts {
        names
            .iter()
            .map(|name| name.parse::<HostName>().unwrap())
            .collect()
    }

    #[test]
    fn own_names_addresses_and_localhost_are_admitted() {
        let hosts = hosts(&["Stats.example.org", "box"]);
        for own in [
            "localhost",
            "localhost:8080",
            "LocalHost.",
            "a.b.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8080",
            "10.1.2.3:",
            "[::1]",
            "[::1]:8080",
            "[fe80::1%eth0]:8080",
            "stats.example.org",
            "STATS.EXAMPLE.ORG.:443",
            "box:8080",
        ] {
            assert_eq!(hosts.admit(Some(own), None), Ok(()), "{own}");
            assert_eq!(hosts.admit(Some("localhost"), Some(own)), Ok(()), "{own}");
        }
    }

    #[test]
    fn other_names_and_what_is_no_host_are_not() {
        let hosts = hosts(&["stats.example.org"]);
        for other in [
            "evil.test",
            "evil.test:8080",
            "localhost.evil.test",
            "notlocalhost",
            "stats.example.org.evil.test",
            "example.org",
            "127.0.0.1.evil.test",
            "0x7f.1",
            "2130706433",
        ] {
            assert!(
                matches!(hosts.admit(Some(other), None), Err(Refusal::Unknown(_))),
                "{other}"
            );
            // The target is checked whatever the header says, and vice versa.
            assert!(
                matches!(
                    hosts.admit(Some("localhost"), Some(other)),
                    Err(Refusal::Unknown(_))
                ),
                "{other}"
            );
            assert!(
                matches!(
                    hosts.admit(Some(other), Some("localhost")),
                    Err(Refusal::Unknown(_))
                ),
                "{other}"
            );
        }
        for malformed in [
            "",
            ".",
            "localhost, evil.test",
            "localhost evil.test",
            "localhost:80:80",
            "localhost:port",
            "user@localhost",
            "[::1",
            "[localhost]",
            "[::1]evil.test",
            "::1",
            "b\u{fc}cher.example",
            "localhost/",
        ] {
            assert_eq!(
                hosts.admit(Some(malformed), None),
                Err(Refusal::Malformed),
                "{malformed}"
            );
        }
        assert_eq!(hosts.admit(None, None), Err(Refusal::Malformed));
    }

    #[test]
    fn a_host_is_named_by_its_name_alone() {
        let name = |text: &str| text.parse::<HostName>().map(|name| name.to_string());
        assert_eq!(
            name(" B\u{fc}cher.example "),
            Ok("xn--bcher-kva.example".to_owned())
        );
        for wrong in [
            "",
            "https://a.example",
            "a.example:8080",
            "a.example/x",
            "*.example.org",
            "10.0.0.1",
            "a b",
            "*",
        ] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_client_is_the_one_that_trusted_proxies_name() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let proxies: Proxies = ["10.0.0.0/8", "::1", "fd00::/8"]
            .map(|text| text.parse::<Network>().unwrap())
            .into_iter()
            .collect();
        let client = |peer: &str, forwarded: &[&str]| {
            proxies
                .client(ip(peer), forwarded.iter().copied())
                .to_string()
        };
        // Other peers are not trusted.
        assert_eq!(client("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("11.0.0.1", &["203.0.113.9"]), "11.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        // Values that the client itself sent are ignored, in one header or several.
        assert_eq!(
            client("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.2.3.4"]),
            "203.0.113.9"
        );
        assert_eq!(
            client("10.0.0.1", &["1.1.1.1", "203.0.113.9", "fd00::7"]),
            "203.0.113.9"
        );
        assert_eq!(client("::1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client("::1", &["203.0.113.9:4711"]), "203.0.113.9");
        for nonsense in ["unknown", "", ",", "a,b"] {
            assert_eq!(client("10.0.0.1", &[nonsense]), "10.0.0.1", "{nonsense}");
        }
        assert!(
            "0.0.0.0/0"
                .parse::<Network>()
                .unwrap()
                .holds(ip("203.0.113.9"))
        );
        assert!(
            !"0.0.0.0/0"
                .parse::<Network>()
                .unwrap()
                .holds(ip("2001:db8::1"))
        );
        for wrong in [
            "",
            "10",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "host",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
