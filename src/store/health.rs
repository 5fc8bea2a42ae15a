//! What an operator must know about a store: whether it can be written, and what its files cost.

use std::time::Duration;

use crate::telemetry::Histogram;

/// The state of a store, gathered without waiting for readers or writers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `Ok` unless the last write, sync or checkpoint failed and none has succeeded since; then the
    /// reason and what to do. A store that fails retries on its own, so this recovers without a
    /// restart and without new marks.
    pub writable: Result<(), String>,
    /// Writes refused since the store was opened because it could not be written.
    pub write_errors: u64,
    /// `None` when this process keeps no files for the store: Redis, or a store in memory.
    pub files: Option<FilesHealth>,
}

/// The files of an embedded store. Counters start at 0 when the store is opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilesHealth {
    /// Successful checkpoints.
    pub checkpoints: u64,
    /// Failed checkpoints. Their marks stay in the log.
    pub checkpoint_failures: u64,
    /// How long checkpoints took, successful and failed.
    pub checkpoint_seconds: Histogram,
    /// Duration of the last checkpoint; `None` before the first.
    pub last_checkpoint: Option<Duration>,
    /// Size of the file that checkpoints write, in bytes.
    pub store_bytes: u64,
    /// Size of all log files, in bytes.
    pub log_bytes: u64,
}

/// How much of what was written survives a power cut. Changes are numbered in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The last change that was written.
    pub written: u64,
    /// Every change up to this one is durable.
    pub durable: u64,
}

impl Default for Health {
    /// A store about which nothing bad is known.
    fn default() -> Self {
        Health {
            writable: Ok(()),
            write_errors: 0,
            files: None,
        }
    }
}
