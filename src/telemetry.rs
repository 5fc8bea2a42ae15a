//! What the process counts of its own work, for `/metrics`.
//!
//! The counters are atomics that any thread may add to. Nothing here reads a clock or does I/O.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of every histogram, in seconds.
pub const SECONDS: [f64; 17] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// The same bounds in nanoseconds.
const NANOS: [u64; SECONDS.len()] = [
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long things took: a histogram with the bounds of [`SECONDS`].
#[derive(Debug, Default)]
pub struct Durations {
    /// How many took at most each bound and more than the one before; the last is for those beyond
    /// all bounds.
    counts: [AtomicU64; NANOS.len() + 1],
    nanos: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// For each bound of [`SECONDS`], how many took at most that long.
    pub at_most: [u64; SECONDS.len()],
    /// How many there were.
    pub count: u64,
    /// How long all of them took together.
    pub sum: Duration,
}

impl Durations {
    /// Nothing has been measured yet.
    pub const fn new() -> Self {
        Durations {
            counts: [const { AtomicU64::new(0) }; NANOS.len() + 1],
            nanos: AtomicU64::new(0),
        }
    }

    /// Adds one thing that took so long.
    pub fn observe(&self, took: Duration) {
        self.observe_each(took, 1);
    }

    /// Adds so many things that took so long each. Costs the same for any number of them.
    pub fn observe_each(&self, took: Duration, count: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = NANOS.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = self.counts.get(bucket) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        self.nanos
            .fetch_add(nanos.saturating_mul(count), Ordering::Relaxed);
    }

    /// What was measured so far.
    pub fn histogram(&self) -> Histogram {
        let mut count = 0;
        let mut at_most = [0; SECONDS.len()];
        for (counted, total) in self.counts.iter().zip(&mut at_most) {
            count += counted.load(Ordering::Relaxed);
            *total = count;
        }
        count += self.counts[NANOS.len()].load(Ordering::Relaxed);
        let sum = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        Histogram {
            at_most,
            count,
            sum,
        }
    }
}

/// What the listener for Redis clients does.
#[derive(Debug, Default)]
pub struct Resp {
    /// Connections that were accepted.
    pub opened: Counter,
    /// Those of them that ended.
    pub closed: Counter,
    /// How long each command took until its reply was ready. Commands that are carried out
    /// together, such as the SETBITs of a pipeline, take as long as all of them.
    pub commands: Durations,
    /// Passwords that were wrong.
    pub auth_failures: Counter,
}

/// All listeners for Redis clients of this process together.
pub static RESP: Resp = Resp {
    opened: Counter::new(),
    closed: Counter::new(),
    commands: Durations::new(),
    auth_failures: Counter::new(),
};

/// Requests to `POST /api/v1/marks` whose token was wrong.
pub static TOKEN_FAILURES: Counter = Counter::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_from_its_bound_on() {
        for (bound, nanos) in SECONDS.iter().zip(NANOS) {
            assert_eq!(Duration::from_secs_f64(*bound), Duration::from_nanos(nanos));
        }
        let durations = Durations::new();
        let at = |bound: f64| SECONDS.iter().position(|other| *other == bound).unwrap();
        durations.observe(Duration::ZERO);
        durations.observe(Duration::from_millis(1));
        durations.observe_each(Duration::from_nanos(1_000_001), 1000);
        durations.observe(Duration::from_secs(60));
        durations.observe(Duration::from_secs(3600));
        let seen = durations.histogram();
        assert_eq!(
            (
                seen.at_most[0],
                seen.at_most[at(0.0005)],
                seen.at_most[at(0.001)]
            ),
            (1, 1, 2)
        );
        assert_eq!(
            (
                seen.at_most[at(0.0025)],
                seen.at_most[at(30.0)],
                seen.at_most[at(60.0)]
            ),
            (1002, 1002, 1003)
        );
        assert_eq!(seen.count, 1004);
        assert_eq!(seen.sum, Duration::from_nanos(3_661_001_001_000));
    }
}
