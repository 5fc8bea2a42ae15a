//! Backups: the whole store in one file, as of one moment, while the store stays in use.
//!
//! A store belongs to one process. Another process that wants a backup leaves a request in the
//! directory. A thread of the owner sees it within a second, writes the backup beside it, and
//! reports the outcome in the name of the file. Only processes that can write to the directory can
//! request a backup.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::store::embedded::memtable::Expirations;
use crate::store::embedded::recovery::{LOCK, check_directory, is_store, lock};
use crate::store::embedded::table::segment::{self, Segment, Writer};
use crate::store::embedded::table::{
    ABOUT, FORMAT, Manifest, PRESENT, Pace, Version, copy, new_store, sync_directory,
};
use crate::store::embedded::{Engine, OWNER, legacy, table_cache};
use crate::store::{Result, StoreError, private};

const WANTED: &str = "backup-wanted-";
const UNDER_WAY: &str = "backup-under-way-";
const DONE: &str = "backup-done-";
const FAILED: &str = "backup-failed-";

/// How long the owner may take to notice a request.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

fn refused(file: &Path, reason: impl ToString) -> StoreError {
    StoreError::Backup {
        path: file.display().to_string(),
        reason: reason.to_string(),
    }
}

impl Engine {
    /// Writes the whole store, as of this moment, to a new file.
    pub(super) fn back_up(&self, file: &Path) -> Result<u64> {
        if file.exists() {
            return Err(refused(file, "there is a file of that name already"));
        }
        let unfinished = file.with_extension(format!("part-{}", std::process::id()));
        let written = self
            .write_backup(&unfinished, &|| true)
            .map_err(|error| match error {
                StoreError::Write { reason, .. } => refused(file, reason),
                error => error,
            });
        // Unlike a rename, this never replaces an existing file.
        let linked = written.and_then(|keys| {
            fs::hard_link(&unfinished, file).map_err(|error| refused(file, error))?;
            file.parent()
                .iter()
                .for_each(|directory| sync_directory(directory));
            Ok(keys)
        });
        let _ = fs::remove_file(&unfinished);
        linked
    }

    /// Writes a backup. Calls `goes_on` for each block to ask whether to continue.
    fn write_backup(&self, path: &Path, goes_on: &dyn Fn() -> bool) -> Result<u64> {
        let failed = |error: &io::Error| StoreError::write(path, error);
        let create = |about: &About| {
            let mut value = vec![PRESENT];
            value.extend(postcard::to_stdvec(about).map_err(io::Error::other)?);
            let mut writer = Writer::create(path, new_store(), 1)?;
            writer.add(&[ABOUT], &value)?;
            Ok(writer)
        };
        let (sequence, writer) = match &self.disk {
            Some(disk) => {
                // What is in memory is written to a segment first. Segments are immutable, and
                // those of one moment form one store.
                self.checkpoint()?;
                let version = disk.base.table().version();
                // Read after the version, so that no number in the version is assigned again.
                let manifest = disk.base.table().manifest();
                let about = About {
                    format: FORMAT,
                    next_key: manifest.next_key,
                };
                let mut writer = create(&about).map_err(|error| failed(&error))?;
                if !copy(
                    &mut version.merge(&[])?,
                    &mut writer,
                    path,
                    &Pace {
                        hurries: true,
                        goes_on,
                    },
                )? {
                    return Err(refused(path, "it was given up"));
                }
                (manifest.sequence, writer)
            }
            None => {
                let layers = self.read();
                let (none, mut next_key) = (Expirations::default(), 0);
                let (entries, _) = table_cache::entries(
                    None,
                    &layers.dirty,
                    &layers.rolls,
                    (&none, &layers.lifetimes),
                    &mut next_key,
                )?;
                let mut writer = create(&About {
                    format: FORMAT,
                    next_key,
                })
                .map_err(|error| failed(&error))?;
                for entry in entries {
                    if let (key, Some(value)) = entry? {
                        writer.add(&key, &value).map_err(|error| failed(&error))?;
                    }
                }
                (layers.sequence, writer)
            }
        };
        writer.finish(sequence).map_err(|error| failed(&error))?;
        // What counts is the file as it is on disk.
        Version::of(Segment::open_any(path)?).check()
    }

