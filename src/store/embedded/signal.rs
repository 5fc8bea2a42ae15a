//! Synchronization between the threads of a store on disk: writers wait for room, threads wait for
//! work and for shutdown, and all of them wait for the disk.
//!
//! This file is compiled twice: with the primitives of `std`, and in `signal_model.rs` with those
//! of `shuttle`, which decide the order in which threads run.

use std::sync::PoisonError;
use std::time::Instant;

use super::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// Requests for checkpoints, and their outcomes.
#[derive(Default)]
pub struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    requested: bool,
    /// The number of checkpoints that were attempted.
    begun: u64,
    /// The number of attempts that ended.
    ended: u64,
    /// Why the last attempt failed.
    failure: Option<String>,
    /// The number of checkpoints that took over the changes so far and so made room.
    taken_over: u64,
}

/// Why a writer stopped waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// A checkpoint took over the changes so far.
    Room,
    /// A checkpoint that began in the meantime failed.
    Failed(String),
    /// No checkpoint ended in time.
    TimedOut,
    /// The store is being closed.
    Stopped,
}

/// What the checkpoint thread must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Whether the store is being closed.
    pub stop: bool,
    /// Whether a checkpoint was requested.
    pub checkpoint: bool,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of the state, no later than `until`. Returns `None` if that time has
    /// passed.
    fn wait<'s>(
        &self,
        state: MutexGuard<'s, State>,
        until: Instant,
    ) -> Option<MutexGuard<'s, State>> {
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| {
            self.changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        })
    }

    /// Requests a checkpoint.
    pub fn request(&self) {
        let mut state = self.lock();
        if !state.requested {
            state.requested = true;
            self.changed.notify_all();
        }
    }

    /// Requests a checkpoint that begins after this call, and waits until it has made room or
    /// ended.
    pub fn wait_for_room(&self, until: Instant) -> WaitOutcome {
        let mut state = self.lock();
        let taken_over = state.taken_over;
        let attempt = state.begun + 1;
        state.requested = true;
        self.changed.notify_all();
        loop {
            if state.stop {
                return WaitOutcome::Stopped;
            }
            if state.taken_over > taken_over {
                return WaitOutcome::Room;
            }
            if state.ended >= attempt {
                return state
                    .failure
                    .clone()
                    .map_or(WaitOutcome::Room, WaitOutcome::Failed);
            }
            match self.wait(state, until) {
                Some(changed) => state = changed,
                None => return WaitOutcome::TimedOut,
            }
        }
    }

    /// Waits for a request or for shutdown, no later than `until`.
    pub fn wait_for_work(&self, until: Instant) -> Work {
        let mut state = self.lock();
        loop {
            let work = Work {
                stop: state.stop,
                checkpoint: state.requested,
            };
            if work.stop || work.checkpoint {
                return work;
            }
            match self.wait(state, until) {
                Some(changed) => state = changed,
                None => return work,
            }
        }
    }

    /// Returns whether the store is being closed.
    pub fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// Waits for shutdown, no later than `until`. Returns whether the store is being closed.
    pub fn wait_for_stop(&self, until: Instant) -> bool {
        let mut state = self.lock();
        while !state.stop {
            match self.wait(state, until) {
                Some(changed) => state = changed,
                None => return false,
            }
        }
        true
    }

    /// Records that an attempt begins. It satisfies all requests so far.
    pub fn begin(&self) {
        let mut state = self.lock();
        state.requested = false;
        state.begun += 1;
    }

    /// Records that a checkpoint took over the changes so far.
    pub fn took_over(&self) {
        self.lock().taken_over += 1;
        self.changed.notify_all();
    }

    /// Records that the attempt ended, and why it failed, if it did.
    pub fn end(&self, failure: Option<String>) {
        let mut state = self.lock();
        state.ended = state.begun;
        state.failure = failure;
        self.changed.notify_all();
    }

    /// Records that the store is being closed.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

/// The sequence number up to which all changes survive a power failure.
#[derive(Default)]
pub struct Durable {
    sequence: AtomicU64,
    /// Held during a sync.
    sync: Mutex<()>,
}

impl Durable {
    /// Creates a value for a store in which all changes up to `sequence` are durable.
    pub fn new(sequence: u64) -> Self {
        Durable {
            sequence: AtomicU64::new(sequence),
            sync: Mutex::new(()),
        }
    }

    /// Returns the sequence number up to which all changes are durable.
    pub fn get(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Records that all changes up to `sequence` are durable.
    pub fn advance(&self, sequence: u64) {
        self.sequence.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Makes all changes up to `sequence` durable. `sync` makes all existing changes durable and
    /// returns the sequence number of the last one. One sync is enough for all callers that wait
    /// here.
    pub fn reach<E>(&self, sequence: u64, sync: impl FnOnce() -> Result<u64, E>) -> Result<(), E> {
        if self.get() >= sequence {
            return Ok(());
        }
        let _sync = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get() < sequence {
            self.advance(sync()?);
        }
        Ok(())
    }
}
