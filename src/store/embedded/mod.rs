//! The embedded store: a store in a directory or in memory, without a server.
//!
//! ```text
//! write ──▶ write-ahead log ──▶ active memtable ──checkpoint──▶ segment of the table
//! read  ──▶ active memtable ▷ immutable memtable ▷ cache ▷ segments, newest first
//! ```
//!
//! Each batch of changes is one frame of the log. A batch is acknowledged once the operating system
//! has the frame, so `kill -9` loses nothing that was acknowledged. One thread syncs the log once a
//! second. A second thread starts a checkpoint when enough has changed or the log is long: the
//! active memtable becomes immutable, a new log file starts, the immutable memtable is written to a
//! new segment, the manifest names the segment, and the old log file is deleted. A third thread
//! merges segments. When a store is opened, the frames since the last checkpoint are replayed.
//!
//! Locks are acquired in this order: `pending`, the lock in `Durable`, `memtables`, then the locks
//! in `TableCache`, `Signal` and `WriteHealth`. Each of the last three is held for a short time,
//! and no other lock is acquired meanwhile.
//!
//! A reader holds the lock on the memtables only while it takes a snapshot: the overlays of the
//! keys it reads, which it shares with the memtables, and a version of the table. It evaluates
//! without a lock, so queries do not block writes. A reader sees either all of a batch or nothing
//! of it.

mod add_batches;
mod backup;
mod backup_files;
mod checkpoint;
mod delta;
mod directory;
mod engine;
mod expirations;
mod id_entries;
mod idmap;
mod inspect;
mod kept_in;
mod key_index;
mod keyspace;
mod legacy;
mod log_files;
mod memtable;
mod overlay;
mod precomputed;
mod prefix_ids;
mod read_txn;
mod record;
mod recovery;
mod rehearsal;
mod replay;
mod salvage;
mod saved_lists;
mod signal;
#[cfg(test)]
mod signal_model;
#[cfg(test)]
mod snapshot_tests;
mod store;
mod sync;
mod table;
mod table_cache;
mod threads;
mod wal;
mod write_health;
mod write_txn;

pub use backup::{ask_owner, restore};
pub use inspect::{Checked, CheckedFile, Usage, check};
pub use keyspace::Keyspace;
pub use precomputed::Precomputed;
pub use read_txn::ReadTxn;
pub use store::{EmbeddedStore, Held};
pub use write_txn::WriteTxn;
