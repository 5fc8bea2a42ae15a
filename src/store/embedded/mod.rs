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

mod backup;
mod checkpoint;
mod delta;
mod expirations;
mod idmap;
mod inspect;
mod key_index;
mod keyspace;
mod legacy;
mod memtable;
mod precomputed;
mod record;
mod recovery;
mod replay;
mod salvage;
mod signal;
#[cfg(test)]
mod signal_model;
#[cfg(test)]
mod snapshot_tests;
mod table;
mod table_cache;
mod wal;
mod write_health;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use crate::bitmap;
use crate::clock::Clock;
use crate::sets::{Key, Node, Plan, Prefix, Set, UserId};
use crate::store::cost::{self, Cost};
use crate::store::embedded::expirations::Expirations;
use crate::store::error::shared;
use crate::store::unparsed_keys::{LeftOut, Listing, prefix_of};
use crate::store::{
    Cancel, ChangeFeed, Durability, Health, IdMap, KeyListing, Maintenance, Mark, Options,
    OtherPrefixes, PaddedKeys, Progress, Result, Saved, Store, StoreError, StoreInfo, UnparsedKeys,
};
pub use backup::{ask_owner, restore};
pub use inspect::{Checked, CheckedFile, Usage, check};
pub use keyspace::{Keyspace, ReadTxn, WriteTxn};
use memtable::{Leaves, Memtables};
pub use precomputed::Precomputed;
use recovery::{cannot_open, open};
use signal::{Durable, Signal};
use table_cache::{Reader, TableCache};
use wal::{Change, Frame, Log};
use write_health::WriteHealth;

/// The synchronization primitives that [`signal`] uses. Its tests replace them.
mod sync {
    pub use std::sync::atomic::{AtomicU64, Ordering};
    pub use std::sync::{Condvar, Mutex, MutexGuard};
}

/// The name of the file with the process id of the process that has the store open, and the URL at
/// which other processes can reach it.
const OWNER: &str = "owner";
/// The start of the names of log files.
const LOG: &str = "log-";

/// The number of bitmaps per thread that makes a second thread worthwhile when a user is looked up.
const LOOKUPS_PER_THREAD: usize = 2000;

/// The minimum length of a log, in bytes, for a checkpoint when the store is closed. A shorter log
/// is replayed quickly.
const MIN_CHECKPOINT_AT_CLOSE: u64 = 1 << 20;

/// The number of keys whose sizes are looked up in one snapshot.
const SIZES_AT_ONCE: usize = 8192;

/// The maximum number of keys that are examined to find other prefixes.
const MAX_EXAMINED_KEYS: usize = 20_000;

/// A store that needs no server: in a directory, or in memory.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Arc<Engine>,
    prefix: Prefix,
    left_out: Arc<LeftOut>,
    // Dropped with the last handle, which stops the threads and closes the files.
    _threads: Option<Arc<BackgroundThreads>>,
}

/// The state that all handles to a store share.
struct Engine {
    memtables: RwLock<Memtables>,
    /// The earliest expiry time of a bitmap, in milliseconds since 1970, or `u64::MAX`.
    next_expiry: AtomicU64,
    /// `None` for a store in memory.
    disk: Option<Disk>,
    /// Messages for the operator about how the store was opened.
    notes: Vec<String>,
    /// The prefixes whose users this process treats as numeric ids. Locked after `memtables`.
    numeric_prefixes: Mutex<BTreeSet<Box<str>>>,
    /// Called with the key of each bitmap that changes.
    listeners: RwLock<Vec<Listener>>,
}

type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// The part of a store that only exists if it is in a directory.
struct Disk {
    directory: PathBuf,
    /// Whether the store was created when it was opened.
    created: bool,
    table_cache: TableCache,
    durability: Durability,
    /// The memory of the active memtable, in bytes, that starts a checkpoint.
    checkpoint_bytes: usize,
    /// The checkpoint that has begun but is not in the table yet.
    pending: Mutex<Option<Pending>>,
    durable: Durable,
    signal: Signal,
    write_health: WriteHealth,
    /// Locked while the file is open.
    _lock: File,
}

