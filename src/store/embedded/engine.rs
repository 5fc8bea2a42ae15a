//! The state that all handles to a store share, and what every read and write of it has in common.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::clock::Clock;
use crate::sets::{Key, Plan, Prefix};
use crate::store::FilesHealth;
use crate::store::cost::Cost;
use crate::store::embedded::expirations::Expirations;
use crate::store::embedded::log_files::log_files;
use crate::store::embedded::memtable::{Leaves, Memtables};
use crate::store::embedded::signal::{Durable, Signal};
use crate::store::embedded::table::MANIFEST;
use crate::store::embedded::table_cache::{Reader, TableCache};
use crate::store::embedded::wal::{Change, Frame, Log};
use crate::store::embedded::write_health::{PROBE, PROBE_BYTES, WriteHealth};
use crate::store::error::shared;
use crate::store::{Durability, Health, Result, StoreError, private};

/// The state that all handles to a store share.
pub(super) struct Engine {
    pub(super) memtables: RwLock<Memtables>,
    /// The earliest expiry time of a bitmap, in milliseconds since 1970, or `u64::MAX`.
    pub(super) next_expiry: AtomicU64,
    /// `None` for a store in memory.
    pub(super) disk: Option<Disk>,
    /// Messages for the operator about how the store was opened.
    pub(super) notes: Vec<String>,
    /// The prefixes whose users this process treats as numeric ids. Locked after `memtables`.
    pub(super) numeric_prefixes: Mutex<BTreeSet<Box<str>>>,
    /// Called with the key of each bitmap that changes.
    pub(super) listeners: RwLock<Vec<Listener>>,
}

pub(super) type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// The part of a store that only exists if it is in a directory.
pub(super) struct Disk {
    pub(super) directory: PathBuf,
    /// Whether the store was created when it was opened.
    pub(super) created: bool,
    pub(super) table_cache: TableCache,
    pub(super) durability: Durability,
    /// The memory of the active memtable, in bytes, that starts a checkpoint.
    pub(super) checkpoint_bytes: usize,
    /// The checkpoint that has begun but is not in the table yet.
    pub(super) pending: Mutex<Option<Pending>>,
    pub(super) durable: Durable,
    pub(super) signal: Signal,
    pub(super) write_health: WriteHealth,
    /// Locked while the file is open.
    pub(super) _lock: File,
}

/// A checkpoint that has begun.
pub(super) struct Pending {
    /// The sequence number of the last change that it contains.
    pub(super) sequence: u64,
    /// The log files that are no longer needed once it is in the table.
    pub(super) logs: Vec<PathBuf>,
    /// The number of the log after them.
    pub(super) next_log: u64,
    pub(super) expirations: Expirations,
}

/// Some bitmaps as they were at one moment.
pub(super) struct PlanReader<'a> {
    pub(super) memtables: Memtables,
    pub(super) reader: Option<Reader<'a>>,
}

impl PlanReader<'_> {
    /// Returns the cost of counting a plan. A bitmap that cannot be read costs nothing here:
    /// counting it reports the error.
    pub(super) fn cost(&self, plan: &Plan, prefix: &Prefix) -> Cost {
        let view = |key: &Key| self.memtables.view(&key.text(prefix), self.reader.as_ref());
        Cost::of(plan, |key| {
            view(key).map_or(0, |view| view.tiles().len() as u64)
        })
    }

    /// Returns the bitmaps of a plan as the source of an evaluation. `keys` holds the key of each
    /// node.
    pub(super) fn leaves(&self, keys: &[Option<String>]) -> Result<Leaves<'_>> {
        Leaves::of(
            keys.iter().map(Option::as_deref),
            &self.memtables,
            self.reader.as_ref(),
        )
    }
}

impl Engine {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Memtables> {
        self.memtables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> RwLockWriteGuard<'_, Memtables> {
        self.memtables
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a reader of the table, or `None` for a store in memory. See [`TableCache::reader`].
    pub(super) fn reader(&self) -> Option<Reader<'_>> {
        self.disk.as_ref().map(|disk| disk.table_cache.reader())
    }

