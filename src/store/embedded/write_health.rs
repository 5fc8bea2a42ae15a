//! The outcomes of the last writes and checkpoints, for
//! [`Store::health`](crate::store::Store::health).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::{FilesHealth, Result, StoreError};
use crate::telemetry::Durations;

/// The maximum length, in bytes, of a frame written to test whether writing works again.
pub(super) const RETRIED_BYTES: usize = 4 << 20;

/// The name of the file that `Disk::probe` writes and deletes.
pub(super) const PROBE: &str = "probe";

/// The length, in bytes, of that file: a block of most file systems.
pub(super) const PROBE_BYTES: usize = 4096;

/// Counters, and failures that no success has followed yet.
#[derive(Default)]
pub(super) struct WriteHealth {
    pub(super) counts: Mutex<Counts>,
    pub(super) checkpoints: Durations,
}

#[derive(Default)]
pub(super) struct Counts {
    /// Why the last write was refused.
    pub(super) write: Option<StoreError>,
    /// The length, in bytes, of the frame that did not fit into the log.
    pub(super) refused_bytes: usize,
    /// Why the log could not be synced.
    pub(super) sync: Option<StoreError>,
    /// Why the last checkpoint failed.
    pub(super) checkpoint: Option<StoreError>,
    /// Why the last probe failed.
    pub(super) probe: Option<StoreError>,
    pub(super) write_errors: u64,
    pub(super) files: FilesHealth,
}

impl Counts {
    pub(super) fn failure(&self) -> Option<&StoreError> {
        self.write
            .as_ref()
            .or(self.sync.as_ref())
            .or(self.checkpoint.as_ref())
            .or(self.probe.as_ref())
    }

    /// Why the store cannot be written. Unlike the error of a write, it is not about a batch.
    pub(super) fn reason(&self) -> Option<String> {
        self.failure().map(|error| match error {
            StoreError::Write { path, reason, .. } => format!("cannot write to {path}: {reason}"),
            other => other.to_string(),
        })
    }

    /// Records an outcome. Logs a message if writes work again.
    pub(super) fn set(&mut self, record: impl FnOnce(&mut Self)) {
        let failed = self.failure().is_some();
        record(self);
        if failed && self.failure().is_none() {
            tracing::info!("the store can be written again");
        }
    }
}

impl WriteHealth {
    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records whether a write reached the log, and returns the outcome. Each outcome must be
    /// recorded once, so that each error is counted once.
    pub fn record_write<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            tracing::error!("{error}");
        }
        let mut counts = self.lock();
        counts.write_errors += u64::from(outcome.is_err());
        counts.set(|counts| counts.write = outcome.as_ref().err().cloned());
        outcome
    }

    /// Records whether the log could be synced, and returns the outcome.
    pub fn record_sync(&self, outcome: Result<()>) -> Result<()> {
        self.lock()
            .set(|counts| counts.sync = outcome.as_ref().err().cloned());
        outcome
    }

    /// Records the outcome of a checkpoint that had something to write.
    pub fn record_checkpoint(&self, outcome: &Result<()>, took: Duration) {
        let mut counts = self.lock();
        match outcome {
            Ok(()) => counts.files.checkpoints += 1,
            Err(_) => counts.files.checkpoint_failures += 1,
        }
        counts.set(|counts| {
            counts.checkpoint = outcome.as_ref().err().cloned();
            if outcome.is_ok() {
                counts.probe = None;
            }
        });
        counts.files.last_checkpoint = Some(took);
        self.checkpoints.observe(took);
    }

    /// Records the length, in bytes, of the frame that could not be appended.
    pub fn refused(&self, bytes: usize) {
        self.lock().refused_bytes = bytes;
    }

    /// Returns how many bytes to retry with after a refused write, at most [`RETRIED_BYTES`].
    pub fn refused_bytes(&self) -> Option<usize> {
        let counts = self.lock();
        counts
            .write
            .is_some()
            .then_some(counts.refused_bytes.min(RETRIED_BYTES))
    }

    /// Records that writes work again.
    pub fn recovered(&self) {
        self.lock().set(|counts| counts.write = None);
    }

    /// Returns why the store cannot be written, if it cannot.
    pub fn failure(&self) -> Option<String> {
        self.lock().reason()
    }

    /// Returns whether the last probe failed.
    pub fn wants_probe(&self) -> bool {
        self.lock().probe.is_some()
    }

    /// Returns whether to retry a checkpoint without a request.
    pub fn wants_checkpoint(&self) -> bool {
        let counts = self.lock();
        counts.checkpoint.is_some() || counts.sync.is_some()
    }
}
