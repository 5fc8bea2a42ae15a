//! How to open a store.

use std::time::Duration;

use crate::sets::Prefix;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// What every key begins with.
    pub prefix: Prefix,
    /// Whether an embedded store is made where there is none.
    pub create: bool,
    /// Whether an embedded store that is damaged is opened with what is left of it. What is lost is
    /// recorded in the store.
    pub accept_loss: bool,
    /// When the embedded store's log is forced to disk.
    pub durability: Durability,
    /// The embedded store writes a checkpoint when more than this has changed, in bytes of memory
    /// or of log.
    pub checkpoint_bytes: u64,
    /// The most memory the embedded store's cache of bitmaps may take, in bytes.
    pub cache_bytes: u64,
    /// How long Redis may take to accept a connection or to answer one pipeline.
    pub timeout: Duration,
    /// How many connections to Redis may be open at once, beside one that is told which bitmaps
    /// have changed.
    pub connections: u32,
    /// Who counts what is in Redis.
    pub redis_eval: RedisEval,
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
        }
    }
}

/// Who works out unions, intersections and so on of bitmaps in Redis. All ways come to the same
/// numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisEval {
    /// For each question whichever is cheaper; this process where the server takes no writes.
    Auto,
    /// The server, into temporary keys.
    Server,
    /// This process, of the parts of bitmaps that it needs and fetches; nothing is written for a
    /// question.
    Fetch,
}

/// When marks in the embedded store's log are forced to disk. Either way they survive the end of
/// the process, however sudden; this is about the machine losing power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once a second: a power cut may lose the last second.
    EverySecond,
    /// Before each batch is acknowledged.
    Always,
}
