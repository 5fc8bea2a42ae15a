//! The background work of a store: syncing the log, checkpoints, expiry and compaction.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::store::embedded::directory::OWNER;
use crate::store::embedded::engine::{Disk, Engine, Pending, now};
use crate::store::embedded::log_files::log_path;
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::signal::WaitOutcome;
use crate::store::embedded::table::{Pace, sync_directory};
use crate::store::embedded::table_cache::Checkpoint;
use crate::store::embedded::wal::{Change, Log};
use crate::store::{Result, StoreError};

/// The minimum length of a log, in bytes, for a checkpoint when the store is closed. A shorter log
/// is replayed quickly.
const MIN_CHECKPOINT_AT_CLOSE: u64 = 1 << 20;

/// The size of a change, in bytes, from which on it counts before it is made.
const LARGE_CHANGE: usize = 1 << 20;

/// The maximum time that a writer waits for a checkpoint to make room.
const ROOM_WITHIN: Duration = Duration::from_secs(20);

/// The interval at which the log is synced to disk.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The interval at which the threads check for expired bitmaps, backup requests, and segments to
/// merge.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The time from a checkpoint to the next one if bitmaps were deleted.
const DELETED_WITHIN: Duration = Duration::from_secs(20);

/// The time from one probe of the disk to the next. A failed one is repeated each
/// [`CHECK_INTERVAL`].
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// The time from a failed checkpoint or merge to the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Disk {
    /// Returns whether a change of about `bytes` must wait for a checkpoint, because twice as many
    /// changes as start one are in memory or in the log. Small changes do not wait for a checkpoint
    /// that is being written; large ones do, so that the memory of both is bounded.
    pub(super) fn is_full(&self, memtables: &Memtables, bytes: usize) -> bool {
        let most = 2 * self.checkpoint_bytes;
        let log_len = memtables.log.as_ref().map_or(0, Log::len);
        let is_too_much = if bytes < LARGE_CHANGE {
            memtables.active_bytes > most
        } else {
            // A change larger than the limit still gets its turn when little else is in memory.
            let room = most.saturating_sub(bytes).max(most / 8);
            memtables.active_bytes + memtables.immutable_bytes > room
        };
        is_too_much || log_len > 2 * self.log_bytes() + MIN_CHECKPOINT_AT_CLOSE
    }
}

impl Engine {
    fn log_len(&self) -> u64 {
        self.read().log.as_ref().map_or(0, Log::len)
    }

    /// Delays a writer while the memtables [are full](Disk::is_full) for a change of about `bytes`. Each
    /// round waits for a checkpoint, because any checkpoint makes room.
    pub(super) fn wait_for_room(&self, disk: &Disk, bytes: usize) -> Result<()> {
        let until = Instant::now() + ROOM_WITHIN;
        while disk.is_full(&self.read(), bytes) {
            let reason = match disk.signal.wait_for_room(until) {
                WaitOutcome::Room => continue,
                WaitOutcome::Failed(reason) if disk.is_full(&self.read(), bytes) => reason,
                WaitOutcome::Failed(_) => continue,
                WaitOutcome::TimedOut => "the disk does not keep up with the writes".to_owned(),
                WaitOutcome::Stopped => "the store is being closed".to_owned(),
            };
            return Err(StoreError::Write {
                path: disk.directory.display().to_string(),
                reason,
                source: None,
            });
        }
        Ok(())
    }

    /// Tests, after a refused write, whether writes work again, so that
    /// [`Store::health`](crate::store::Store::health) is correct even if no marks arrive. Appends a
    /// frame that is as long as the refused one and changes nothing.
    fn retry_write(&self, disk: &Disk) {
        if let Some(bytes) = disk.write_health.refused_bytes()
            && !disk.is_full(&self.read(), 0)
        {
            let nothing = Change::Bits {
                keys: Vec::new(),
                bits: vec![(0, 0); bytes / 2],
            };
            if disk.append(&mut self.lock(), nothing).is_ok() {
                disk.write_health.recovered();
            }
        }
    }

    /// Syncs the log at regular intervals. Runs in its own thread, so a checkpoint does not delay
    /// it.
    pub(super) fn sync_when_due(&self) {
        let Some(disk) = &self.disk else { return };
        loop {
            let stop = disk.signal.wait_for_stop(Instant::now() + SYNC_INTERVAL);
            let sequence = self.read().sequence;
            if let Err(error) = self.sync(disk, sequence) {
                tracing::error!("{error}");
            }
            if stop {
                return;
            }
        }
    }