/// A checkpoint that has begun.
struct Pending {
    /// The sequence number of the last change that it contains.
    sequence: u64,
    /// The log files that are no longer needed once it is in the table.
    logs: Vec<PathBuf>,
    /// The number of the log after them.
    next_log: u64,
    expirations: Expirations,
}

/// Some bitmaps as they were at one moment.
struct PlanReader<'a> {
    memtables: Memtables,
    reader: Option<Reader<'a>>,
}

impl PlanReader<'_> {
    /// Returns the cost of counting a plan. A bitmap that cannot be read costs nothing here:
    /// counting it reports the error.
    fn cost(&self, plan: &Plan, prefix: &Prefix) -> Cost {
        let view = |key: &Key| self.memtables.view(&key.text(prefix), self.reader.as_ref());
        Cost::of(plan, |key| {
            view(key).map_or(0, |view| view.tiles().len() as u64)
        })
    }

    /// Returns the bitmaps of a plan as the source of an evaluation. `keys` holds the key of each
    /// node.
    fn leaves(&self, keys: &[Option<String>]) -> Result<Leaves<'_>> {
        Leaves::of(
            keys.iter().map(Option::as_deref),
            &self.memtables,
            self.reader.as_ref(),
        )
    }
}

impl EmbeddedStore {
    /// Creates a store in memory. It is discarded with its last handle.
    pub fn in_memory(options: &Options) -> Self {
        let engine = Engine {
            memtables: RwLock::default(),
            next_expiry: AtomicU64::new(u64::MAX),
            disk: None,
            notes: Vec::new(),
            numeric_prefixes: Mutex::default(),
            listeners: RwLock::default(),
        };
        EmbeddedStore {
            engine: Arc::new(engine),
            prefix: options.prefix.clone(),
            left_out: Arc::default(),
            _threads: None,
        }
    }

    /// Opens the store in a directory, or creates it if [`Options::create`] is set.
    ///
    /// # Errors
    /// Returns an error if another process has the store open, the directory contains other files,
    /// or the files cannot be read or written.
    pub fn open(directory: &Path, options: &Options) -> Result<Self> {
        let (engine, has_older_logs) = open(directory, options)?;
        let engine = Arc::new(engine);
        match &engine.disk {
            // The damaged log must be gone when the store is opened again.
            Some(_) if has_older_logs && options.accept_loss => engine.checkpoint()?,
            Some(disk) if has_older_logs => disk.signal.request(),
            _ => {}
        }
        let mut threads = BackgroundThreads {
            engine: Arc::clone(&engine),
            threads: Vec::new(),
        };
        threads
            .spawn("cohortist-store", Engine::checkpoint_when_due)
            .map_err(|e| cannot_open(directory, &e))?;
        threads
            .spawn("cohortist-sync", |engine| engine.sync_when_due())
            .map_err(|e| cannot_open(directory, &e))?;
        threads
            .spawn("cohortist-compact", |engine| engine.compact_when_due())
            .map_err(|e| cannot_open(directory, &e))?;
        Ok(EmbeddedStore {
            engine,
            prefix: options.prefix.clone(),
            left_out: Arc::default(),
            _threads: Some(Arc::new(threads)),
        })
    }

    /// Returns a handle to the same store with another prefix: another set of events in the same
    /// files.
    pub fn under(&self, prefix: Prefix) -> Self {
        EmbeddedStore {
            prefix,
            left_out: Arc::default(),
            ..self.clone()
        }
    }

    /// The store as [`open`](crate::store::open) returns it: with both spellings of padded keys.
    pub fn shared(self) -> Arc<dyn Store> {
        Arc::new(PaddedKeys::new(Arc::new(self)))
    }

