//! Deletes expired bitmaps when the server starts and every night.
//!
//! The name of a bitmap tells when it expires, so no state is stored. If the server was down at
//! night, cleanup runs at the next start. Several servers on one Redis all do it, and all but the
//! first find nothing to delete.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use chrono::{DateTime, NaiveTime, Utc};

use crate::cli::expiry::Expiry;
use crate::cli::sizes::{estimated_size, plural};
use crate::cli::store::NamedStoreConfig;
use crate::clock::Clock;
use crate::render::many;
use crate::reports::expiry::{self, Over, next_night};
use crate::server;
use crate::tracker::{self, Tracker, Written};

/// Whether a server deletes the expired bitmaps of a store.
#[derive(Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// The bitmaps do not expire.
    NotConfigured,
    ReadOnly,
    /// By the time of `--now`, bitmaps may seem to have expired that have not.
    FixedClock,
    Nightly,
}

pub fn cleanup(named: &NamedStoreConfig, read_only: bool, clock: Clock) -> Cleanup {
    match clock {
        _ if named.expire.policy.is_for_good() => Cleanup::NotConfigured,
        _ if named.read_only || read_only => Cleanup::ReadOnly,
        Clock::Fixed(_) => Cleanup::FixedClock,
        Clock::System => Cleanup::Nightly,
    }
}

/// The wait after the first failure. Each further failure in a row doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// The longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(3600);

/// The longest wait before the clock is read again: the machine may have slept, or its clock may
/// have been set.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// A store and how long its bitmaps are kept.
pub struct Job {
    pub name: String,
    pub tracker: Tracker,
    pub expiry: Expiry,
}

/// The thread that deletes expired bitmaps. It ends when this value is dropped.
pub struct Nightly {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    phase: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// The server may still fail to start. Nothing is deleted until it serves.
    #[default]
    Starting,
    Serving,
    Ending,
}

impl Nightly {
    /// Starts the thread, which deletes nothing until [`starter`](Self::starter) is called.
    pub fn start(jobs: Vec<Job>, at: NaiveTime, clock: Clock) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name("cohortist-nightly".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run(&jobs, at, clock)
            })?;
        Ok(Nightly {
            shared,
            thread: Some(thread),
        })
    }

    /// Returns a function to call when the server serves.
    pub fn starter(&self) -> impl FnOnce() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.enter(Phase::Serving)
    }
}

impl Drop for Nightly {
    fn drop(&mut self) {
        self.shared.enter(Phase::Ending);
        if let Some(thread) = self.thread.take() {
            // The thread itself has reported a panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn enter(&self, phase: Phase) {
        let mut current = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        // The starter may be called after the end.
        if *current != Phase::Ending {
            *current = phase;
        }
        self.changed.notify_all();
    }

    /// Waits until the phase is a different one, but not longer than `limit`. Returns the phase.
    fn wait_while(&self, phase: Phase, limit: Duration) -> Phase {
        let guard = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(guard, limit, |current| *current == phase);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The loop of the thread.
    fn run(&self, jobs: &[Job], at: NaiveTime, clock: Clock) {
        while self.wait_while(Phase::Starting, CLOCK_INTERVAL) == Phase::Starting {}
        let first = Schedule {
            next: clock.now(),
            failures: 0,
        };
        let mut schedules = vec![first; jobs.len()];
        loop {
            for (job, schedule) in jobs.iter().zip(&mut schedules) {
                if self.wait_while(Phase::Starting, Duration::ZERO) == Phase::Ending {
                    return;
                }
                let now = clock.now();
                if schedule.is_due(at, now) {
                    let succeeded = job.expire(now);
                    *schedule = schedule.after(succeeded, at, clock.now());
                }
            }
            let now = clock.now();
            let next = schedules
                .iter()
                .map(|schedule| schedule.next)
                .min()
                .expect("there is a thread only if there are jobs");
            // A time in the past is due now.
            let wait = (next - now).to_std().unwrap_or(Duration::ZERO);
            if self.wait_while(Phase::Serving, wait.min(CLOCK_INTERVAL)) == Phase::Ending {
                return;
            }
        }
    }
}

/// When a store is next checked for expired bitmaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    next: DateTime<Utc>,
    /// The number of failures in a row.
    failures: u32,
}

impl Schedule {
    /// Whether it is time. A clock that was set back does not delay the next night.
    fn is_due(&mut self, at: NaiveTime, now: DateTime<Utc>) -> bool {
        self.next = self.next.min(next_night(at, now));
        self.next <= now
    }

