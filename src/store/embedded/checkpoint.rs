//! What happens beside the requests: syncing the log, deleting what is over, and checkpoints.

use std::fs;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::store::embedded::log::{Change, Log};
use crate::store::embedded::opening::{log_files, sync_directory};
use crate::store::embedded::{Disk, Engine, LOG, Pending, WORTH_A_CHECKPOINT, write_error};
use crate::store::{Durability, Result, StoreError};

/// How long a writer waits for a checkpoint to make room before it gives up.
const ROOM_WITHIN: Duration = Duration::from_secs(20);

/// How long after a failed checkpoint the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Engine {
    /// Whether more waits for its checkpoint than two checkpoints' worth.
    fn is_full(&self, disk: &Disk) -> bool {
        let layers = self.read();
        layers.dirty_bytes > 2 * disk.checkpoint_bytes
            || layers.log.as_ref().map_or(0, Log::len) > 2 * disk.log_bytes() + WORTH_A_CHECKPOINT
    }

    /// Holds a writer back while the store [is full](Self::is_full).
    pub(super) fn wait_for_room(&self, disk: &Disk) -> Result<()> {
        let until = Instant::now() + ROOM_WITHIN;
        while self.is_full(disk) {
            let started = disk.lock_signal().ended;
            disk.request_checkpoint();
            let signal = disk.lock_signal();
            let left = until.saturating_duration_since(Instant::now());
            let (signal, _) = disk
                .changed
                .wait_timeout_while(signal, left, |s| s.ended == started && !s.stop)
                .unwrap_or_else(PoisonError::into_inner);
            let failure = signal.failure.clone();
            drop(signal);
            if self.is_full(disk) && (failure.is_some() || left.is_zero()) {
                let reason = failure.unwrap_or_else(|| "the disk does not keep up with what is written".to_owned());
                return Err(StoreError::Write { path: disk.directory.display().to_string(), reason });
            }
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

    /// The work of the background thread.
    pub(super) fn keep(self: &Arc<Self>) {
        let Some(disk) = &self.disk else { return };
        let mut attempted = Instant::now();
        loop {
            let (stop, checkpoint) = {
                let signal = disk.lock_signal();
                let (mut signal, _) = disk
                    .changed
                    .wait_timeout_while(signal, Duration::from_secs(1), |s| !s.stop && !s.checkpoint)
                    .unwrap_or_else(PoisonError::into_inner);
                (signal.stop, std::mem::take(&mut signal.checkpoint))
            };
            let (file, sequence, log_bytes) = {
                let layers = self.read();
                let log = layers.log.as_ref();
                (log.map(Log::file), layers.sequence, log.map_or(0, Log::len))
            };
            if let Some(file) = file
                && let Err(error) = self.sync(disk, &file, sequence)
            {
                tracing::error!("{error}");
            }
            self.let_go();
            self.see_wishes();
            // What failed, as on a full disk, is tried again without being asked.
            let again = disk.vitals.checkpoint_failed() && attempted.elapsed() > RETRY_AFTER;
            if checkpoint || again || (stop && log_bytes > WORTH_A_CHECKPOINT) {
                attempted = Instant::now();
                let outcome = self.checkpoint();
                if let Err(error) = &outcome {
                    tracing::error!("the checkpoint failed, its marks stay in the log: {error}");
                }
                let mut signal = disk.lock_signal();
                signal.ended += 1;
                signal.failure = outcome.err().map(|e| e.to_string());
                disk.changed.notify_all();
            }
            self.retry_write(disk);
            if stop {
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
        if let Some(file) = pending.as_ref().and_then(|p| p.file.as_ref()) {
            file.sync_data().map_err(|e| write_error(&disk.directory, &e))?;
        }
        disk.base.write(&frozen, &rolls, lifetimes, sequence)?;
        // Before the frozen layer goes: until then it hides what the caches have of the tiles that changed.
        disk.base.refresh(&frozen);
        {
            let mut layers = self.lock();
            (layers.frozen, layers.frozen_rolls) = (None, None);
        }
        for path in pending.take().map(|p| p.logs).unwrap_or_default() {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!("cannot delete {}, which is of no more use: {error}", path.display());
            }
        }
        Ok(true)
    }

    /// Puts the dirty layer aside for a checkpoint and begins a new log.
    pub(super) fn freeze(&self, disk: &Disk, pending: &mut Option<Pending>) -> Result<()> {
        let mut layers = self.lock();
        let logs = log_files(&disk.directory).map_err(|e| write_error(&disk.directory, &e))?;
        if layers.dirty.is_empty() && layers.rolls.is_empty() && logs.len() < 2 {
            return Ok(());
        }
        let next = logs.last().map_or(1, |(number, _)| number + 1);
        let path = disk.directory.join(format!("{LOG}{next}"));
        let log = Log::open(&path, None).map_err(|e| write_error(&path, &e))?;
        sync_directory(&disk.directory);
        if disk.durability == Durability::Always
            && let Some(old) = &mut layers.log
            && let Err(error) = old.file().sync_data()
        {
            // A sync of the new file would vouch for every sequence before it, and it cannot for these.
            old.break_off(format!("the disk failed ({error}); restart the process once it is well"));
            return Err(write_error(old.path(), &error));
        }
        let file = layers.log.replace(log).map(|log| log.file());
        let logs = logs.into_iter().map(|(_, path)| path).collect();
        *pending = Some(Pending { sequence: layers.sequence, logs, file, lifetimes: layers.lifetimes.clone() });
        layers.frozen = Some(Arc::new(std::mem::take(&mut layers.dirty)));
        layers.frozen_rolls = Some(Arc::new(std::mem::take(&mut layers.rolls)));
        layers.dirty_bytes = 0;
        Ok(())
    }
}
