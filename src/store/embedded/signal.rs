//! Who waits for whom in a store on disk: writers for room, threads for work and for the end, and everyone for the disk.
//!
//! This file is compiled twice: with the primitives of `std`, and in `model.rs` with those of `shuttle`, which decide in
//! what order threads run.

use std::sync::PoisonError;
use std::time::Instant;

use super::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// Requests for checkpoints, and what came of them.
#[derive(Default)]
pub struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    requested: bool,
    /// How many attempts at a checkpoint began, and how many of these ended.
    begun: u64,
    ended: u64,
    /// Why the last attempt failed.
    failure: Option<String>,
    /// How often a checkpoint took over what had been written.
    taken_over: u64,
}

/// Why a writer waits no longer.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    /// What had been written before is in the hands of a checkpoint.
    Room,
    /// A checkpoint that began meanwhile failed.
    Failed(String),
    /// None ended in time.
    TimedOut,
    /// The store is being closed.
    Stopped,
}

/// What the checkpoint thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub stop: bool,
    pub checkpoint: bool,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of the state, at most until then; `None` when it is too late.
    fn wait<'s>(&self, state: MutexGuard<'s, State>, until: Instant) -> Option<MutexGuard<'s, State>> {
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Asks for a checkpoint.
    pub fn request(&self) {
        let mut state = self.lock();
        if !state.requested {
            state.requested = true;
            self.changed.notify_all();
        }
    }

    /// Asks for a checkpoint that begins from now on, and waits until it made room or ended.
    pub fn wait_for_room(&self, until: Instant) -> Waited {
        let mut state = self.lock();
        let (taken_over, attempt) = (state.taken_over, state.begun + 1);
        state.requested = true;
        self.changed.notify_all();
        loop {
            if state.stop {
                return Waited::Stopped;
            }
            if state.taken_over > taken_over {
                return Waited::Room;
            }
            if state.ended >= attempt {
                return state.failure.clone().map_or(Waited::Room, Waited::Failed);
            }
            match self.wait(state, until) {
                Some(changed) => state = changed,
                None => return Waited::TimedOut,
            }
        }
    }

    /// Waits for a request or the end, at most until then.
    pub fn wait_for_work(&self, until: Instant) -> Work {
        let mut state = self.lock();
        loop {
            let work = Work { stop: state.stop, checkpoint: state.requested };
            if work.stop || work.checkpoint {
                return work;
            }
            match self.wait(state, until) {
                Some(changed) => state = changed,
                None => return work,
            }
        }
    }

    /// Whether the end has come.
    pub fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// Waits for the end, at most until then; answers whether it has come.
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

    /// The requests so far are met by the attempt that begins now.
    pub fn begin(&self) {
        let mut state = self.lock();
        state.requested = false;
        state.begun += 1;
    }

    /// What was written so far is in the hands of a checkpoint.
    pub fn took_over(&self) {
        self.lock().taken_over += 1;
        self.changed.notify_all();
    }

    /// The attempt ended, and failed if there is a reason.
    pub fn end(&self, failure: Option<String>) {
        let mut state = self.lock();
        state.ended = state.begun;
        state.failure = failure;
        self.changed.notify_all();
    }

    /// The store is being closed.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

/// Up to which change a store survives a power cut.
#[derive(Default)]
pub struct Durable {
    sequence: AtomicU64,
    turn: Mutex<()>,
}

impl Durable {
    /// From the start on every change up to this one is durable.
    pub fn new(sequence: u64) -> Self {
        Durable { sequence: AtomicU64::new(sequence), turn: Mutex::new(()) }
    }

    /// Every change up to this one is durable.
    pub fn get(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Notes that every change up to this one is durable.
    pub fn advance(&self, sequence: u64) {
        self.sequence.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Makes every change up to this one durable. `force` makes all there are durable and answers the last of them; one
    /// caller's is enough for all that wait here.
    pub fn reach<E>(&self, sequence: u64, force: impl FnOnce() -> Result<u64, E>) -> Result<(), E> {
        if self.get() >= sequence {
            return Ok(());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get() < sequence {
            self.advance(force()?);
        }
        Ok(())
    }
}