    /// Looks for backup requests and starts to serve them. Called once a second.
    pub(super) fn see_wishes(self: &Arc<Self>) {
        let Some(disk) = &self.disk else { return };
        let Ok(entries) = fs::read_dir(&disk.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name
                .to_str()
                .and_then(|name| name.strip_prefix(WANTED))
                .map(str::to_owned)
            else {
                continue;
            };
            // Removed, so that the request is seen only once.
            if fs::remove_file(entry.path()).is_err() {
                continue;
            }
            let (engine, directory) = (Arc::clone(self), disk.directory.clone());
            let fulfil = move || {
                let (file, done) = (
                    directory.join(format!("{UNDER_WAY}{id}")),
                    directory.join(format!("{DONE}{id}")),
                );
                let outcome = engine.back_up(&file).map_err(|error| error.to_string());
                let told = match outcome {
                    Ok(_) => fs::rename(&file, done),
                    Err(reason) => private::write(&directory.join(format!("{FAILED}{id}")), reason),
                };
                if let Err(error) = told {
                    tracing::error!("cannot report the result of the requested backup: {error}");
                }
            };
            if let Err(error) = std::thread::Builder::new()
                .name("backup".into())
                .spawn(fulfil)
            {
                tracing::error!("cannot start a thread for the requested backup: {error}");
            }
        }
    }
}

/// Requests a backup from the process that owns a store, and waits for it. Calls `goes_on`
/// repeatedly to ask whether that process still exists.
///
/// # Errors
/// Returns an error if that process does not respond or could not write the backup.
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
    let owner = || fs::read(directory.join(OWNER)).unwrap_or_default();
    let asked_of = owner();
    private::write(&wish, "").map_err(|error| StoreError::write(&wish, &error))?;
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
        if unnoticed
            || (looked.elapsed() > Duration::from_secs(1) && (!goes_on() || owner() != asked_of))
        {
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

/// Moves a file to its destination, to another disk if necessary, completely or not at all.
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

/// The metadata that a backup holds in addition to its entries.
#[derive(Serialize, Deserialize)]
struct About {
    format: u32,
    next_key: u64,
}

/// Returns whether a file in a store's directory belongs to a requested backup.
pub(super) fn is_ours(name: &str) -> bool {
    [WANTED, UNDER_WAY, DONE, FAILED]
        .iter()
        .any(|beginning| name.starts_with(beginning))
}

/// Returns whether a file in a store's directory is an unfinished backup.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNDER_WAY)
}

/// Creates a store from a backup, in a directory without a store. Reads and checks everything in
/// the backup first. Returns the number of bitmaps.
///
/// # Errors
/// Returns an error if there is a store already or the file is not a complete backup.
pub fn restore(file: &Path, directory: &Path) -> Result<u64> {
    check_directory(directory)?;
    let there = || {
        refused(
            file,
            format!(
                "{} holds a store already; name another with --store",
                directory.display()
            ),
        )
    };
    if is_store(directory) {
        return Err(there());
    }
    private::create_directory(directory).map_err(|error| StoreError::write(directory, &error))?;
    let outcome = lock(directory).and_then(|_lock| {
        if is_store(directory) {
            Err(there())
        } else {
            make(file, directory)
        }
    });
    if outcome.is_err() && !is_store(directory) {
        clear(directory);
    }
    sync_directory(directory);
    outcome
}

fn make(file: &Path, directory: &Path) -> Result<u64> {
    fs::metadata(file).map_err(|error| refused(file, error))?;
    let store = new_store();
    // The segment has another name until it is complete: a segment without a manifest would be a
    // damaged store.
    let path = directory.join(format!("{UNDER_WAY}{}.segment", std::process::id()));
    let failed = |error: &io::Error| StoreError::write(&path, error);
    let damaged = |error| match error {
        StoreError::Damaged { reason, .. } => refused(file, format!("it is damaged: {reason}")),
        error => error,
    };
    let mut writer = Writer::create(&path, store, 1).map_err(|error| failed(&error))?;
    let (keys, next_key, sequence) = if legacy::is_old(file) {
        // The conversion opens the file for writing and may repair it.
        let part = directory.join(format!("{UNDER_WAY}{}", std::process::id()));
        private::copy(file, &part).map_err(|error| refused(file, error))?;
        let converted = legacy::convert(&part, &mut writer);
        let _ = fs::remove_file(&part);
        let converted = converted.map_err(damaged)?;
        (converted.keys, converted.next_key, converted.sequence)
    } else {
        let segment = Segment::open_any(file).map_err(damaged)?;
        let sequence = segment.info().sequence;
        let backup = Version::of(segment);
        let read = |value: &[u8]| postcard::from_bytes::<About>(value).ok();
        let about = backup.get(&[ABOUT], read).map_err(damaged)?;
        let about =
            about.ok_or_else(|| refused(file, "it is a segment of a store, not a backup"))?;
        if about.format > FORMAT {
            let reason = format!(
                "it has format {}, and this version of cohortist reads formats up to {FORMAT}",
                about.format
            );
            return Err(refused(file, reason));
        }
        let keys = backup.check().map_err(damaged)?;
        let pace = Pace {
            hurries: true,
            goes_on: &|| true,
        };
        copy(&mut backup.merge(&[ABOUT + 1])?, &mut writer, &path, &pace)?;
        (keys, about.next_key, sequence)
    };
    let info = writer.finish(sequence).map_err(|error| failed(&error))?;
    let segment = directory.join(segment::file_name(1));
    fs::rename(&path, &segment).map_err(|error| failed(&error))?;
    let manifest = Manifest {
        store,
        sequence,
        next_key,
        next_segment: 2,
        segments: vec![info],
        ..Manifest::default()
    };
    let written = manifest
        .write(directory)
        .inspect_err(|_| drop(fs::remove_file(&segment)));
    written.map_err(|error| StoreError::write(directory, &error))?;
    Ok(keys)
}