    /// Sets and clears bits, given as in [`Change::Bits`], as one frame. Stores the previous value
    /// of each bit in `before`. If `guarded`, refuses keys whose users have string ids, for clients
    /// that must not see string ids.
    pub(super) fn write_bits(
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

    pub(super) fn has_listeners(&self) -> bool {
        !self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Calls the listeners with the keys of bitmaps that changed. The caller must hold the lock on
    /// the memtables, so that no reader has seen the changes yet.
    pub(super) fn notify_listeners<'k>(&self, keys: impl IntoIterator<Item = &'k str>) {
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
    pub(super) fn lock_with_room(&self) -> Result<RwLockWriteGuard<'_, Memtables>> {
        self.lock_with_room_for(0)
    }

    /// Like [`lock_with_room`](Self::lock_with_room), for a change that takes about `bytes` of
    /// memory.
    pub(super) fn lock_with_room_for(
        &self,
        bytes: usize,
    ) -> Result<RwLockWriteGuard<'_, Memtables>> {
        let Some(disk) = &self.disk else {
            self.expire_due();
            return Ok(self.lock());
        };
        loop {
            if let Err(error) = self.wait_for_room(disk, bytes) {
                return disk.write_health.record_write(Err(error));
            }
            self.expire_due();
            let memtables = self.lock();
            // Another writer may have taken the room.
            if !disk.is_full(&memtables, bytes) {
                return Ok(memtables);
            }
        }
    }

    /// Appends the next frame to the log.
    pub(super) fn append(&self, memtables: &mut Memtables, change: Change) -> Result<()> {
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
    pub(super) fn after_append(&self, memtables: RwLockWriteGuard<'_, Memtables>) -> Result<()> {
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
    pub(super) fn expire_due(&self) {
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

    pub(super) fn delete_expired(&self, memtables: &mut Memtables, now: u64) -> Result<()> {
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
    pub(super) fn begin_read(&self, part: impl FnOnce(&Memtables) -> Memtables) -> PlanReader<'_> {
        let memtables = self.read_unexpired();
        // Under the same lock, so that no checkpoint is published in between.
        let reader = self.reader();
        PlanReader {
            memtables: part(&memtables),
            reader,
        }
    }

    /// Locks the memtables for reading, after expired bitmaps are deleted.
    pub(super) fn read_unexpired(&self) -> RwLockReadGuard<'_, Memtables> {
        self.expire_due();
        self.read()
    }

    /// Makes all changes up to `sequence` durable, so that they survive a power failure.
    pub(super) fn sync(&self, disk: &Disk, sequence: u64) -> Result<()> {
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
    pub(super) fn sync_logs(&self) -> io::Result<u64> {
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
    pub(super) fn append(&self, memtables: &mut Memtables, change: Change) -> Result<()> {
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
    pub(super) fn log_bytes(&self) -> u64 {
        self.checkpoint_bytes as u64 / 4
    }
}

/// Returns the current time in milliseconds since 1970, or 0 if the system's clock is before that.
pub(super) fn now() -> u64 {
    u64::try_from(Clock::System.now().timestamp_millis()).unwrap_or(0)
}

/// Returns the length of a file in bytes, or 0 if it does not exist.
fn file_len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

impl Disk {
    /// Tests whether a file can be written, so that [`health`](Self::health) is correct on a full
    /// disk even before the first write.
    pub(super) fn probe(&self) {
        let path = self.directory.join(PROBE);
        let written = private::write(&path, [0; PROBE_BYTES]);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let outcome = written.and(removed);
        let failure = outcome.err().map(|error| StoreError::write(&path, &error));
        let mut counts = self.write_health.lock();
        let was_known = counts.failure().is_some();
        if let Some(error) = failure.as_ref().filter(|_| !was_known) {
            tracing::error!("the store cannot be written: {error}");
        }
        counts.set(|counts| counts.probe = failure);
    }

    /// Returns the health of the files. Never waits for the lock on the memtables.
    pub(super) fn health(&self) -> Health {
        // If the directory cannot be listed, or a file is being deleted, only the sizes are wrong.
        let logs = log_files(&self.directory).unwrap_or_default();
        let log_bytes = logs.iter().map(|(_, path)| file_len(path)).sum();
        let manifest_bytes = file_len(&self.directory.join(MANIFEST));
        let counts = self.write_health.lock();
        Health {
            writable: counts.reason().map_or(Ok(()), Err),
            write_errors: counts.write_errors,
            files: Some(FilesHealth {
                store_bytes: self.table_cache.table().version().bytes() + manifest_bytes,
                log_bytes,
                checkpoint_seconds: self.write_health.checkpoints.histogram(),
                ..counts.files.clone()
            }),
        }
    }
}