    /// The schedule after an attempt.
    fn after(self, succeeded: bool, at: NaiveTime, now: DateTime<Utc>) -> Schedule {
        let night = next_night(at, now);
        if succeeded {
            return Schedule {
                next: night,
                failures: 0,
            };
        }
        let wait = FIRST_RETRY
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LAST_RETRY);
        Schedule {
            next: night.min(now + wait),
            failures: self.failures.saturating_add(1),
        }
    }
}

impl Job {
    /// Deletes expired bitmaps and logs the outcome. Returns whether to wait for the next night, or
    /// to try again soon.
    fn expire(&self, now: DateTime<Utc>) -> bool {
        let store = self.name.as_str();
        let description = &self.expiry.description;
        match self.tracker.of_listed(|| self.delete_expired(now)) {
            Ok((0, kinds)) => {
                server::expired(store, &kinds, now);
                tracing::info!(store, "nothing has expired (limits: {description})");
                true
            }
            Ok((bitmaps, kinds)) => {
                server::expired(store, &kinds, now);
                let kinds = summary(&kinds);
                tracing::info!(
                    store,
                    bitmaps,
                    "deleted expired bitmaps (limits: {description}): {kinds}"
                );
                true
            }
            // The next night is soon enough: by then the clock may be right, or there are new marks.
            Err(error @ tracker::Error::NewestIsOver { .. }) => {
                server::expiry_refused(store);
                tracing::error!(
                    store,
                    "{error}. If it is right, run `cohortist expire --yes --even-the-newest` to delete what has expired (limits: {description})"
                );
                true
            }
            Err(error) => {
                server::expiry_failed(store);
                tracing::error!(
                    store,
                    "expired bitmaps could not be deleted, trying again later: {error}"
                );
                false
            }
        }
    }

    /// Returns the number of deleted bitmaps, and what they were.
    fn delete_expired(&self, now: DateTime<Utc>) -> tracker::Result<(u64, Vec<Over>)> {
        let keys = self.tracker.due(&self.expiry.policy, now)?;
        if keys.is_empty() {
            return Ok((0, Vec::new()));
        }
        let sizes = self.tracker.sizes(&keys)?;
        let kinds = expiry::sum(keys.iter().zip(sizes));
        let Written { answer, warning } = Written::of(self.tracker.delete_keys(&keys))?;
        if let Some(warning) = warning {
            tracing::error!(store = self.name.as_str(), "{warning}");
        }
        Ok((answer.unwrap_or(keys.len() as u64), kinds))
    }
}

/// `72 bitmaps of hours, about 12 KiB; 1 bitmap of days, about 3 KiB`
fn summary(kinds: &[Over]) -> String {
    let parts: Vec<String> = kinds
        .iter()
        .map(|kind| {
            let bitmaps = many(kind.count, "bitmap");
            let size = estimated_size(kind.bytes);
            format!("{bitmaps} of {}, {size}", plural(kind.grain))
        })
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_runs_every_night_and_waits_longer_after_each_failure(
            second in 0_i64..4_000_000_000,
            of_day in 0_u32..86_400,
            outcomes in prop::collection::vec((any::<bool>(), 0_i64..90_000), 1..60),
        ) {
            let at = NaiveTime::from_num_seconds_from_midnight_opt(of_day, 0).unwrap();
            let mut now = DateTime::from_timestamp(second, 0).unwrap();
            let mut schedule = Schedule { next: now, failures: 0 };
            let mut last_wait = TimeDelta::zero();
            for (succeeded, late) in outcomes {
                prop_assert!(schedule.is_due(at, now));
                let after = schedule.after(succeeded, at, now);
                let wait = after.next - now;
                // Never at once, and never later than the next night.
                prop_assert!(wait > TimeDelta::zero() && after.next <= next_night(at, now));
                if succeeded {
                    prop_assert_eq!((after.next, after.failures), (next_night(at, now), 0));
                } else if after.next < next_night(at, now) {
                    prop_assert!((5..=3600).contains(&wait.num_seconds()));
                    prop_assert!(schedule.failures == 0 || wait >= last_wait);
                    last_wait = wait;
                }
                let mut early = after;
                prop_assert!(!early.is_due(at, after.next - TimeDelta::milliseconds(1)));
                schedule = after;
                now = schedule.next + TimeDelta::seconds(late);
            }
        }
    }

    #[test]
    fn a_clock_set_back_by_years_does_not_stop_the_nights() {
        let at = NaiveTime::from_hms_opt(3, 0, 0).unwrap();
        let moment = |text| crate::calendar::parse_moment(text).unwrap();
        let mut schedule = Schedule {
            next: moment("2036-01-01T03:00:00Z"),
            failures: 0,
        };
        assert!(!schedule.is_due(at, moment("2026-11-23T14:00:00Z")));
        assert!(schedule.is_due(at, moment("2026-11-24T03:00:00Z")));
    }
}