    /// The store as a keyspace of named bitmaps, under every prefix.
    pub fn keyspace(&self) -> Keyspace {
        Keyspace::of(self)
    }

    /// Returns the key of each node of a plan, or `None` for nodes that are not keys.
    fn keys_of(&self, plan: &Plan) -> Vec<Option<String>> {
        let key_of = |node: &Node| match node {
            Node::Key(key) => Some(key.text(&self.prefix)),
            _ => None,
        };
        plan.nodes().iter().map(key_of).collect()
    }

    /// Writes the whole store, as of this moment, to a new file that [`restore`] reads. Returns the
    /// number of bitmaps. Reads and writes continue meanwhile.
    ///
    /// # Errors
    /// Returns an error if the file exists or cannot be written, or if the store is damaged.
    pub fn back_up(&self, file: &Path) -> Result<u64> {
        self.engine.back_up(file)
    }

    /// Writes all changes since the last checkpoint to the table, and starts a new log.
    ///
    /// # Errors
    /// Returns an error if the changes cannot be written. They are still in the log in this case.
    pub fn checkpoint(&self) -> Result<()> {
        self.engine.checkpoint()
    }

    /// Prevents checkpoints from starting and ending until the result is dropped. Writes continue
    /// until the log is full.
    pub fn hold_checkpoints(&self) -> Held<'_> {
        Held(
            self.engine
                .disk
                .as_ref()
                .map(|disk| disk.pending.lock().unwrap_or_else(PoisonError::into_inner)),
        )
    }
}

/// Prevents checkpoints of a store from starting and ending until it is dropped.
#[must_use = "checkpoints continue when it is dropped"]
pub struct Held<'a>(
    #[expect(dead_code, reason = "held until it is dropped")]
    Option<MutexGuard<'a, Option<Pending>>>,
);

impl Engine {
    fn read(&self) -> RwLockReadGuard<'_, Memtables> {
        self.memtables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Memtables> {
        self.memtables
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a reader of the table, or `None` for a store in memory. See [`TableCache::reader`].
    fn reader(&self) -> Option<Reader<'_>> {
        self.disk.as_ref().map(|disk| disk.table_cache.reader())
    }

    /// Sets and clears bits, given as in [`Change::Bits`], as one frame. Stores the previous value
    /// of each bit in `before`. If `guarded`, refuses keys whose users have string ids, for clients
    /// that must not see string ids.
    fn write_bits(
        &self,
        keys: Vec<String>,
        bits: Vec<(u32, u32)>,
        before: Option<&mut [bool]>,
        guarded: bool,
    ) -> Result<()> {
        let mut memtables = self.lock_with_room()?;
        if guarded {
            keys.iter()
                .try_for_each(|key| self.refuse_numeric_ids(&memtables, key))?;
        }
        let reader = self.reader();
        // Everything that can fail comes before the write to the log, and the log comes before
        // memory.
        let prepared = memtables.prepare(&keys, &bits, reader.as_ref(), before)?;
        let changed = if self.has_listeners() {
            keys.clone()
        } else {
            Vec::new()
        };
        self.append(&mut memtables, Change::Bits { keys, bits })?;
        memtables.apply(prepared);
        self.notify_listeners(changed.iter().map(String::as_str));
        self.after_append(memtables)
    }

    /// Applies several changes as one frame: all of them or none, and no other change between them.
    /// `guarded` is as in [`write_bits`](Self::write_bits).
    fn change<T>(
        &self,
        guarded: bool,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        self.change_with(guarded, Precomputed::default(), work)
    }

