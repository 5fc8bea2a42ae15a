//! Counts the failures of each peer, such as wrong passwords, and delays the answers to them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::{self, Counter};

/// The maximum number of peers that are remembered. They take some hundred kilobytes.
const MAX_PEERS: usize = 4096;

/// The time since the last event of a peer after which the peer is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);

/// The delay of the answer to the first wrong password of a peer. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The maximum delay.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// The number of failures of a peer that are all logged. After that, only the failures whose number
/// is a power of two are logged.
const LOGGED: u32 = 5;

/// Counts events of peers, in bounded memory.
#[derive(Debug, Default)]
pub struct Peers(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Peers {
    /// Counts an event of a peer. Returns the number of recent events of the peer. If there are too
    /// many peers, the one whose last event is the oldest is forgotten.
    pub fn count(&self, peer: IpAddr, now: Instant) -> u32 {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = source(peer);
        if peers.len() >= MAX_PEERS && !peers.contains_key(&source) {
            peers.retain(|_, (_, last)| now.saturating_duration_since(*last) < FORGET_AFTER);
            let oldest = peers
                .iter()
                .min_by_key(|(_, (_, last))| *last)
                .map(|(peer, _)| *peer);
            if let Some(oldest) = oldest.filter(|_| peers.len() >= MAX_PEERS) {
                peers.remove(&oldest);
            }
        }
        let (count, last) = peers.entry(source).or_insert((0, now));
        if now.saturating_duration_since(*last) >= FORGET_AFTER {
            *count = 0;
        }
        *count = count.saturating_add(1);
        *last = now;
        *count
    }
}

/// Returns the network that an address is counted under: an IPv4 address, or an IPv6 /64, because
/// one subscriber usually has all addresses of a /64.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// An endpoint that requires a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The listener for Redis clients: `AUTH` and `HELLO … AUTH`.
    Resp,
    /// `POST /api/v1/marks`, with its token.
    Http,
}

impl Endpoint {
    /// Returns the name of the endpoint in logs.
    fn as_str(self) -> &'static str {
        match self {
            Endpoint::Resp => "resp",
            Endpoint::Http => "http",
        }
    }

    fn counter(self) -> &'static Counter {
        match self {
            Endpoint::Resp => &telemetry::RESP.auth_failures,
            Endpoint::Http => &telemetry::TOKEN_FAILURES,
        }
    }
}

/// Counts wrong passwords at one endpoint.
#[derive(Debug)]
pub struct AuthFailures {
    endpoint: Endpoint,
    peers: Peers,
}

impl AuthFailures {
    /// Creates a counter without failures.
    pub fn new(endpoint: Endpoint) -> Self {
        AuthFailures {
            endpoint,
            peers: Peers::default(),
        }
    }

    /// Counts and logs a wrong password. Returns how long the caller must wait before it answers.
    /// The caller must hold no lock while it waits.
    pub fn failed(&self, peer: Option<IpAddr>, now: Instant) -> Duration {
        self.endpoint.counter().add(1);
        let count = self
            .peers
            .count(peer.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), now);
        let wait = FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(count - 1))
            .min(MAX_WAIT);
        if count <= LOGGED || count.is_power_of_two() {
            tracing::warn!(
                endpoint = self.endpoint.as_str(),
                client = peer.map(|peer| peer.to_string()).unwrap_or_default(),
                failures = count,
                "wrong password; the answer is delayed by {} ms",
                wait.as_millis()
            );
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_maximum_and_inactive_peers_are_forgotten() {
        let failures = AuthFailures::new(Endpoint::Http);
        let begun = Instant::now();
        let one: IpAddr = [192, 0, 2, 1].into();
        let other: IpAddr = [192, 0, 2, 2].into();
        let waits: Vec<u128> = (0..7)
            .map(|_| failures.failed(Some(one), begun).as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3000, 3000]);
        assert_eq!(
            failures.failed(Some(other), begun).as_millis(),
            100,
            "another peer"
        );
        for _ in 0..100 {
            assert_eq!(failures.failed(Some(one), begun), MAX_WAIT);
        }
        assert_eq!(
            failures.failed(Some(one), begun + FORGET_AFTER - Duration::from_secs(1)),
            MAX_WAIT
        );
        assert_eq!(
            failures.failed(Some(one), begun + FORGET_AFTER * 2),
            FIRST_WAIT
        );
    }

    #[test]
    fn addresses_of_one_network_are_one_peer() {
        let peers = Peers::default();
        let now = Instant::now();
        let count = |text: &str| peers.count(text.parse().unwrap(), now);
        assert_eq!(
            [
                count("2001:db8::1"),
                count("2001:db8::2:0:0:9"),
                count("2001:db8:0:1::1")
            ],
            [1, 2, 1]
        );
        assert_eq!(
            [
                count("192.0.2.1"),
                count("::ffff:192.0.2.1"),
                count("192.0.2.2")
            ],
            [1, 2, 1]
        );
    }

    #[test]
    fn memory_is_bounded_and_active_peers_are_remembered() {
        let peers = Peers::default();
        let begun = Instant::now();
        let guesser: IpAddr = [192, 0, 2, 1].into();
        for number in 0..3 * u32::try_from(MAX_PEERS).unwrap() {
            let now = begun + Duration::from_millis(number.into());
            peers.count(IpAddr::V4((number | 0x0a00_0000).into()), now);
            assert_eq!(peers.count(guesser, now), number + 1);
        }
        assert!(peers.0.lock().unwrap().len() <= MAX_PEERS);
    }
}