    /// Writes checkpoints when they are due, and does other regular work. Runs in its own thread.
    pub(super) fn checkpoint_when_due(self: &Arc<Self>) {
        let Some(disk) = &self.disk else { return };
        let log_len_at_start = self.log_len();
        let mut attempted = Instant::now();
        let mut has_unresolved = true;
        let mut probed = Instant::now();
        loop {
            let next_check = Instant::now() + CHECK_INTERVAL;
            if has_unresolved {
                has_unresolved = self.resolve_until(disk, next_check);
            }
            let work = disk.signal.wait_for_work(next_check);
            self.expire_due();
            if !work.stop {
                self.serve_backup_requests();
            }
            // A failed checkpoint, for example because the disk was full, is repeated without a
            // request.
            let must_retry =
                disk.write_health.wants_checkpoint() && attempted.elapsed() > RETRY_AFTER;
            // Deleted bitmaps take space until a checkpoint writes the removal.
            let has_deletions =
                self.read().has_deletions && (work.stop || attempted.elapsed() > DELETED_WITHIN);
            // A process that only reads leaves the log unchanged.
            let log_len = self.log_len();
            let is_worthwhile =
                work.stop && log_len > MIN_CHECKPOINT_AT_CLOSE && log_len != log_len_at_start;
            if work.checkpoint || must_retry || has_deletions || is_worthwhile {
                attempted = Instant::now();
                disk.signal.begin();
                let outcome = self.checkpoint();
                if let Err(error) = &outcome {
                    tracing::error!(
                        "the checkpoint failed; its changes are still in the log: {error}"
                    );
                }
                disk.signal.end(outcome.err().map(|e| e.to_string()));
            }
            self.retry_write(disk);
            if work.stop {
                return;
            }
            if disk.write_health.wants_probe() || probed.elapsed() > PROBE_INTERVAL {
                probed = Instant::now();
                disk.probe();
            }
        }
    }

    /// Resolves unresolved users until a time, or until the store is closed. Returns whether to
    /// continue later.
    fn resolve_until(&self, disk: &Disk, until: Instant) -> bool {
        let resolved =
            self.resolve_unresolved(disk, || Instant::now() < until && !disk.signal.is_stopped());
        if let Err(error) = resolved {
            tracing::error!(
                "cannot read bitmaps that the log changes; the changes are still in the log: {error}"
            );
            // Only writers and the next checkpoint try again.
            return false;
        }
        !self.read().unresolved.is_empty()
    }

    /// Merges segments when they are due. Runs in its own thread, which no other thread waits for.
    pub(super) fn compact_when_due(&self) {
        let Some(disk) = &self.disk else { return };
        let mut next_check = Instant::now() + CHECK_INTERVAL;
        while !disk.signal.wait_for_stop(next_check) {
            let goes_on = || !disk.signal.is_stopped();
            let merged = disk.table_cache.table().compact_due(&Pace {
                hurries: false,
                goes_on: &goes_on,
            });
            next_check = Instant::now();
            match merged {
                // More segments may be due.
                Ok(true) => {}
                Ok(false) => next_check += CHECK_INTERVAL,
                Err(error) => {
                    tracing::error!("cannot merge segments, will retry: {error}");
                    next_check += RETRY_AFTER;
                }
            }
        }
    }

    /// Closes the store cleanly, after all threads have ended.
    pub(super) fn close(&self) {
        let Some(disk) = &self.disk else { return };
        let table = disk.table_cache.table();
        if let Err(error) = table.compact_at_close() {
            tracing::warn!("cannot merge segments: {error}");
        }
        // Held because a backup that is still in progress must not start another log. If it has
        // done so before, the store counts as not closed cleanly.
        let _pending = disk.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let memtables = self.read();
        if let Some(log) = memtables.log.as_ref().filter(|log| log.is_whole())
            && log.file().sync().is_ok()
        {
            let closed = table.edit(|manifest| manifest.closed_at = Some(log.len()));
            if let Err(error) = closed {
                tracing::warn!("cannot record that the store was closed cleanly: {error}");
            }
        }
        let _ = fs::remove_file(disk.directory.join(OWNER));
    }