    /// Like [`change`](Self::change), with results that were computed in advance.
    fn change_with<T>(
        &self,
        guarded: bool,
        precomputed: Precomputed,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut memtables = self.lock_with_room()?;
        let reader = self.reader();
        let mut txn = WriteTxn::new(&mut memtables, reader.as_ref(), guarded.then_some(self))
            .using(precomputed);
        let result = work(&mut txn);
        let (mut changes, undo) = txn.end();
        if result.is_err() {
            memtables.undo(undo);
            return result;
        }
        let change = match changes.len() {
            0 => return result,
            1 => changes.remove(0),
            _ => Change::All(changes),
        };
        if let Err(error) = self.append(&mut memtables, change) {
            memtables.undo(undo);
            return Err(error);
        }
        self.notify_listeners(undo.keys());
        self.after_append(memtables)?;
        result
    }

    fn has_listeners(&self) -> bool {
        !self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Calls the listeners with the keys of bitmaps that changed. The caller must hold the lock on
    /// the memtables, so that no reader has seen the changes yet.
    fn notify_listeners<'k>(&self, keys: impl IntoIterator<Item = &'k str>) {
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if !listeners.is_empty() {
            for key in keys {
                listeners.iter().for_each(|listener| listener(key));
            }
        }
    }

    /// Locks the memtables for a write, once the log and the memtables have room for it.
    fn lock_with_room(&self) -> Result<RwLockWriteGuard<'_, Memtables>> {
        if let Some(disk) = &self.disk
            && let Err(error) = self.wait_for_room(disk)
        {
            return disk.write_health.record_write(Err(error));
        }
        self.expire_due();
        Ok(self.lock())
    }

    /// Appends the next frame to the log.
    fn append(&self, memtables: &mut Memtables, change: Change) -> Result<()> {
        match &self.disk {
            Some(disk) => disk
                .write_health
                .record_write(disk.append(memtables, change)),
            None => {
                memtables.sequence += 1;
                Ok(())
            }
        }
    }

    /// Completes a write: its frame is in the log, and its changes are in memory. Requests a
    /// checkpoint if one is due, and syncs the log if the store is opened that way.
    fn after_append(&self, memtables: RwLockWriteGuard<'_, Memtables>) -> Result<()> {
        self.next_expiry.store(
            memtables.expirations.next().unwrap_or(u64::MAX),
            Ordering::Release,
        );
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let log_bytes = memtables.log.as_ref().map_or(0, Log::len);
        if memtables.active_bytes > disk.checkpoint_bytes || log_bytes > disk.log_bytes() {
            disk.signal.request();
        }
        let sequence = memtables.sequence;
        drop(memtables);
        match disk.durability {
            Durability::Always => self.sync(disk, sequence),
            Durability::EverySecond => Ok(()),
        }
    }

    /// Deletes the bitmaps that have expired. Every read and write calls this first, so none of
    /// them sees an expired bitmap.
    fn expire_due(&self) {
        let now = now();
        if now < self.next_expiry.load(Ordering::Acquire) {
            return;
        }
        let mut memtables = self.lock();
        let outcome = self.delete_expired(&mut memtables, now);
        // If the log cannot be written, the bitmaps stay visible until a later attempt succeeds.
        let next = match &outcome {
            Ok(()) => memtables.expirations.next().unwrap_or(u64::MAX),
            Err(_) => now + 1000,
        };
        self.next_expiry.store(next, Ordering::Release);
        drop(memtables);
        if let Err(error) = outcome {
            tracing::error!("cannot delete expired keys: {error}");
        }
    }

    fn delete_expired(&self, memtables: &mut Memtables, now: u64) -> Result<()> {
        let keys = memtables.expirations.due(now);
        let existing = memtables.existing(&keys, self.reader().as_ref())?;
        if keys.is_empty() {
            return Ok(());
        }
        self.append(memtables, Change::Delete { keys: keys.clone() })?;
        memtables.delete(existing);
        for key in &keys {
            memtables.expirations.set(key, None);
        }
        self.notify_listeners(keys.iter().map(String::as_str));
        Ok(())
    }

    /// Takes a snapshot for a read: the part of the memtables that `part` returns, and the table.
    /// Reading the snapshot holds no lock. Writers continue, and copy what the snapshot shares with
    /// them. `part` must be quick, because it is called under the lock.
    fn begin_read(&self, part: impl FnOnce(&Memtables) -> Memtables) -> PlanReader<'_> {
        let memtables = self.read_unexpired();
        // Under the same lock, so that no checkpoint is published in between.
        let reader = self.reader();
        PlanReader {
            memtables: part(&memtables),
            reader,
        }
    }

    /// Locks the memtables for reading, after expired bitmaps are deleted.
    fn read_unexpired(&self) -> RwLockReadGuard<'_, Memtables> {
        self.expire_due();
        self.read()
    }

    /// Makes all changes up to `sequence` durable, so that they survive a power failure.
    fn sync(&self, disk: &Disk, sequence: u64) -> Result<()> {
        let synced = disk.durable.reach(sequence, || self.sync_logs());
        disk.write_health.record_sync(synced.map_err(|error| {
            // The next checkpoint writes the changes that the log may have lost.
            disk.signal.request();
            StoreError::Unsynced {
                path: disk.directory.display().to_string(),
                reason: format!(
                    "the log could not be synced to disk ({error}); the next checkpoint writes its changes to another file"
                ),
                source: Some(shared(&error)),
            }
        }))
    }

    /// Syncs all logs. Returns the sequence number of the last change in them.
    fn sync_logs(&self) -> io::Result<u64> {
        let memtables = self.read();
        let mut logs = memtables.closed_logs.clone();
        logs.extend(memtables.log.as_ref().map(|log| Arc::clone(log.file())));
        let latest = memtables.sequence;
        drop(memtables);
        // Older logs first, so that the durable changes have no gaps.
        logs.iter().try_for_each(|log| log.sync())?;
        Ok(latest)
    }
}

