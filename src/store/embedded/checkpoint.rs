//! What happens beside the requests: syncing the log, deleting what is over, and checkpoints.

use std::fs;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::store::embedded::recovery::log_path;
use crate::store::embedded::signal::Waited;
use crate::store::embedded::table::{Pace, sync_directory};
use crate::store::embedded::wal::{Change, Log};
use crate::store::embedded::{Disk, Engine, OWNER, Pending, WORTH_A_CHECKPOINT, now};
use crate::store::{Result, StoreError};

/// How long a writer waits for a checkpoint to make room before it gives up.
const ROOM_WITHIN: Duration = Duration::from_secs(20);

/// How often the log is forced to disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// How often the checkpoint thread looks for keys whose time has come and for wishes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after a checkpoint the next one begins when bitmaps were deleted.
const DELETED_WITHIN: Duration = Duration::from_secs(20);

/// How long after a failed checkpoint the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Engine {
    /// Whether more waits for its checkpoint than two checkpoints' worth.
    fn is_full(&self, disk: &Disk) -> bool {
        let layers = self.read();
        layers.dirty_bytes > 2 * disk.checkpoint_bytes
            || layers.log.as_ref().map_or(0, Log::len) > 2 * disk.log_bytes() + WORTH_A_CHECKPOINT
    }

    /// Holds a writer back while the store [is full](Self::is_full). Each round waits for a
    /// checkpoint, which makes room whatever it was that filled the log.
    pub(super) fn wait_for_room(&self, disk: &Disk) -> Result<()> {
        let until = Instant::now() + ROOM_WITHIN;
        while self.is_full(disk) {
            let reason = match disk.signal.wait_for_room(until) {
                Waited::Room => continue,
                Waited::Failed(reason) if self.is_full(disk) => reason,
                Waited::Failed(_) => continue,
                Waited::TimedOut => "the disk does not keep up with what is written".to_owned(),
                Waited::Stopped => "the store is being closed".to_owned(),
            };
            return Err(StoreError::Write {
                path: disk.directory.display().to_string(),
                reason,
            });
        }
        Ok(())
    }

    /// After a refused write, tries whether writing works again, so that
    /// [`Store::health`](crate::store::Store::health) is right also when no marks arrive. The frame
    /// it appends is as long as the refused one and changes nothing.
    fn retry_write(&self, disk: &Disk) {
        if let Some(bytes) = disk.vitals.refused_bytes()
            && !self.is_full(disk)
        {
            let nothing = Change::Bits {
                keys: Vec::new(),
                bits: vec![(0, 0); bytes / 2],
            };
            if disk.append(&mut self.lock(), nothing).is_ok() {
                disk.vitals.recovered();
            }
        }
    }

    /// The work of the thread that forces the log to disk. It waits for no checkpoint.
    pub(super) fn keep_durable(&self) {
        let Some(disk) = &self.disk else { return };
        loop {
            let stop = disk.signal.wait_for_stop(Instant::now() + SYNC_EVERY);
            let sequence = self.read().sequence;
            if let Err(error) = self.sync(disk, sequence) {
                tracing::error!("{error}");
            }
            if stop {
                return;
            }
        }
    }

    /// The work of the thread that writes checkpoints.
    pub(super) fn keep(self: &Arc<Self>) {
        let Some(disk) = &self.disk else { return };
        let log_bytes_before = self.read().log.as_ref().map_or(0, Log::len);
        let mut attempted = Instant::now();
        let mut has_unread = true;
        loop {
            let next_look = Instant::now() + LOOK_EVERY;
            if has_unread {
                let read = self.read_up(disk, || {
                    Instant::now() < next_look && !disk.signal.is_stopped()
                });
                // After an error, only writers and the next checkpoint try again.
                has_unread = read.is_ok() && !self.read().unread.is_empty();
                if let Err(error) = read {
                    tracing::error!(
                        "what the log changes cannot be read; its changes are still in the log: {error}"
                    );
                }
            }
            let work = disk.signal.wait_for_work(next_look);
            self.expire_due();
            if !work.stop {
                self.see_wishes();
            }
            let log_bytes = self.read().log.as_ref().map_or(0, Log::len);
            // What failed, as on a full disk, is tried again without being asked.
            let again = disk.vitals.wants_checkpoint() && attempted.elapsed() > RETRY_AFTER;
            // What was deleted takes space until it is written that it is gone.
            let has_deleted =
                self.read().deleted && (work.stop || attempted.elapsed() > DELETED_WITHIN);
            // A process that only reads leaves the log unchanged.
            let is_worth_it =
                work.stop && log_bytes > WORTH_A_CHECKPOINT && log_bytes != log_bytes_before;
            if work.checkpoint || again || has_deleted || is_worth_it {
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
        }
    }

    /// The work of the thread that merges segments. Nothing waits for it.
    pub(super) fn compact_when_due(&self) {
        let Some(disk) = &self.disk else { return };
        let mut look_at = Instant::now() + LOOK_EVERY;
        while !disk.signal.wait_for_stop(look_at) {
            let goes_on = || !disk.signal.is_stopped();
            let merged = disk.base.table().compact_due(&Pace {
                hurries: false,
                goes_on: &goes_on,
            });
            look_at = Instant::now();
            match merged {
                // There may be more.
                Ok(true) => {}
                Ok(false) => look_at += LOOK_EVERY,
                Err(error) => {
                    tracing::error!("cannot merge segments, will retry: {error}");
                    look_at += RETRY_AFTER;
                }
            }
        }
    }

    /// What is left to do when all threads have ended.
    pub(super) fn close(&self) {
        let Some(disk) = &self.disk else { return };
        let table = disk.base.table();
        if let Err(error) = table.compact_at_close() {
            tracing::warn!("cannot merge segments: {error}");
        }
        // A backup still in progress may start another log. The store then counts as not closed.
        let _no_other_log = disk.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = self.read();
        if let Some(log) = layers.log.as_ref().filter(|log| log.is_whole())
            && log.file().sync().is_ok()
        {
            let closed = table.edit(|manifest| manifest.closed_at = Some(log.len()));
            if let Err(error) = closed {
                tracing::warn!("cannot record that the store was closed cleanly: {error}");
            }
        }
        let _ = fs::remove_file(disk.directory.join(OWNER));
    }

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
                disk.vitals.checkpointed(&outcome, began.elapsed());
                outcome
            }
        }
    }

    /// Answers whether there was anything to write.
    fn write_checkpoint(&self, disk: &Disk, pending: &mut Option<Pending>) -> Result<bool> {
        if self.read().frozen.is_none() {
            self.freeze(disk, pending)?;
        }
        let (frozen, rolls) = {
            let layers = self.read();
            (
                layers.frozen.clone(),
                layers.frozen_rolls.clone().unwrap_or_default(),
            )
        };
        let Some(frozen) = frozen else {
            return Ok(false);
        };
        let Some((sequence, lifetimes)) = pending.as_ref().map(|p| (p.sequence, &p.lifetimes))
        else {
            return Ok(false);
        };
        let log = pending.as_ref().map(|pending| pending.next_log);
        let written = disk
            .base
            .write(&frozen, &rolls, lifetimes, sequence, |manifest| {
                manifest.logs.retain(|number| Some(*number) >= log);
                manifest.checkpoint_at = Some(now());
            })?;
        disk.base.refresh(&written);
        {
            // A reader sees either the frozen layer over the table as it was, or the table as it
            // is.
            let mut layers = self.lock();
            disk.base.publish(written);
            (layers.frozen, layers.frozen_rolls) = (None, None);
            layers.closed.clear();
        }
        disk.durable.advance(sequence);
        for path in pending.take().map(|p| p.logs).unwrap_or_default() {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(
                    "cannot delete {}, which is of no more use: {error}",
                    path.display()
                );
            }
        }
        Ok(true)
    }

    /// Resolves the unread marks of all bitmaps while `goes_on` returns `true`. It blocks no reader
    /// or writer: they resolve the bitmaps that they need themselves.
    ///
    /// # Errors
    /// Returns the first error, after all other bitmaps are resolved.
    fn read_up(&self, disk: &Disk, goes_on: impl Fn() -> bool) -> Result<()> {
        let (mut after, mut first_error) = (Box::default(), None);
        while goes_on() {
            let (unread, reader) = {
                let layers = self.read();
                (layers.next_unread(&after), disk.base.reader())
            };
            let Some((text, overlay)) = unread else { break };
            let resolved = reader
                .record(&text)
                .and_then(|record| overlay.resolved(record.as_deref(), &reader));
            match resolved {
                Ok(resolved) => self.lock().put_resolved(text.clone(), &overlay, resolved),
                Err(error) => first_error = first_error.or(Some(error)),
            }
            after = text;
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Puts the dirty layer aside for a checkpoint and begins a new log. There is nothing to do
    /// only when no log holds anything: whatever fills the log is reason enough for a checkpoint.
    pub(super) fn freeze(&self, disk: &Disk, pending: &mut Option<Pending>) -> Result<()> {
        let (store, logs) = {
            let manifest = disk.base.table().manifest();
            (manifest.store, manifest.logs)
        };
        if logs.len() < 2 && self.read().log.as_ref().is_none_or(Log::is_empty) {
            return Ok(());
        }
        self.read_up(disk, || true)?;
        let next_log = logs.last().map_or(1, |number| number + 1);
        let path = log_path(&disk.directory, next_log);
        // Before the layers are locked: this takes as long as the disk takes.
        let log = Log::create(&path, store, next_log).map_err(|e| StoreError::write(&path, &e))?;
        sync_directory(&disk.directory);
        // Named before it is written to: a log that is named and missing is damage.
        let named = disk.base.table().edit(|manifest| {
            manifest.logs.push(next_log);
            manifest.closed_at = None;
        });
        if let Err(error) = named {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let logs = logs
            .into_iter()
            .map(|number| log_path(&disk.directory, number))
            .collect();
        // Syncs most of the old log before the lock is taken, so that the sync under the lock is
        // short.
        let sequence = self.read().sequence;
        let _ = self.sync(disk, sequence);
        let mut layers = self.lock();
        if let Some(old) = layers.log.replace(log) {
            // The old log must be on disk before the new one has records, or a power cut could lose
            // the records in between. If the sync fails, this checkpoint still writes the changes.
            let _ = old.file().sync();
            layers.closed.push(Arc::clone(old.file()));
        }
        assert!(
            layers.unread.is_empty(),
            "only opening a store leaves marks unread"
        );
        *pending = Some(Pending {
            sequence: layers.sequence,
            logs,
            next_log,
            lifetimes: layers.lifetimes.clone(),
        });
        layers.frozen = Some(Arc::new(std::mem::take(&mut layers.dirty)));
        layers.frozen_rolls = Some(Arc::new(std::mem::take(&mut layers.rolls)));
        layers.dirty_bytes = 0;
        layers.deleted = false;
        drop(layers);
        disk.signal.took_over();
        Ok(())
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

    /// What the system could not write once it may have thrown away, so the file is not trusted
    /// again: a checkpoint writes everything another way, and the store goes on.
    #[test]
    fn a_log_that_cannot_be_forced_to_disk_is_left_for_another() {
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

    /// A power cut takes the end of a log whose successor was named a moment ago and holds nothing:
    /// the last record is dropped, the store opens, and goes on.
    #[test]
    fn the_end_of_a_log_before_an_empty_one_may_be_torn() {
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
        // As it is on the disk now, and without the last byte of the first log.
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