    /// Writes a checkpoint. Does nothing for a store in memory.
    pub(super) fn checkpoint(&self) -> Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let mut pending = disk.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        match self.write_checkpoint(disk, &mut pending) {
            Ok(false) => Ok(()),
            outcome => {
                let outcome = outcome.map(|_| ());
                disk.write_health
                    .record_checkpoint(&outcome, began.elapsed());
                outcome
            }
        }
    }

    /// Writes a checkpoint, or completes one that has failed before. Returns whether there was
    /// anything to write.
    fn write_checkpoint(&self, disk: &Disk, pending: &mut Option<Pending>) -> Result<bool> {
        if self.read().immutable.is_none() {
            self.freeze(disk, pending)?;
        }
        let memtables = self.read();
        let Some(memtable) = memtables.immutable.clone() else {
            return Ok(false);
        };
        let id_maps = memtables
            .immutable_id_maps
            .clone()
            .expect("it is set together with the immutable memtable");
        drop(memtables);
        let Pending {
            sequence,
            next_log,
            expirations,
            ..
        } = pending
            .as_ref()
            .expect("it is set together with the immutable memtable");
        let sequence = *sequence;
        let checkpoint = Checkpoint {
            memtable: &memtable,
            id_maps: &id_maps,
            expirations,
        };
        let written = disk.table_cache.write(checkpoint, sequence, |manifest| {
            manifest.logs.retain(|number| number >= next_log);
            manifest.checkpoint_at = Some(now());
        })?;
        disk.table_cache.refresh(&written);
        // Under one lock, so that a reader sees the changes either in the immutable memtable or in
        // the table.
        let mut memtables = self.lock();
        disk.table_cache.publish(written);
        memtables.immutable = None;
        memtables.immutable_id_maps = None;
        memtables.immutable_bytes = 0;
        memtables.closed_logs.clear();
        drop(memtables);
        disk.durable.advance(sequence);
        for path in pending.take().into_iter().flat_map(|done| done.logs) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(
                    "cannot delete {}, which is no longer needed: {error}",
                    path.display()
                );
            }
        }
        Ok(true)
    }

    /// Resolves the unresolved users of all bitmaps while `goes_on` returns `true`. It blocks no
    /// reader or writer: they resolve the bitmaps that they need themselves.
    ///
    /// # Errors
    /// Returns the first error, after all other bitmaps are resolved.
    fn resolve_unresolved(&self, disk: &Disk, goes_on: impl Fn() -> bool) -> Result<()> {
        let mut after = Box::default();
        let mut first_error = None;
        while goes_on() {
            let memtables = self.read();
            let unresolved = memtables.next_unresolved(&after);
            let reader = disk.table_cache.reader();
            drop(memtables);
            let Some((key, overlay)) = unresolved else {
                break;
            };
            let resolved = reader
                .record(&key)
                .and_then(|record| overlay.resolved(record.as_deref(), &reader));
            match resolved {
                Ok(resolved) => self.lock().put_resolved(key.clone(), &overlay, resolved),
                Err(error) => first_error = first_error.or(Some(error)),
            }
            after = key;
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Starts a checkpoint: makes the active memtable immutable, and starts a new log. Does nothing
    /// only if all logs are empty. Otherwise there is something to write, even if the logs contain
    /// no effective change.
    pub(super) fn freeze(&self, disk: &Disk, pending: &mut Option<Pending>) -> Result<()> {
        let older_logs = disk.table_cache.table().manifest().logs;
        if older_logs.len() < 2 && self.read().log.as_ref().is_none_or(Log::is_empty) {
            return Ok(());
        }
        self.resolve_unresolved(disk, || true)?;
        let next_log = older_logs.last().map_or(1, |number| number + 1);
        // Before the memtables are locked, because the disk may be slow.
        let log = Self::start_log(disk, next_log)?;
        let logs: Vec<PathBuf> = older_logs
            .into_iter()
            .map(|number| log_path(&disk.directory, number))
            .collect();
        // Syncs most of the old log before the lock is acquired, so that the sync under the lock is
        // short.
        let sequence = self.read().sequence;
        let _ = self.sync(disk, sequence);
        let mut memtables = self.lock();
        if let Some(old) = memtables.log.replace(log) {
            // The old log must be on disk before the new one has records, or a power failure could
            // lose the records in between. If the sync fails, this checkpoint still writes the
            // changes.
            let _ = old.file().sync();
            memtables.closed_logs.push(Arc::clone(old.file()));
        }
        assert!(
            memtables.unresolved.is_empty(),
            "only opening a store leaves users unresolved"
        );
        *pending = Some(Pending {
            sequence: memtables.sequence,
            logs,
            next_log,
            expirations: memtables.expirations.clone(),
        });
        memtables.immutable = Some(Arc::new(std::mem::take(&mut memtables.active)));
        memtables.immutable_id_maps = Some(Arc::new(std::mem::take(&mut memtables.id_maps)));
        memtables.immutable_bytes = std::mem::take(&mut memtables.active_bytes);
        memtables.has_deletions = false;
        drop(memtables);
        disk.signal.took_over();
        Ok(())
    }

    /// Creates a log and adds it to the manifest.
    fn start_log(disk: &Disk, number: u64) -> Result<Log> {
        let table = disk.table_cache.table();
        let path = log_path(&disk.directory, number);
        let log = Log::create(&path, table.manifest().store, number)
            .map_err(|e| StoreError::write(&path, &e))?;
        sync_directory(&disk.directory);
        // The manifest names a log before anything is written to it: a log that it names must
        // exist, and a log with records must be in it.
        let named = table.edit(|manifest| {
            manifest.logs.push(number);
            manifest.closed_at = None;
        });
        if let Err(error) = named {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::sets::{EventName, Key, Set};
    use crate::store::embedded::EmbeddedStore;
    use crate::store::{Durability, Maintenance, Mark, Options, Progress, Store, StoreError};

    fn mark(user: u32) -> [Mark; 1] {
        [Mark {
            key: Key::ever(EventName::new("active").unwrap()),
            user,
            value: true,
        }]
    }

    /// After a failed sync, the system may have discarded what it could not write, so the file is
    /// not trusted again. A checkpoint writes the changes elsewhere, and the store starts a new
    /// log.
    #[test]
    fn a_checkpoint_recovers_from_a_failed_sync_of_the_log() {
        for durability in [Durability::EverySecond, Durability::Always] {
            let directory = tempfile::tempdir().unwrap();
            let options = Options {
                durability,
                ..Options::default()
            };
            let store = EmbeddedStore::open(directory.path(), &options).unwrap();
            store.apply(&mark(1)).unwrap();
            store.flush().unwrap();
            let before = store.progress();
            assert_eq!(
                before,
                Progress {
                    written: 1,
                    durable: 1
                }
            );
            let held = store.hold_checkpoints();
            let log = Arc::clone(store.engine.read().log.as_ref().unwrap().file());
            store.apply(&mark(2)).unwrap();
            log.fail();
            assert!(matches!(
                store.apply(&mark(3)),
                Err(StoreError::Write { .. })
            ));
            if store.progress().durable < 2 {
                assert!(matches!(store.flush(), Err(StoreError::Unsynced { .. })));
                assert_eq!(store.progress().durable, 1);
            }
            assert!(store.health().writable.is_err());
            drop(held);
            store.checkpoint().unwrap();
            assert!(store.progress().durable >= 2);
            store.apply(&mark(4)).unwrap();
            store.flush().unwrap();
            assert_eq!(store.health().writable, Ok(()));
            drop(store);
            let store = EmbeddedStore::open(directory.path(), &options).unwrap();
            assert_eq!(
                store
                    .members(&Set::Key(mark(0)[0].key.clone()), None, 9)
                    .unwrap(),
                [1, 2, 4]
            );
        }
    }

    /// A power failure may truncate a log whose successor is already in the manifest but empty. The
    /// store drops the incomplete record and opens.
    #[test]
    fn a_log_may_be_incomplete_if_the_next_one_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::default();
        let store = EmbeddedStore::open(directory.path(), &options).unwrap();
        for user in 1..=3 {
            store.apply(&mark(user)).unwrap();
        }
        let engine = &store.engine;
        let disk = engine.disk.as_ref().unwrap();
        let mut pending = disk.pending.lock().unwrap();
        engine.freeze(disk, &mut pending).unwrap();
        // A copy of the files as they are now, without the last byte of the first log.
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap())
        {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        drop(pending);
        drop(store);
        let log = copy.path().join("log-1");
        let bytes = std::fs::read(&log).unwrap();
        std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
        for expected in [&[1, 2][..], &[1, 2, 4], &[1, 2, 4]] {
            let store = EmbeddedStore::open(copy.path(), &options).unwrap();
            assert_eq!(
                store
                    .members(&Set::Key(mark(0)[0].key.clone()), None, 9)
                    .unwrap(),
                expected
            );
            store.apply(&mark(4)).unwrap();
        }
    }
}
