//! Backups: the whole store in one file, as of one moment, while the store stays in use.
//!
//! Only one process can open a store. Another process that needs a backup creates a request file in
//! the directory. A thread of the owner process finds it within a second, writes the backup to the
//! same directory, and reports the outcome by renaming the file. Only processes that can write to
//! the directory can request a backup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::store::embedded::backup_files::UNFINISHED;
use crate::store::embedded::backup_files::{DONE, FAILED, REQUESTED};
use crate::store::embedded::directory::lock;
use crate::store::embedded::directory::{LOCK, OWNER, check_directory, is_store};
use crate::store::embedded::engine::{Disk, Engine};
use crate::store::embedded::expirations::Expirations;
use crate::store::embedded::legacy;
use crate::store::embedded::table::segment::{self, Segment, Writer};
use crate::store::embedded::table::{
    FORMAT, METADATA, Manifest, PRESENT, Pace, Version, copy, new_store, sync_directory,
};
use crate::store::embedded::table_cache::{self, Checkpoint};
use crate::store::{Result, StoreError, private};

/// The time within which the owner must notice a request.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// The interval at which the owner's existence is checked while waiting for a backup.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

fn refused(file: &Path, reason: impl ToString) -> StoreError {
    StoreError::Backup {
        path: file.display().to_string(),
        reason: reason.to_string(),
        source: None,
    }
}

impl Engine {
    /// Writes the whole store, as of this moment, to a new file.
    pub(super) fn back_up(&self, file: &Path) -> Result<u64> {
        if file.exists() {
            return Err(refused(file, "the file already exists"));
        }
        let unfinished = file.with_extension(format!("part-{}", std::process::id()));
        let written = self
            .write_backup(&unfinished, &|| true)
            .map_err(|error| match error {
                StoreError::Write { reason, source, .. } => StoreError::Backup {
                    path: file.display().to_string(),
                    reason,
                    source,
                },
                error => error,
            });
        // Unlike a rename, this never replaces an existing file.
        let linked = written.and_then(|keys| {
            fs::hard_link(&unfinished, file).map_err(|error| StoreError::backup(file, error))?;
            file.parent()
                .iter()
                .for_each(|directory| sync_directory(directory));
            Ok(keys)
        });
        let _ = fs::remove_file(&unfinished);
        linked
    }

    /// Writes a backup. Calls `goes_on` for each block to ask whether to continue. Returns the
    /// number of bitmaps.
    fn write_backup(&self, path: &Path, goes_on: &dyn Fn() -> bool) -> Result<u64> {
        match &self.disk {
            Some(disk) => self.write_backup_of_table(disk, path, goes_on)?,
            None => self.write_backup_of_memory(path)?,
        }
        // Checks the file as it is on disk.
        Version::of(Segment::open_any(path)?).check()
    }

