//! Counters of this process, for `/metrics`.
//!
//! The counters are atomics that any thread may add to. This module does no I/O and reads no clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets of all histograms, in seconds.
pub const SECONDS: [f64; 17] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// The bounds of [`SECONDS`], in nanoseconds.
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

/// A counter that only increases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Creates a counter at zero.
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// Increases the counter.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of durations, with the bounds of [`SECONDS`].
#[derive(Debug, Default)]
pub struct Durations {
    /// The number of durations in each bucket. The last bucket is for durations beyond all bounds.
    counts: [AtomicU64; NANOS.len() + 1],
    nanos: AtomicU64,
}

/// The state of a histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// For each bound of [`SECONDS`], the number of durations that are at most that long.
    pub at_most: [u64; SECONDS.len()],
    /// The number of durations.
    pub count: u64,
    /// The sum of all durations.
    pub sum: Duration,
}

impl Durations {
    /// Creates an empty histogram.
    pub const fn new() -> Self {
        Durations {
            counts: [const { AtomicU64::new(0) }; NANOS.len() + 1],
            nanos: AtomicU64::new(0),
        }
    }

    /// Adds a duration.
    pub fn observe(&self, duration: Duration) {
        self.observe_each(duration, 1);
    }

    /// Adds the same duration `count` times. The cost does not depend on `count`.
    pub fn observe_each(&self, duration: Duration, count: u64) {
        let nanos = u64::try_from(duration.as_nanos()).expect("less than 500 years");
        let bucket = NANOS.partition_point(|bound| *bound < nanos);
        self.counts[bucket].fetch_add(count, Ordering::Relaxed);
        self.nanos
            .fetch_add(nanos.saturating_mul(count), Ordering::Relaxed);
    }

    /// Returns the current state.
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

/// Counters of the listener for Redis clients.
#[derive(Debug, Default)]
pub struct Resp {
    /// Accepted connections.
    pub opened: Counter,
    /// Closed connections.
    pub closed: Counter,
    /// The time from each command to its reply. For commands that are executed together, such as
    /// the SETBITs of a pipeline, it is the time of all of them.
    pub commands: Durations,
    /// Wrong passwords.
    pub auth_failures: Counter,
}

/// The counters of all listeners for Redis clients of this process.
pub static RESP: Resp = Resp {
    opened: Counter::new(),
    closed: Counter::new(),
    commands: Durations::new(),
    auth_failures: Counter::new(),
};

/// Requests to `POST /api/v1/marks` with a wrong token.
pub static TOKEN_FAILURES: Counter = Counter::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_for_its_bound_and_all_greater_bounds() {
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
