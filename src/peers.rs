//! Misbehaving peers, by address: how often each one failed recently, and how long the next wrong
//! password waits for its answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::{self, Counter};

/// How many peers are remembered: some hundred kilobytes.
const MOST: usize = 4096;

/// After how long without another fault a peer is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);

/// How long the first wrong password waits, and the most that any does; each waits twice as long as
/// the one before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(3);

/// How many failures of a peer are logged one by one. Beyond that every power of two is.
const LOGGED: u32 = 5;

/// How often each peer did something, in bounded memory.
#[derive(Debug, Default)]
pub struct Peers(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Peers {
    /// Counts once more what a peer did, and says how often it has done so of late. When there are
    /// too many peers, the one that was quiet the longest is forgotten.
    pub fn count(&self, peer: IpAddr, now: Instant) -> u32 {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = source(peer);
        if peers.len() >= MOST && !peers.contains_key(&source) {
            peers.retain(|_, (_, last)| now.saturating_duration_since(*last) < FORGET_AFTER);
            let quietest = peers
                .iter()
                .min_by_key(|(_, (_, last))| *last)
                .map(|(peer, _)| *peer);
            if let Some(quietest) = quietest.filter(|_| peers.len() >= MOST) {
                peers.remove(&quietest);
            }
        }
        let (count, last) = peers.entry(source).or_insert((0, now));
        if now.saturating_duration_since(*last) >= FORGET_AFTER {
            *count = 0;
        }
        (*count, *last) = (count.saturating_add(1), now);
        *count
    }
}

/// The source behind an address: an IPv4 address, or an IPv6 /64, since one subscriber has all of
/// its 2⁶⁴ addresses.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// Where a password is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `AUTH` and `HELLO … AUTH` of Redis clients.
    Resp,
    /// The token of `POST /api/v1/marks`.
    Http,
}

impl Door {
    /// Its name in logs.
    fn as_str(self) -> &'static str {
        match self {
            Door::Resp => "resp",
            Door::Http => "http",
        }
    }

    fn counter(self) -> &'static Counter {
        match self {
            Door::Resp => &telemetry::RESP.auth_failures,
            Door::Http => &telemetry::TOKEN_FAILURES,
        }
    }
}

/// Wrong passwords at one door.
#[derive(Debug)]
pub struct Failures {
    door: Door,
    peers: Peers,
}

impl Failures {
    /// None so far.
    pub fn at(door: Door) -> Self {
        Failures {
            door,
            peers: Peers::default(),
        }
    }

    /// Counts and logs a wrong password, and says how long its answer has to wait. The caller must
    /// hold no lock while it waits.
    pub fn failed(&self, peer: Option<IpAddr>, now: Instant) -> Duration {
        self.door.counter().add(1);
        let count = self
            .peers
            .count(peer.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), now);
        let wait = FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(count - 1))
            .min(LAST_WAIT);
        if count <= LOGGED || count.is_power_of_two() {
            let (door, client) = (
                self.door.as_str(),
                peer.map(|peer| peer.to_string()).unwrap_or_default(),
            );
            tracing::warn!(
                door,
                client,
                failures = count,
                "wrong password; its answer waits {} ms",
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
    fn each_failure_waits_twice_as_long_up_to_a_bound_and_a_quiet_peer_is_forgotten() {
        let (failures, begun) = (Failures::at(Door::Http), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
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
            assert_eq!(failures.failed(Some(one), begun), LAST_WAIT);
        }
        assert_eq!(
            failures.failed(Some(one), begun + FORGET_AFTER - Duration::from_secs(1)),
            LAST_WAIT
        );
        assert_eq!(
            failures.failed(Some(one), begun + FORGET_AFTER * 2),
            FIRST_WAIT
        );
    }

    #[test]
    fn addresses_of_one_network_are_one_peer() {
        let (peers, now) = (Peers::default(), Instant::now());
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
    fn many_peers_take_no_more_memory_and_those_who_go_on_are_remembered() {
        let (peers, begun) = (Peers::default(), Instant::now());
        let guesser: IpAddr = [192, 0, 2, 1].into();
        for number in 0..3 * u32::try_from(MOST).unwrap() {
            let now = begun + Duration::from_millis(number.into());
            peers.count(IpAddr::V4((number | 0x0a00_0000).into()), now);
            assert_eq!(peers.count(guesser, now), number + 1);
        }
        assert!(peers.0.lock().unwrap().len() <= MOST);
    }
}