    fn write_backup_of_table(
        &self,
        disk: &Disk,
        path: &Path,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<()> {
        // First, the changes in memory are written to a segment. Segments are immutable, so the
        // segments of one version are a consistent snapshot of the store.
        self.checkpoint()?;
        let version = disk.table_cache.table().version();
        // Read after the version, so that no number in the version is assigned again.
        let manifest = disk.table_cache.table().manifest();
        let mut writer = create(path, manifest.next_key)?;
        let pace = Pace {
            hurries: true,
            goes_on,
        };
        if !copy(&mut version.merge(&[])?, &mut writer, path, &pace)? {
            return Err(refused(path, "it was cancelled"));
        }
        writer
            .finish(manifest.sequence)
            .map_err(|error| StoreError::write(path, &error))?;
        Ok(())
    }

    fn write_backup_of_memory(&self, path: &Path) -> Result<()> {
        let failed = |error: &io::Error| StoreError::write(path, error);
        let memtables = self.read();
        let checkpoint = Checkpoint {
            memtable: &memtables.active,
            id_maps: &memtables.id_maps,
            expirations: &memtables.expirations,
        };
        let mut next_key = 0;
        let (entries, _) =
            table_cache::entries(None, checkpoint, &Expirations::default(), &mut next_key)?;
        let mut writer = create(path, next_key)?;
        for entry in entries {
            if let (key, Some(value)) = entry? {
                writer.add(&key, &value).map_err(|error| failed(&error))?;
            }
        }
        writer
            .finish(memtables.sequence)
            .map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Looks for backup requests and starts to serve them. Called once a second.
    pub(super) fn serve_backup_requests(self: &Arc<Self>) {
        let Some(disk) = &self.disk else { return };
        let Ok(entries) = fs::read_dir(&disk.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name
                .to_str()
                .and_then(|name| name.strip_prefix(REQUESTED))
                .map(str::to_owned)
            else {
                continue;
            };
            // Removed, so that the request is served only once.
            if fs::remove_file(entry.path()).is_err() {
                continue;
            }
            let engine = Arc::clone(self);
            let directory = disk.directory.clone();
            if let Err(error) = std::thread::Builder::new()
                .name("backup".into())
                .spawn(move || engine.serve_backup_request(&directory, &id))
            {
                tracing::error!("cannot start a thread for the requested backup: {error}");
            }
        }
    }

    fn serve_backup_request(&self, directory: &Path, id: &str) {
        let file = directory.join(format!("{UNFINISHED}{id}"));
        let reported = match self.back_up(&file) {
            Ok(_) => fs::rename(&file, directory.join(format!("{DONE}{id}"))),
            Err(error) => {
                private::write(&directory.join(format!("{FAILED}{id}")), error.to_string())
            }
        };
        if let Err(error) = reported {
            tracing::error!("cannot report the result of the requested backup: {error}");
        }
    }
}

/// Creates the file of a backup, with its metadata.
fn create(path: &Path, next_key: u64) -> Result<Writer> {
    let metadata = Metadata {
        format: FORMAT,
        next_key,
    };
    let create = || {
        let mut value = vec![PRESENT];
        value.extend(postcard::to_stdvec(&metadata).map_err(io::Error::other)?);
        let mut writer = Writer::create(path, new_store(), 1)?;
        writer.add(&[METADATA], &value)?;
        Ok(writer)
    };
    create().map_err(|error| StoreError::write(path, &error))
}

/// Requests a backup from the process that owns a store, and waits for it. Calls `goes_on`
/// repeatedly to ask whether that process still exists.
///
/// # Errors
/// Returns an error if that process does not respond or could not write the backup.
pub fn ask_owner(directory: &Path, file: &Path, goes_on: impl Fn() -> bool) -> Result<()> {
    if file.exists() {
        return Err(refused(file, "the file already exists"));
    }
    let id = std::process::id();
    let at = |start: &str| directory.join(format!("{start}{id}"));
    let request = at(REQUESTED);
    let done = at(DONE);
    let failed = at(FAILED);
    for old in [&done, &failed] {
        let _ = fs::remove_file(old);
    }
    // Without the file, the owner counts as changed once another process has the store open.
    let owner = || fs::read(directory.join(OWNER)).unwrap_or_default();
    let owner_before = owner();
    private::write(&request, "").map_err(|error| StoreError::write(&request, &error))?;
    let requested = Instant::now();
    let mut checked = Instant::now();
    loop {
        if done.exists() {
            return take(&done, file).map_err(|error| StoreError::backup(file, error));
        }
        if let Ok(reason) = fs::read_to_string(&failed) {
            let _ = fs::remove_file(&failed);
            return Err(refused(file, reason));
        }
        if request.exists() && requested.elapsed() > NOTICED_WITHIN {
            let _ = fs::remove_file(&request);
            return Err(refused(
                file,
                "the process that has the store open does not write it: is it an older version?",
            ));
        }
        if checked.elapsed() > CHECK_INTERVAL {
            if !goes_on() || owner() != owner_before {
                let _ = fs::remove_file(&request);
                return Err(refused(
                    file,
                    "the process that had the store open has ended. Run the command again",
                ));
            }
            checked = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Moves a file to its destination, to another disk if necessary, completely or not at all.
fn take(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_err() {
        if to.exists() {
            return Err(io::Error::other("the file already exists"));
        }
        let part = to.with_extension("part");
        private::copy(from, &part).and_then(|_| fs::rename(&part, to))?;
    }
    fs::remove_file(from)
}

/// The metadata that a backup holds in addition to its entries.
#[derive(Serialize, Deserialize)]
struct Metadata {
    format: u32,
    next_key: u64,
}

/// Creates a store from a backup, in a directory without a store. Reads and checks everything in
/// the backup first. Returns the number of bitmaps.
///
/// # Errors
/// Returns an error if there is a store already or the file is not a complete backup.
pub fn restore(file: &Path, directory: &Path) -> Result<u64> {
    check_directory(directory)?;
    let exists = || {
        refused(
            file,
            format!(
                "{} holds a store already; name another with --store",
                directory.display()
            ),
        )
    };
    if is_store(directory) {
        return Err(exists());
    }
    private::create_directory(directory).map_err(|error| StoreError::write(directory, &error))?;
    let outcome = lock(directory).and_then(|_lock| {
        if is_store(directory) {
            Err(exists())
        } else {
            restore_locked(file, directory)
        }
    });
    if outcome.is_err() && !is_store(directory) {
        clear(directory);
    }
    sync_directory(directory);
    outcome
}

/// What a backup contains besides its entries.
struct BackupInfo {
    bitmaps: u64,
    next_key: u64,
    sequence: u64,
}

fn restore_locked(file: &Path, directory: &Path) -> Result<u64> {
    fs::metadata(file).map_err(|error| StoreError::backup(file, error))?;
    let store = new_store();
    // The segment has another name until it is complete: a segment without a manifest would be a
    // damaged store.
    let path = unfinished_segment(directory);
    let failed = |error: &io::Error| StoreError::write(&path, error);
    let mut writer = Writer::create(&path, store, 1).map_err(|error| failed(&error))?;
    let copied = if legacy::is_legacy(file) {
        copy_legacy(file, directory, &mut writer)
    } else {
        copy_backup(file, &mut writer, &path)
    };
    let BackupInfo {
        bitmaps,
        next_key,
        sequence,
    } = copied.map_err(|error| match error {
        StoreError::Damaged { reason, .. } => refused(file, format!("it is damaged: {reason}")),
        error => error,
    })?;
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
    Ok(bitmaps)
}

/// Checks a backup and copies its entries.
fn copy_backup(file: &Path, writer: &mut Writer, path: &Path) -> Result<BackupInfo> {
    let segment = Segment::open_any(file)?;
    let sequence = segment.info().sequence;
    let backup = Version::of(segment);
    let read = |contents: &[u8]| postcard::from_bytes::<Metadata>(contents).ok();
    let metadata = backup
        .get(&[METADATA], read)?
        .ok_or_else(|| refused(file, "it is a segment of a store, not a backup"))?;
    if metadata.format > FORMAT {
        let reason = format!(
            "it has format {}, and this version of cohortist reads formats up to {FORMAT}",
            metadata.format
        );
        return Err(refused(file, reason));
    }
    let bitmaps = backup.check()?;
    let pace = Pace {
        hurries: true,
        goes_on: &|| true,
    };
    copy(&mut backup.merge(&[METADATA + 1])?, writer, path, &pace)?;
    Ok(BackupInfo {
        bitmaps,
        next_key: metadata.next_key,
        sequence,
    })
}

/// Checks a backup of an older format and converts its entries.
fn copy_legacy(file: &Path, directory: &Path, writer: &mut Writer) -> Result<BackupInfo> {
    // The conversion opens the file for writing and may repair it.
    let part = directory.join(format!("{UNFINISHED}{}", std::process::id()));
    private::copy(file, &part).map_err(|error| refused(file, error))?;
    let converted = legacy::convert(&part, writer);
    let _ = fs::remove_file(&part);
    let converted = converted?;
    Ok(BackupInfo {
        bitmaps: converted.bitmaps,
        next_key: converted.next_key,
        sequence: converted.sequence,
    })
}

/// Returns the path of the segment of a restored store until it is complete.
fn unfinished_segment(directory: &Path) -> PathBuf {
    directory.join(format!("{UNFINISHED}{}.segment", std::process::id()))
}

/// Removes what a failed restore left behind, and the directory if nothing else is in it.
fn clear(directory: &Path) {
    let _ = fs::remove_file(unfinished_segment(directory));
    for name in [&segment::file_name(1), LOCK, OWNER] {
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
    type Operation = fn(&EmbeddedStore, &std::path::Path, &dyn Fn() -> bool);

    #[test]
    fn merges_and_backups_block_neither_reads_nor_writes() {
        let merge: Operation = |store, _, goes_on| {
            let table = store.engine.disk.as_ref().unwrap().table_cache.table();
            assert!(
                table
                    .compact_all(&Pace {
                        hurries: true,
                        goes_on
                    })
                    .unwrap()
            );
        };
        let backup: Operation = |store, path, goes_on| {
            store.engine.write_backup(path, goes_on).unwrap();
        };
        for operation in [merge, backup] {
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
                    operation(store, file, &|| {
                        let (began, goes_on) = &*channels.lock().unwrap();
                        let _ = began.send(());
                        // Paused until the other end is dropped.
                        let _ = goes_on.recv_timeout(Duration::from_secs(60));
                        true
                    });
                });
                begins.recv_timeout(Duration::from_secs(60)).unwrap();
                // The operation is paused between two blocks. Everything else continues.
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
