//! What `serve` does at night: it deletes the bitmaps that by the configuration have been kept long
//! enough.
//!
//! What is over when the server starts goes at once, and then every night. Whether a bitmap is over
//! can be told at any time from its name alone, so nothing has to be remembered of a night on which
//! no server ran; and one that is started anew every evening does its work none the less. Several
//! servers on one Redis do it one after the other, and the second finds nothing left.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use chrono::{DateTime, NaiveTime, Utc};

use crate::cli::expire::{Expiry, plural, room};
use crate::clock::Clock;
use crate::render::many;
use crate::reports::expiry::{self, Over, next_night};
use crate::server;
use crate::tracker::{self, Tracker, Written};

/// How long after the first failure it is tried again; after each further one twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// The longest time between two tries.
const LAST_RETRY: Duration = Duration::from_secs(3600);

/// How long to wait at most before the clock is read again: a machine may have slept, or its clock
/// been set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A store and how long its bitmaps are kept.
pub struct Job {
    pub name: String,
    pub tracker: Tracker,
    pub expiry: Expiry,
}

/// A thread that deletes what is over. It ends when this is dropped.
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
    /// Nothing is deleted for a server that finds its port taken.
    #[default]
    Starting,
    Serving,
    Ending,
}

impl Nightly {
    /// Makes the thread, which waits until [`beginning`](Self::beginning) is called.
    pub fn start(jobs: Vec<Job>, at: NaiveTime, clock: Clock) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name("cohortist-nightly".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.keep(&jobs, at, clock)
            })?;
        Ok(Nightly {
            shared,
            thread: Some(thread),
        })
    }

    /// What lets it begin.
    pub fn beginning(&self) -> impl FnOnce() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.enter(Phase::Serving)
    }
}

impl Drop for Nightly {
    fn drop(&mut self) {
        self.shared.enter(Phase::Ending);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn enter(&self, phase: Phase) {
        let mut now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever begins after the end began does not undo it.
        if *now != Phase::Ending {
            *now = phase;
        }
        self.changed.notify_all();
    }

    /// Waits as long as it is that phase, at most so long; answers the phase that it is then.
    fn wait(&self, phase: Phase, limit: Duration) -> Phase {
        let held = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(held, limit, |now| *now == phase);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The work of the thread.
    fn keep(&self, jobs: &[Job], at: NaiveTime, clock: Clock) {
        while self.wait(Phase::Starting, LOOK_AGAIN) == Phase::Starting {}
        let begun = clock.now();
        let mut turns = vec![
            Turn {
                due: begun,
                failures: 0
            };
            jobs.len()
        ];
        loop {
            for (job, turn) in jobs.iter().zip(&mut turns) {
                if self.wait(Phase::Starting, Duration::ZERO) == Phase::Ending {
                    return;
                }
                let now = clock.now();
                if turn.is_due(at, now) {
                    let went = job.expire(now);
                    *turn = turn.after(went, at, clock.now());
                }
            }
            let now = clock.now();
            let next = turns
                .iter()
                .map(|turn| turn.due.signed_duration_since(now))
                .min()
                .unwrap_or_default();
            let limit = next.to_std().unwrap_or_default().min(LOOK_AGAIN);
            if self.wait(Phase::Serving, limit) == Phase::Ending {
                return;
            }
        }
    }
}

/// When a store is to be looked at next, and how often that has failed in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    due: DateTime<Utc>,
    failures: u32,
}

impl Turn {
    /// Whether it is time. A clock that was set back does not put the next night off.
    fn is_due(&mut self, at: NaiveTime, now: DateTime<Utc>) -> bool {
        self.due = self.due.min(next_night(at, now));
        self.due <= now
    }

    /// The turn after this one, which was taken and `went` well or not.
    fn after(self, went: bool, at: NaiveTime, now: DateTime<Utc>) -> Turn {
        let night = next_night(at, now);
        if went {
            return Turn {
                due: night,
                failures: 0,
            };
        }
        let wait = FIRST_RETRY
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LAST_RETRY);
        Turn {
            due: night.min(now + wait),
            failures: self.failures.saturating_add(1),
        }
    }
}

impl Job {
    /// Deletes what is over, tells of it, and says whether that went well.
    fn expire(&self, now: DateTime<Utc>) -> bool {
        let store = self.name.as_str();
        match self.tracker.of_listed(|| self.deleted(now)) {
            Ok((bitmaps, kinds)) => {
                server::expired(store, &kinds, now);
                if bitmaps == 0 {
                    tracing::info!(
                        store,
                        "nothing has been kept longer than {}",
                        self.expiry.words
                    );
                } else {
                    tracing::info!(
                        store,
                        bitmaps,
                        "deleted what was kept longer than {}: {}",
                        self.expiry.words,
                        told(&kinds)
                    );
                }
                true
            }
            // Tried again the next night: by then the clock may be right, or somebody have marked.
            Err(error @ tracker::Error::NewestIsOver { .. }) => {
                server::expiry_refused(store);
                tracing::error!(
                    store,
                    "{error}. If it is right, run `cohortist expire --yes --even-the-newest` to delete what has been kept longer than {}",
                    self.expiry.words
                );
                true
            }
            Err(error) => {
                server::expiry_failed(store);
                tracing::error!(
                    store,
                    "what has been kept long enough could not be deleted, which is tried again: {error}"
                );
                false
            }
        }
    }

    fn deleted(&self, now: DateTime<Utc>) -> tracker::Result<(u64, Vec<Over>)> {
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
fn told(kinds: &[Over]) -> String {
    let told = kinds.iter().map(|over| {
        format!(
            "{} of {}, {}",
            many(over.count, "bitmap"),
            plural(over.grain),
            room(over.bytes)
        )
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn turns_come_every_night_and_failures_are_tried_again_ever_less_often(
            second in 0_i64..4_000_000_000, of_day in 0_u32..86_400, outcomes in prop::collection::vec((any::<bool>(), 0_i64..90_000), 1..60),
        ) {
            let at = NaiveTime::from_num_seconds_from_midnight_opt(of_day, 0).unwrap();
            let mut now = DateTime::from_timestamp(second, 0).unwrap();
            let mut turn = Turn { due: now, failures: 0 };
            let mut last_wait = TimeDelta::zero();
            for (went, late) in outcomes {
                prop_assert!(turn.is_due(at, now));
                let next = turn.after(went, at, now);
                let wait = next.due - now;
                // Never at once again, and never later than the next night.
                prop_assert!(wait > TimeDelta::zero() && next.due <= next_night(at, now));
                if went {
                    prop_assert_eq!((next.due, next.failures), (next_night(at, now), 0));
                } else if next.due < next_night(at, now) {
                    prop_assert!((5..=3600).contains(&wait.num_seconds()));
                    prop_assert!(turn.failures == 0 || wait >= last_wait);
                    last_wait = wait;
                }
                // A second early is early.
                let mut early = next;
                prop_assert!(!early.is_due(at, next.due - TimeDelta::milliseconds(1)));
                turn = next;
                now = turn.due + TimeDelta::seconds(late);
            }
        }
    }

    #[test]
    fn a_clock_set_back_by_years_does_not_stop_the_nights() {
        let at = NaiveTime::from_hms_opt(3, 0, 0).unwrap();
        let moment = |text| crate::calendar::parse_moment(text).unwrap();
        let mut turn = Turn {
            due: moment("2036-01-01T03:00:00Z"),
            failures: 0,
        };
        assert!(!turn.is_due(at, moment("2026-11-23T14:00:00Z")));
        assert!(turn.is_due(at, moment("2026-11-24T03:00:00Z")));
    }
}