impl Disk {
    /// Appends the next frame to the log, completely or not at all.
    fn append(&self, memtables: &mut Memtables, change: Change) -> Result<()> {
        let sequence = memtables.sequence + 1;
        if let Some(log) = &mut memtables.log {
            log.append(Frame { sequence, change })
                .map_err(|(error, bytes)| {
                    self.write_health.refused(bytes);
                    StoreError::write(log.path(), &error)
                })?;
        }
        memtables.sequence = sequence;
        Ok(())
    }

    /// Returns the length of a log, in bytes, that starts a checkpoint. A long log makes the next
    /// start slow, because all of it is read.
    fn log_bytes(&self) -> u64 {
        self.checkpoint_bytes as u64 / 4
    }
}

/// The threads of a store. Dropping this stops them and closes the store.
struct BackgroundThreads {
    engine: Arc<Engine>,
    threads: Vec<JoinHandle<()>>,
}

impl BackgroundThreads {
    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Arc<Engine>) + Send + 'static,
    ) -> io::Result<()> {
        let engine = Arc::clone(&self.engine);
        self.threads.push(
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&engine))?,
        );
        Ok(())
    }
}

impl Drop for BackgroundThreads {
    fn drop(&mut self) {
        let Some(disk) = &self.engine.disk else {
            return;
        };
        disk.signal.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported it.
            let _ = thread.join();
        }
        self.engine.close();
    }
}

/// Returns the current time in milliseconds since 1970, or 0 if the system's clock is before that.
fn now() -> u64 {
    u64::try_from(Clock::System.now().timestamp_millis()).unwrap_or(0)
}

