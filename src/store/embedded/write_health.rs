//! Outcomes of the last writes and checkpoints, for [`Store::health`](crate::store::Store::health).

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::embedded::Disk;
use crate::store::embedded::recovery::log_files;
use crate::store::embedded::table::MANIFEST;
use crate::store::{FilesHealth, Health, Result, StoreError};
use crate::telemetry::Durations;

/// The maximum length, in bytes, of a frame written to test whether writing works again.
const RETRIED_BYTES: usize = 4 << 20;

/// Counters, and the failures that no success has followed yet.
#[derive(Default)]
pub(super) struct WriteHealth {
    counts: Mutex<Counts>,
    checkpoints: Durations,
}

#[derive(Default)]
struct Counts {
    /// Why the last write was refused.
    write: Option<StoreError>,
    /// The length, in bytes, of the frame that did not fit into the log.
    refused_bytes: usize,
    /// Why the log could not be synced.
    sync: Option<StoreError>,
    /// Why the last checkpoint failed.
    checkpoint: Option<StoreError>,
    write_errors: u64,
    files: FilesHealth,
}

impl Counts {
    fn failure(&self) -> Option<&StoreError> {
        self.write
            .as_ref()
            .or(self.sync.as_ref())
            .or(self.checkpoint.as_ref())
    }

    /// Records an outcome. Logs when writing works again.
    fn set(&mut self, record: impl FnOnce(&mut Self)) {
        let failed = self.failure().is_some();
        record(self);
        if failed && self.failure().is_none() {
            tracing::info!("the store can be written again");
        }
    }
}

impl WriteHealth {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records whether a write reached the log, and passes the outcome on. An error is counted
    /// once: pass each outcome to this function where it is decided.
    pub fn wrote<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            tracing::error!("{error}");
        }
        let mut counts = self.lock();
        counts.write_errors += u64::from(outcome.is_err());
        counts.set(|counts| counts.write = outcome.as_ref().err().cloned());
        outcome
    }

    /// Records whether the log could be synced, and passes the outcome on.
    pub fn synced(&self, outcome: Result<()>) -> Result<()> {
        self.lock()
            .set(|counts| counts.sync = outcome.as_ref().err().cloned());
        outcome
    }

    /// Records a checkpoint that wrote something, or failed to.
    pub fn checkpointed(&self, outcome: &Result<()>, took: Duration) {
        let mut counts = self.lock();
        match outcome {
            Ok(()) => counts.files.checkpoints += 1,
            Err(_) => counts.files.checkpoint_failures += 1,
        }
        counts.set(|counts| counts.checkpoint = outcome.as_ref().err().cloned());
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

    /// Records that writing works again.
    pub fn recovered(&self) {
        self.lock().set(|counts| counts.write = None);
    }

    /// Returns why the store cannot be written, if it cannot.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure().map(ToString::to_string)
    }

    /// Returns whether to retry a checkpoint without a request.
    pub fn wants_checkpoint(&self) -> bool {
        let counts = self.lock();
        counts.checkpoint.is_some() || counts.sync.is_some()
    }
}

impl Disk {
    /// Reports the health of the files. Never waits for the lock on the layers.
    pub(super) fn health(&self) -> Health {
        let sizes = |paths: &[std::path::PathBuf]| {
            paths
                .iter()
                .filter_map(|path| fs::metadata(path).ok())
                .map(|m| m.len())
                .sum()
        };
        let logs: Vec<_> = log_files(&self.directory)
            .unwrap_or_default()
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        let counts = self.vitals.lock();
        Health {
            writable: counts
                .failure()
                .map_or(Ok(()), |error| Err(error.to_string())),
            write_errors: counts.write_errors,
            files: Some(FilesHealth {
                store_bytes: self.base.table().version().bytes()
                    + sizes(&[self.directory.join(MANIFEST)]),
                log_bytes: sizes(&logs),
                checkpoint_seconds: self.vitals.checkpoints.histogram(),
                ..counts.files.clone()
            }),
        }
    }
}
