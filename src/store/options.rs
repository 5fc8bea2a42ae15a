//! How to open a store.

use std::time::Duration;

use crate::sets::Prefix;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The prefix of every key.
    pub prefix: Prefix,
    /// Whether to create an embedded store if there is none.
    pub create: bool,
    /// Whether to open a damaged embedded store with what is left of it. The losses are recorded in
    /// the store.
    pub accept_loss: bool,
    /// When the embedded store syncs its log to disk.
    pub durability: Durability,
    /// The embedded store writes a checkpoint after this many bytes of changes, in memory or in the
    /// log.
    pub checkpoint_bytes: u64,
    /// The size of the embedded store's cache of bitmaps, in bytes.
    pub cache_bytes: u64,
    /// Timeout for a connection to Redis, and for the answer to one pipeline.
    pub timeout: Duration,
    /// The most open connections to Redis, besides the one that tracks changes.
    pub connections: u32,
    /// Where set operations run on bitmaps in Redis.
    pub redis_eval: RedisEval,
    /// Whether Redis takes users far beyond all others, whose bitmaps are large and almost empty.
    /// The program sets it to `false`.
    pub allow_sparse: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prefix: Prefix::default(),
            create: true,
            accept_loss: false,
            durability: Durability::EverySecond,
            checkpoint_bytes: 64 << 20,
            cache_bytes: 1 << 30,
            timeout: Duration::from_millis(2500),
            connections: 8,
            redis_eval: RedisEval::Auto,
            allow_sparse: true,
        }
    }
}

/// Where set operations on bitmaps in Redis run. The results are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisEval {
    /// Wherever it is cheaper, decided for each question; in this process if the server refuses
    /// writes.
    Auto,
    /// On the server, in temporary keys.
    Server,
    /// In this process, which fetches the parts of bitmaps that it needs. Nothing is written to the
    /// server.
    Fetch,
}

/// When marks in the embedded store's log are synced to disk. This only matters if the machine loses
/// power: marks always survive the end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once a second: a power cut may lose the last second.
    EverySecond,
    /// Before each batch is acknowledged.
    Always,
}
