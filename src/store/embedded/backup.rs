//! Backups: the whole store as one file, as of one moment, while it goes on.
//!
//! A store belongs to one process. Another one that wants a backup leaves a wish in the directory, whose owner's thread
//! sees it within a second, writes the backup beside it, and says how it went by the name of the file. Whoever may write
//! into the directory may ask, and nobody else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::store::embedded::base::{self, Base};
use crate::store::embedded::opening::{check_directory, sync_directory};
use crate::store::embedded::{DATABASE, Engine, write_error};
use crate::store::{Result, StoreError, private};

const WANTED: &str = "backup-wanted-";
const UNDER_WAY: &str = "backup-under-way-";
const DONE: &str = "backup-done-";
const FAILED: &str = "backup-failed-";

/// How long the owner may take to notice a wish.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

fn refused(file: &Path, reason: impl ToString) -> StoreError {
    StoreError::Backup { path: file.display().to_string(), reason: reason.to_string() }
}

impl Engine {
    /// Writes everything there is at this moment to a new file.
    pub(super) fn back_up(&self, file: &Path) -> Result<u64> {
        if file.exists() {
            return Err(refused(file, "there is a file of that name already"));
        }
        // Most of what is in memory goes to the file first, so that little has to be held meanwhile.
        self.checkpoint()?;
        let (reader, rolls, overlays, lifetimes, sequence) = {
            // No checkpoint begins or ends while its parts are looked at together.
            let _pending = self.disk.as_ref().map(|disk| disk.pending.lock().unwrap_or_else(PoisonError::into_inner));
            let layers = self.shown();
            let frozen = layers.frozen.clone().map(|frozen| (frozen, layers.frozen_rolls.clone().unwrap_or_default()));
            let overlays = (frozen, (layers.dirty.clone(), layers.rolls.clone()));
            (self.reader()?, self.rolls()?, overlays, layers.lifetimes.clone(), layers.sequence)
        };
        let unfinished = file.with_extension(format!("part-{}", std::process::id()));
        let _ = fs::remove_file(&unfinished);
        let frozen = overlays.0.iter().map(|(frozen, rolls)| (&**frozen, &**rolls));
        let layers = frozen.chain([(&overlays.1.0, &overlays.1.1)]);
        let written = base::copy(&unfinished, reader.as_ref(), rolls.as_ref(), layers, &lifetimes, sequence);
        // Unlike a renaming this takes nobody's place.
        let linked = written.and_then(|keys| {
            fs::hard_link(&unfinished, file).map_err(|error| refused(file, error))?;
            file.parent().iter().for_each(|directory| sync_directory(directory));
            Ok(keys)
        });
        let _ = fs::remove_file(&unfinished);
        linked
    }

    /// Looks for wishes and begins to fulfil them. Called each second.
    pub(super) fn see_wishes(self: &Arc<Self>) {
        let Some(disk) = &self.disk else { return };
        let Ok(entries) = fs::read_dir(&disk.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix(WANTED)).map(str::to_owned) else {
                continue;
            };
            // Taken down, so that it is seen once.
            if fs::remove_file(entry.path()).is_err() {
                continue;
            }
            let (engine, directory) = (Arc::clone(self), disk.directory.clone());
            let fulfil = move || {
                let (file, done) = (directory.join(format!("{UNDER_WAY}{id}")), directory.join(format!("{DONE}{id}")));
                let outcome = engine.back_up(&file).map_err(|error| error.to_string());
                let told = match outcome {
                    Ok(_) => fs::rename(&file, done),
                    Err(reason) => private::write(&directory.join(format!("{FAILED}{id}")), reason),
                };
                if let Err(error) = told {
                    tracing::error!("a backup was asked for, and it cannot be told how it went: {error}");
                }
            };
            if let Err(error) = std::thread::Builder::new().name("backup".into()).spawn(fulfil) {
                tracing::error!("a backup was asked for, and there is no thread for it: {error}");
            }
        }
    }
}

/// Asks the process that owns a store for a backup, and waits for it. `goes_on` is asked again and again whether that
/// process is still there.
///
/// # Errors
/// When it does not answer, or could not write the backup.
pub fn ask_owner(directory: &Path, file: &Path, goes_on: impl Fn() -> bool) -> Result<()> {
    if file.exists() {
        return Err(refused(file, "there is a file of that name already"));
    }
    let id = std::process::id();
    let at = |what: &str| directory.join(format!("{what}{id}"));
    let wish = at(WANTED);
    let (done, failed) = (at(DONE), at(FAILED));
    for old in [&done, &failed] {
        let _ = fs::remove_file(old);
    }
    private::write(&wish, "").map_err(|error| write_error(&wish, &error))?;
    let (asked, mut looked) = (Instant::now(), Instant::now());
    loop {
        if done.exists() {
            return take(&done, file).map_err(|error| refused(file, error));
        }
        if let Ok(reason) = fs::read_to_string(&failed) {
            let _ = fs::remove_file(&failed);
            return Err(refused(file, reason));
        }
        let unnoticed = wish.exists() && asked.elapsed() > NOTICED_WITHIN;
        if unnoticed || (looked.elapsed() > Duration::from_secs(1) && !goes_on()) {
            let _ = fs::remove_file(&wish);
            let reason = if unnoticed {
                "the process that has the store open does not write it: is it an older version?"
            } else {
                "the process that had the store open has ended; run this once more"
            };
            return Err(refused(file, reason));
        }
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Brings a file to where it was wanted, on another disk if need be, whole or not at all.
fn take(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_err() {
        if to.exists() {
            return Err(io::Error::other("there is a file of that name already"));
        }
        let part = to.with_extension("part");
        private::copy(from, &part).and_then(|_| fs::rename(&part, to))?;
    }
    fs::remove_file(from)
}

/// Makes a store out of a backup, where there is none. Everything in the backup is read and checked first; says how many
/// bitmaps there are.
///
/// # Errors
/// When there is a store already, or the file is no whole backup.
pub fn restore(file: &Path, directory: &Path) -> Result<u64> {
    check_directory(directory)?;
    let target = directory.join(DATABASE);
    let there = || refused(file, format!("{} holds a store already; name another with --store", directory.display()));
    if target.exists() {
        return Err(there());
    }
    private::create_directory(directory).map_err(|error| write_error(directory, &error))?;
    let part = unfinished(directory);
    let outcome = private::copy(file, &part).map_err(|error| refused(file, error)).and_then(|_| {
        let keys = Base::open(&part, 16 << 20).map_err(|error| refused(file, error)).and_then(|base| base.check())?;
        fs::File::open(&part).and_then(|part| part.sync_all()).map_err(|error| write_error(&part, &error))?;
        match fs::hard_link(&part, &target) {
            Ok(()) => Ok(keys),
            Err(_) if target.exists() => Err(there()),
            Err(error) => Err(write_error(&target, &error)),
        }
    });
    let _ = fs::remove_file(&part);
    sync_directory(directory);
    if outcome.is_err() {
        // Only if it is empty: what is not ours stays.
        let _ = fs::remove_dir(directory);
    }
    outcome
}

fn unfinished(directory: &Path) -> PathBuf {
    directory.join(format!("{DATABASE}.new-{}", std::process::id()))
}