impl Store for EmbeddedStore {
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        let mut indexes: HashMap<&Key, u32> = HashMap::new();
        let mut keys = Vec::new();
        let mut bits = Vec::with_capacity(marks.len());
        for mark in marks {
            let index = *indexes.entry(&mark.key).or_insert_with(|| {
                keys.push(mark.key.text(&self.prefix));
                u32::try_from(keys.len() - 1).expect("a batch has fewer than 2 billion keys")
            });
            bits.push((index * 2 + u32::from(mark.value), mark.user));
        }
        if bits.is_empty() {
            return Ok(());
        }
        self.engine.write_bits(keys, bits, None, false)
    }

    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        self.add_batches(runs)
    }

    fn cost(&self, plan: &Plan) -> Result<Cost> {
        let keys = self.keys_of(plan);
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset(keys.iter().flatten().map(String::as_str)));
        Ok(read.cost(plan, &self.prefix))
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        // The evaluation checks between tiles, and a plan of empty bitmaps has none.
        Cancel::current().check()?;
        let keys = self.keys_of(plan);
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset(keys.iter().flatten().map(String::as_str)));
        cost::check(|| Ok(read.cost(plan, &self.prefix)))?;
        bitmap::count(plan, &read.leaves(&keys)?)
    }

    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let mut found = Vec::new();
        let Some(from) = after.map_or(Some(0), |after| after.checked_add(1)) else {
            return Ok(found);
        };
        if limit == 0 {
            return Ok(found);
        }
        let mut plan = Plan::new();
        let root = plan.add(set)?;
        let keys = self.keys_of(&plan);
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset(keys.iter().flatten().map(String::as_str)));
        cost::check(|| Ok(read.cost(&plan, &self.prefix)))?;
        let (first, place) = bitmap::split(from);
        bitmap::collect(
            &plan,
            root,
            &read.leaves(&keys)?,
            first..=u16::MAX,
            |number, tile| {
                tile.visit(if number == first { place } else { 0 }, |place| {
                    found.push(bitmap::user(number, place));
                    found.len() < limit
                });
                found.len() < limit
            },
        )?;
        Ok(found)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        let texts: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset(texts.iter().map(String::as_str)));
        let memtables = &read.memtables;
        let reader = read.reader.as_ref();
        let cancel = Cancel::current();
        let look_up = |texts: &[String]| -> Result<Vec<bool>> {
            let found = texts.iter().map(|text| {
                cancel.check()?;
                memtables.view(text, reader)?.contains(user, reader)
            });
            found.collect()
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(keys.len() / LOOKUPS_PER_THREAD);
        if threads < 2 {
            return look_up(&texts);
        }
        std::thread::scope(|scope| {
            let look_up = &look_up;
            let parts = texts
                .chunks(texts.len().div_ceil(threads))
                .map(|part| scope.spawn(move || look_up(part)));
            let parts: Vec<_> = parts.collect();
            let mut found = Vec::with_capacity(keys.len());
            for part in parts {
                found.extend(
                    part.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                );
            }
            Ok(found)
        })
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let keys: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
        self.engine.change(false, |txn| txn.delete(&keys))
    }

    /// Saves the set as of the moment the evaluation began, as one frame of the log.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let text = key.text(&self.prefix);
        let mut plan = Plan::new();
        let root = plan.add(set)?;
        let mut tiles = Vec::new();
        let mut people = 0;
        let mut len = 0;
        {
            let texts = self.keys_of(&plan);
            let keys = texts.iter().flatten().chain([&text]).map(String::as_str);
            let read = self.engine.begin_read(|memtables| memtables.subset(keys));
            if read.memtables.view(&text, read.reader.as_ref())?.exists {
                return Ok(Saved::Taken);
            }
            cost::check(|| Ok(read.cost(&plan, &self.prefix)))?;
            bitmap::collect(
                &plan,
                root,
                &read.leaves(&texts)?,
                bitmap::EVERYWHERE,
                |number, tile| {
                    if let Some(last) = tile.last() {
                        people += tile.len();
                        len = u64::from(bitmap::user(number, last)) / 8 + 1;
                        tiles.push((number, Arc::new(tile.compact())));
                    }
                    true
                },
            )?;
        }
        if people == 0 {
            return Ok(Saved::Nobody);
        }
        // Another writer may have created the bitmap since the first check.
        self.engine.change(false, |txn| {
            if txn.read().exists(&text)? {
                return Ok(Saved::Taken);
            }
            txn.put(&text, len, tiles)?;
            Ok(Saved::People(people))
        })
    }

    fn string_ids(&self) -> &dyn IdMap {
        self
    }

    fn describe(&self) -> Result<StoreInfo> {
        let disk = self.engine.disk.as_ref();
        let location = match disk {
            Some(disk) => {
                let directory = std::fs::canonicalize(&disk.directory)
                    .or_else(|_| std::path::absolute(&disk.directory));
                let directory = directory.as_ref().unwrap_or(&disk.directory);
                directory.display().to_string()
            }
            None => "memory:".to_owned(),
        };
        let string_ids = self
            .engine
            .read()
            .string_id_prefixes
            .contains(self.prefix.as_str());
        let kind = match disk {
            Some(_) => "Embedded",
            None => "In memory",
        };
        Ok(StoreInfo {
            kind: kind.to_owned(),
            location,
            prefix: self.prefix.clone(),
            created: disk.is_none_or(|disk| disk.created),
            notes: self.engine.notes.clone(),
            string_ids,
            refusal: disk.and_then(|disk| disk.write_health.failure()),
        })
    }
}