/// Removes what a failed restore left behind, and the directory if nothing else is in it.
fn clear(directory: &Path) {
    let unfinished = format!("{UNDER_WAY}{}.segment", std::process::id());
    for name in [
        segment::file_name(1),
        unfinished,
        LOCK.to_owned(),
        OWNER.to_owned(),
    ] {
        let _ = fs::remove_file(directory.join(name));
    }
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use crate::sets::{EventName, Key, Plan, Set};
    use crate::store::embedded::EmbeddedStore;
    use crate::store::embedded::table::Pace;
    use crate::store::{KeyListing, Mark, Options, Store};

    /// An operation that writes segments block by block and calls the hook before each block.
    type Writes = fn(&EmbeddedStore, &std::path::Path, &dyn Fn() -> bool);

    /// Neither reads nor marks wait while segments are merged or a backup is written.
    #[test]
    fn nobody_waits_for_a_merge_or_a_backup() {
        let merge: Writes = |store, _, goes_on| {
            let table = store.engine.disk.as_ref().unwrap().base.table();
            assert!(
                table
                    .compact_all(&Pace {
                        hurries: true,
                        goes_on
                    })
                    .unwrap()
            );
        };
        let backup: Writes = |store, path, goes_on| {
            store.engine.write_backup(path, goes_on).unwrap();
        };
        for work in [merge, backup] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("backup");
            let store =
                EmbeddedStore::open(&directory.path().join("store"), &Options::default()).unwrap();
            let key = Key::ever(EventName::new("active").unwrap());
            let mark = |user: u32| {
                store
                    .apply(&[Mark {
                        key: key.clone(),
                        user,
                        value: true,
                    }])
                    .unwrap()
            };
            let scattered: Vec<u32> = (0..60_000)
                .map(|n: u32| n.wrapping_mul(2_654_435_761))
                .collect();
            let marks = scattered.iter().map(|user| Mark {
                key: key.clone(),
                user: *user,
                value: true,
            });
            store.apply(&marks.collect::<Vec<_>>()).unwrap();
            store.checkpoint().unwrap();
            mark(1);
            store.checkpoint().unwrap();
            let count = || {
                let mut plan = Plan::new();
                plan.count_set(&Set::Key(key.clone())).unwrap();
                let other = Set::Key(Key::ever(EventName::new("other").unwrap()));
                plan.count_set(&(Set::Key(key.clone()) - other)).unwrap();
                let counts = store.count(&plan).unwrap();
                assert_eq!(counts[0], counts[1]);
                counts[0]
            };
            let before = count();
            std::thread::scope(|scope| {
                let (began, begins) = channel();
                let (go_on, goes_on) = channel::<()>();
                let (store, file) = (&store, &file);
                let channels = Arc::new(Mutex::new((began, goes_on)));
                let writing = scope.spawn(move || {
                    work(store, file, &|| {
                        let (began, goes_on) = &*channels.lock().unwrap();
                        let _ = began.send(());
                        // Held until the other end is dropped.
                        let _ = goes_on.recv_timeout(Duration::from_secs(60));
                        true
                    });
                });
                begins.recv_timeout(Duration::from_secs(60)).unwrap();
                // The write is held between two blocks. Everything else continues.
                assert_eq!(count(), before);
                mark(2);
                assert_eq!(store.keys("").unwrap().len(), 1);
                store.checkpoint().unwrap();
                assert_eq!(count(), before + 1);
                assert!(!writing.is_finished());
                drop(go_on);
                writing.join().unwrap();
            });
            assert_eq!(count(), before + 1);
        }
    }
}
