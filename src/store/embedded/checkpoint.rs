//! What happens beside the requests: syncing the log, deleting what is over, and checkpoints.

use std::fs;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::store::embedded::log::{Change, Log};
use crate::store::embedded::opening::{log_files, sync_directory};
use crate::store::embedded::signal::Waited;
use crate::store::embedded::{Disk, Engine, LOG, Pending, WORTH_A_CHECKPOINT, write_error};
use crate::store::{Result, StoreError};

/// How long a writer waits for a checkpoint to make room before it gives up.
const ROOM_WITHIN: Duration = Duration::from_secs(20);

/// How often the log is forced to disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// How often the checkpoint thread looks for keys whose time has come and for wishes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after a failed checkpoint the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Engine {
    /// Whether more waits for its checkpoint than two checkpoints' worth.
    fn is_full(&self, disk: &Disk) -> bool {
        let layers = self.read();
        layers.dirty_bytes > 2 * disk.checkpoint_bytes
            || layers.log.as_ref().map_or(0, Log::len) > 2 * disk.log_bytes() + WORTH_A_CHECKPOINT
    }

    /// Holds a writer back while the store [is full](Self::is_full). Each round waits for a checkpoint, which makes room
    /// whatever it was that filled the log.
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
            return Err(StoreError::Write { path: disk.directory.display().to_string(), reason });
        }
        Ok(())
    }

    /// After a refused write, tries whether writing works again, so that [`Store::health`](crate::store::Store::health)
    /// is right also when no marks arrive. The frame it appends is as long as the refused one and changes nothing.
    fn retry_write(&self, disk: &Disk) {
        if let Some(bytes) = disk.vitals.refused_bytes()
            && !self.is_full(disk)
        {
            let nothing = Change::Bits { keys: Vec::new(), bits: vec![(0, 0); bytes / 2] };
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
        let mut attempted = Instant::now();
        loop {
            let work = disk.signal.wait_for_work(Instant::now() + LOOK_EVERY);
            self.let_go();
            self.see_wishes();
            let log_bytes = self.read().log.as_ref().map_or(0, Log::len);
            // What failed, as on a full disk, is tried again without being asked.
            let again = disk.vitals.wants_checkpoint() && attempted.elapsed() > RETRY_AFTER;
            if work.checkpoint || again || (work.stop && log_bytes > WORTH_A_CHECKPOINT) {
                attempted = Instant::now();
                disk.signal.begin();
                let outcome = self.checkpoint();
                if let Err(error) = &outcome {
                    tracing::error!("the checkpoint failed, its marks stay in the log: {error}");
                }
                disk.signal.end(outcome.err().map(|e| e.to_string()));
            }
            self.retry_write(disk);
            if work.stop {
                return;
            }
        }
    }

    pub(super) fn checkpoint(&self) -> Result<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
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
            (layers.frozen.clone(), layers.frozen_rolls.clone().unwrap_or_default())
        };
        let Some(frozen) = frozen else { return Ok(false) };
        let Some((sequence, lifetimes)) = pending.as_ref().map(|p| (p.sequence, &p.lifetimes)) else {
            return Ok(false);
        };
        disk.base.write(&frozen, &rolls, lifetimes, sequence)?;
        // Before the frozen layer goes: until then it hides what the caches have of the tiles that changed.
        disk.base.refresh(&frozen);
        {
            let mut layers = self.lock();
            (layers.frozen, layers.frozen_rolls) = (None, None);
            layers.closed.clear();
        }
        disk.durable.advance(sequence);
        for path in pending.take().map(|p| p.logs).unwrap_or_default() {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!("cannot delete {}, which is of no more use: {error}", path.display());
            }
        }
        Ok(true)
    }

    /// Puts the dirty layer aside for a checkpoint and begins a new log. There is nothing to do only when no log holds
    /// anything: whatever fills the log is reason enough for a checkpoint.
    pub(super) fn freeze(&self, disk: &Disk, pending: &mut Option<Pending>) -> Result<()> {
        let logs = log_files(&disk.directory).map_err(|e| write_error(&disk.directory, &e))?;
        if logs.len() < 2 && self.read().log.as_ref().is_none_or(Log::is_empty) {
            return Ok(());
        }
        let next = logs.last().map_or(1, |(number, _)| number + 1);
        let path = disk.directory.join(format!("{LOG}{next}"));
        // Before the layers are locked: this takes as long as the disk takes.
        let log = Log::create(&path).map_err(|e| write_error(&path, &e))?;
        sync_directory(&disk.directory);
        let logs = logs.into_iter().map(|(_, path)| path).collect();
        let mut layers = self.lock();
        if let Some(old) = layers.log.replace(log) {
            layers.closed.push(Arc::clone(old.file()));
        }
        *pending = Some(Pending { sequence: layers.sequence, logs, lifetimes: layers.lifetimes.clone() });
        layers.frozen = Some(Arc::new(std::mem::take(&mut layers.dirty)));
        layers.frozen_rolls = Some(Arc::new(std::mem::take(&mut layers.rolls)));
        layers.dirty_bytes = 0;
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
    use crate::store::{Durability, Mark, Options, Progress, Store, StoreError};

    fn mark(user: u32) -> [Mark; 1] {
        [Mark { key: Key::ever(EventName::new("active").unwrap()), user, value: true }]
    }

    /// What the system could not write once it may have thrown away, so the file is not trusted again: a checkpoint writes
    /// everything another way, and the store goes on.
    #[test]
    fn a_log_that_cannot_be_forced_to_disk_is_left_for_another() {
        for durability in [Durability::EverySecond, Durability::Always] {
            let directory = tempfile::tempdir().unwrap();
            let options = Options { durability, ..Options::default() };
            let store = EmbeddedStore::open(directory.path(), &options).unwrap();
            store.apply(&mark(1)).unwrap();
            store.flush().unwrap();
            let before = store.progress();
            assert_eq!(before, Progress { written: 1, durable: 1 });
            let held = store.hold_checkpoints();
            let log = Arc::clone(store.engine.read().log.as_ref().unwrap().file());
            store.apply(&mark(2)).unwrap();
            log.fail();
            assert!(matches!(store.apply(&mark(3)), Err(StoreError::Write { .. })));
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
            assert_eq!(store.members(&Set::Key(mark(0)[0].key.clone()), None, 9).unwrap(), [1, 2, 4]);
        }
    }
}