impl KeyListing for EmbeddedStore {
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        let start = format!("{}{starting_with}", self.prefix);
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset_starting_with(&start));
        let mut listing = Listing::new(&self.prefix, starting_with);
        read.memtables
            .visit_keys(&start, read.reader.as_ref(), |text| {
                listing.take(text, Some(text));
                true
            })?;
        Ok(self.left_out.keep(listing))
    }

    fn keys_version(&self) -> Option<u64> {
        Some(self.engine.read_unexpired().keys_version)
    }

    fn unparsed_keys(&self) -> UnparsedKeys {
        self.left_out.get()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset_starting_with(""));
        let mut texts = Vec::new();
        read.memtables
            .visit_keys("", read.reader.as_ref(), |text| {
                texts.push(text.to_owned());
                texts.len() <= MAX_EXAMINED_KEYS
            })?;
        Ok(OtherPrefixes::of(
            &self.prefix,
            texts.iter().take(MAX_EXAMINED_KEYS),
            texts.len() <= MAX_EXAMINED_KEYS,
            prefix_of,
        ))
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        let mut sizes = Vec::with_capacity(keys.len());
        // Sizes are estimates, so they need not be of one moment.
        for keys in keys.chunks(SIZES_AT_ONCE) {
            let texts: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
            let read = self
                .engine
                .begin_read(|memtables| memtables.subset(texts.iter().map(String::as_str)));
            let reader = read.reader.as_ref();
            for text in &texts {
                sizes.push(Some(
                    read.memtables.view(text, reader)?.stored(text, reader)?,
                ));
            }
        }
        Ok(sizes)
    }
}

impl ChangeFeed for EmbeddedStore {
    fn on_change(&self, listener: Box<dyn Fn(&str) + Send + Sync>) -> bool {
        let prefix = self.prefix.clone();
        let of_this_prefix: Listener = Box::new(move |text| {
            if let Some(key) = text.strip_prefix(prefix.as_str()) {
                listener(key);
            }
        });
        self.engine
            .listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(of_this_prefix);
        true
    }
}

impl Maintenance for EmbeddedStore {
    fn is_local(&self) -> bool {
        true
    }

    fn progress(&self) -> Progress {
        let written = self.engine.read().sequence;
        // A store in memory has nothing to make durable.
        let durable = self
            .engine
            .disk
            .as_ref()
            .map_or(written, |disk| disk.durable.get());
        Progress { written, durable }
    }

    fn flush(&self) -> Result<()> {
        let written = self.engine.read().sequence;
        self.engine
            .disk
            .as_ref()
            .map_or(Ok(()), |disk| self.engine.sync(disk, written))
    }

    fn health(&self) -> Health {
        self.engine
            .disk
            .as_ref()
            .map_or_else(Health::default, Disk::health)
    }
}
