//! Opens a store: locks the directory, reads the manifest, and replays the logs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use crate::store::embedded::legacy;
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::replay::replay_log;
use crate::store::embedded::salvage;
use crate::store::embedded::signal::{Durable, Signal};
use crate::store::embedded::table::segment::{self, Writer};
use crate::store::embedded::table::{
    MANIFEST, Manifest, UNFINISHED_MANIFEST, manifest_path, new_store, sync_directory,
};
use crate::store::embedded::table_cache::{Checkpoint, TableCache};
use crate::store::embedded::wal::{self, Log, LogFile};
use crate::store::embedded::write_health::{PROBE, WriteHealth};
use crate::store::embedded::{Disk, Engine, LOG, OWNER, backup};
use crate::store::error::shared;
use crate::store::{Options, Result, StoreError, private};

/// The name of the file that is locked while a process has the store open.
pub(super) const LOCK: &str = "lock";

/// The time during which a new child process may hold copies of this process's open files.
const STARTED_WITHIN: Duration = Duration::from_millis(200);

pub(super) fn cannot_open(path: &Path, error: &io::Error) -> StoreError {
    let path = path.display().to_string();
    let reason = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "permission denied. Check with `ls -ld` who owns {path} and the directory it is in, and run cohortist as that user, or \
             name another directory with --store"
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            "its file system is mounted read-only. Name a directory on another one with --store"
                .to_owned()
        }
        _ => error.to_string(),
    };
    StoreError::Open {
        path,
        reason,
        source: Some(shared(error)),
    }
}

/// Returns the name of the log with a number.
pub(super) fn log_name(number: u64) -> String {
    format!("{LOG}{number}")
}

pub(super) fn log_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(log_name(number))
}

fn log_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(LOG)?.parse().ok()?;
    (log_name(number) == name).then_some(number)
}

/// Returns the numbers and the paths of the logs in a directory, in ascending order.
pub(super) fn log_files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if let Some(number) = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(log_number)
        {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns whether a directory contains a store, of any format, including a damaged one.
pub(super) fn is_store(directory: &Path) -> bool {
    directory.join(MANIFEST).exists()
        || directory.join(legacy::DATABASE).exists()
        || has_segment_or_log(directory)
}

/// Returns whether a directory contains a segment or a log with records. A manifest must name them.
fn has_segment_or_log(directory: &Path) -> bool {
    let is_segment = |entry: &fs::DirEntry| {
        entry
            .file_name()
            .to_str()
            .is_some_and(|name| segment::number_of(name).is_some())
    };
    fs::read_dir(directory).is_ok_and(|entries| entries.flatten().any(|entry| is_segment(&entry)))
        || log_files(directory)
            .is_ok_and(|logs| logs.iter().any(|(_, path)| wal::holds_something(path)))
}

/// Returns the logs that are newer than those the manifest names and are not empty. A log is named
/// before anything is written to it, so if there are any, the manifest is out of date.
pub(super) fn unnamed_logs(directory: &Path, manifest: &Manifest) -> Result<Vec<u64>> {
    let last = manifest.logs.last().copied().unwrap_or(0);
    let logs = log_files(directory).map_err(|error| cannot_open(directory, &error))?;
    let unnamed = logs
        .into_iter()
        .filter(|(number, path)| *number > last && wal::holds_something(path));
    Ok(unnamed.map(|(number, _)| number).collect())
}

/// Reports [`unnamed_logs`] as damage.
pub(super) fn unnamed_log(directory: &Path, manifest: &Manifest) -> Result<Option<StoreError>> {
    let unnamed = unnamed_logs(directory, manifest)?;
    Ok(unnamed.first().map(|number| {
        let reason = format!("it is older than {LOG}{number}, which it does not name");
        StoreError::damaged(&manifest_path(directory), reason)
    }))
}

/// Checks that a directory contains no files of other programs.
pub(super) fn check_directory(directory: &Path) -> Result<()> {
    let not_a_store = |reason: &str| {
        Err(StoreError::NotAStore {
            path: directory.display().to_string(),
            reason: reason.to_owned(),
        })
    };
    if directory.is_file() {
        return not_a_store("it is a file, and the embedded store is a directory");
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    let is_ours = |name: &str| {
        [MANIFEST, LOG, "segment-", legacy::DATABASE]
            .iter()
            .any(|start| name.starts_with(start))
            || name == OWNER
            || name == LOCK
            || backup::is_ours(name)
    };
    let are_all_ours = entries
        .flatten()
        .all(|entry| entry.file_name().to_str().is_some_and(is_ours));
    if are_all_ours || is_store(directory) {
        Ok(())
    } else {
        not_a_store("the directory holds other files; give a new or empty one")
    }
}

/// Locks a store's directory for this process. The lock is released when the file is dropped.
pub(super) fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK);
    let file = private::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = file.map_err(|error| cannot_open(directory, &error))?;
    acquire(directory, || file.try_lock())?;
    Ok(file)
}

/// Acquires a lock. A new child process briefly holds a copy of every open file, including a lock
/// that was just released. This function waits until that copy is closed.
pub(super) fn acquire(
    directory: &Path,
    lock: impl Fn() -> std::result::Result<(), TryLockError>,
) -> Result<()> {
    let until = Instant::now() + STARTED_WITHIN;
    loop {
        match lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(STARTED_WITHIN / 50)
            }
            Err(TryLockError::WouldBlock) => return Err(locked_error(directory)),
            Err(TryLockError::Error(error)) => return Err(cannot_open(directory, &error)),
        }
    }
}

pub(super) fn locked_error(directory: &Path) -> StoreError {
    let path = directory.display();
    // Without the file, only the process id is missing in the message.
    let owner = fs::read_to_string(directory.join(OWNER)).unwrap_or_default();
    let (process, url) = owner.split_once('\n').unwrap_or((&owner, ""));
    let process = if process.is_empty() {
        String::new()
    } else {
        format!(" (process {process})")
    };
    StoreError::Locked(match url {
        "" => format!(
            "{path} is open in another process{process}: only one process can open an embedded store. Stop that process. If it is `cohortist serve`, use its pages, or restart it with --resp 127.0.0.1:6380 so that other commands can use the store through it"
        ),
        url => format!(
            "{path} is open in another process{process}, which also serves it to others: give --store {url} instead"
        ),
    })
}

/// Opens a store. Also returns whether it has more than one log.
pub(super) fn open(directory: &Path, options: &Options) -> Result<(Engine, bool)> {
    check_directory(directory)?;
    let created = !is_store(directory);
    if !options.create && created {
        return Err(StoreError::Missing(directory.display().to_string()));
    }
    private::create_directory(directory).map_err(|e| cannot_open(directory, &e))?;
    let lock = lock(directory)?;
    // From here on, no other process uses the files.
    let _ = private::write(&directory.join(OWNER), std::process::id().to_string());
    let mut notes = Vec::new();
    let manifest = open_manifest(directory, options, &mut notes)?;
    let table_cache = TableCache::open(directory, manifest, options.cache_bytes)?;
    let memtables = replay(directory, &table_cache, options, &mut notes)?;
    let manifest = table_cache.table().manifest();
    remove_leftovers(directory, &manifest);
    for note in &notes {
        tracing::warn!("{note}");
    }
    let losses = manifest.losses.iter();
    notes.extend(losses.map(|loss| format!("lost and accepted: {loss}")));
    let disk = Disk {
        directory: directory.to_owned(),
        created,
        table_cache,
        durability: options.durability,
        checkpoint_bytes: usize::try_from(options.checkpoint_bytes).unwrap_or(usize::MAX),
        pending: Mutex::default(),
        durable: Durable::new(manifest.sequence),
        signal: Signal::default(),
        write_health: WriteHealth::default(),
        _lock: lock,
    };
    disk.probe();
    let next_expiry = AtomicU64::new(memtables.expirations.next().unwrap_or(u64::MAX));
    let engine = Engine {
        memtables: RwLock::new(memtables),
        next_expiry,
        disk: Some(disk),
        notes,
        numeric_prefixes: Mutex::default(),
        listeners: RwLock::default(),
    };
    Ok((engine, manifest.logs.len() > 1))
}

/// Reads the manifest. Creates one for a new store, converts a store of an older format, and, if
/// losses are accepted, repairs what is damaged.
fn open_manifest(directory: &Path, options: &Options, notes: &mut Vec<String>) -> Result<Manifest> {
    let manifest = match Manifest::read(directory) {
        Ok(Some(manifest)) => manifest,
        Ok(None) if directory.join(legacy::DATABASE).exists() => {
            let (manifest, note) = convert(directory, options)?;
            notes.push(note);
            manifest
        }
        Ok(None) if !has_segment_or_log(directory) => new_manifest(directory)?,
        missing_or_damaged if options.accept_loss => {
            salvage::manifest(directory, missing_or_damaged.err())?
        }
        Ok(None) => {
            return Err(StoreError::damaged(
                &manifest_path(directory),
                "the file is missing",
            ));
        }
        Err(error) => return Err(error),
    };
    let manifest = match unnamed_log(directory, &manifest)? {
        Some(error) if options.accept_loss => salvage::logs(directory, manifest, &error)?,
        Some(error) => return Err(error),
        None => manifest,
    };
    if options.accept_loss {
        salvage::segments(directory, manifest)
    } else {
        Ok(manifest)
    }
}

fn new_manifest(directory: &Path) -> Result<Manifest> {
    let manifest = Manifest {
        store: new_store(),
        ..Manifest::default()
    };
    manifest
        .write(directory)
        .map_err(|error| cannot_open(directory, &error))?;
    Ok(manifest)
}

/// Returns memtables with the changes since the last checkpoint, and with a log to write to.
pub(super) fn replay(
    directory: &Path,
    table_cache: &TableCache,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Memtables> {
    let manifest = table_cache.table().manifest();
    let mut memtables = table_cache.memtables()?;
    let mut losses = Vec::new();
    let reader = table_cache.reader();
    for number in &manifest.logs {
        let path = log_path(directory, *number);
        let expected = wal::Expected::of(directory, &manifest, *number, options.accept_loss);
        let read = replay_log(&path, expected, manifest.sequence, &mut memtables, &reader);
        let read = match read {
            Err(error @ StoreError::Damaged { .. }) if options.accept_loss && !path.exists() => {
                losses.push(error.to_string());
                continue;
            }
            read => read?,
        };
        if options.accept_loss {
            losses.extend(read.notes.iter().cloned());
        } else {
            notes.extend(read.notes.iter().cloned());
        }
        let is_last = manifest.logs.last() == Some(number);
        if is_last && !options.accept_loss {
            memtables.log = Some(Log::open(&path, read).map_err(|e| cannot_open(&path, &e))?);
        } else {
            // Kept open because the previous process may not have synced it.
            let file = private::options()
                .write(true)
                .open(&path)
                .map_err(|e| cannot_open(&path, &e))?;
            if !options.accept_loss {
                read.truncate(&file).map_err(|e| cannot_open(&path, &e))?;
            }
            memtables.closed_logs.push(Arc::new(LogFile::new(file)));
        }
    }
    memtables.has_gap = false;
    let new_log = if memtables.log.is_none() {
        let (number, log) = create_log(directory, &manifest)?;
        memtables.log = Some(log);
        Some(number)
    } else {
        None
    };
    // This must precede any write to the log, because a write changes its length.
    table_cache.table().edit(|manifest| {
        manifest.closed_at = None;
        manifest.logs.extend(new_log);
        manifest.losses.extend(losses);
    })?;
    Ok(memtables)
}

/// Creates a log with a number greater than that of any existing log.
fn create_log(directory: &Path, manifest: &Manifest) -> Result<(u64, Log)> {
    let files = log_files(directory).map_err(|e| cannot_open(directory, &e))?;
    let last = files
        .iter()
        .map(|(number, _)| *number)
        .chain(manifest.logs.iter().copied())
        .max();
    let number = last.map_or(1, |last| last + 1);
    let path = log_path(directory, number);
    let log = Log::create(&path, manifest.store, number).map_err(|e| cannot_open(&path, &e))?;
    sync_directory(directory);
    Ok((number, log))
}

/// Deletes files that interrupted processes left behind: segments that the manifest does not name,
/// logs whose changes are in the segments, unfinished files, and files that earlier versions set
/// aside.
fn remove_leftovers(directory: &Path, manifest: &Manifest) {
    let first = manifest.logs.first().copied().unwrap_or(0);
    let named: Vec<u64> = manifest.segments.iter().map(|info| info.number).collect();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_old_log = log_number(name).is_some_and(|number| number < first);
        let is_set_aside = name.starts_with(LOG) && name.contains(".torn-at-");
        // A manifest exists, so everything in this file was converted.
        let is_converted = name.starts_with(legacy::DATABASE);
        let is_unnamed = segment::number_of(name).is_some_and(|number| !named.contains(&number));
        let is_unfinished =
            name == UNFINISHED_MANIFEST || name == PROBE || backup::is_unfinished(name);
        if is_old_log || is_set_aside || is_converted || is_unnamed || is_unfinished {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Converts a store of an older format to this format. The new files are written next to the old
/// ones, which are deleted once everything is in the new files.
fn convert(directory: &Path, options: &Options) -> Result<(Manifest, String)> {
    let database = directory.join(legacy::DATABASE);
    let store = new_store();
    let path = directory.join(segment::file_name(1));
    let mut writer = Writer::create(&path, store, 1).map_err(|e| StoreError::write(&path, &e))?;
    let converted = legacy::convert(&database, &mut writer).map_err(|error| match error {
        StoreError::Damaged {
            path,
            reason,
            source,
        } if options.accept_loss => StoreError::Open {
            path,
            reason: format!(
                "{reason}. --accept-loss cannot read files of older formats: restore a backup"
            ),
            source,
        },
        error => error,
    })?;
    let info = writer
        .finish(converted.sequence)
        .map_err(|e| StoreError::write(&path, &e))?;
    let manifest = Manifest {
        store,
        sequence: converted.sequence,
        next_key: converted.next_key,
        next_segment: 2,
        segments: vec![info],
        ..Manifest::default()
    };
    let table_cache = TableCache::open(directory, manifest, options.cache_bytes)?;
    let logs = log_files(directory).map_err(|e| cannot_open(directory, &e))?;
    let mut memtables = table_cache.memtables()?;
    let losses = replay_legacy_logs(&logs, &table_cache, &mut memtables, options.accept_loss)?;
    let first_log = logs.last().map_or(1, |(number, _)| number + 1);
    let log = log_path(directory, first_log);
    Log::create(&log, store, first_log).map_err(|e| StoreError::write(&log, &e))?;
    let checkpoint = Checkpoint {
        memtable: &memtables.active,
        id_maps: &memtables.id_maps,
        expirations: &memtables.expirations,
    };
    // This writes the manifest. From then on, the directory is a store of this format.
    let written = table_cache.write(checkpoint, memtables.sequence, |manifest| {
        manifest.logs = vec![first_log];
        manifest.losses = losses;
    })?;
    table_cache.publish(written);
    let manifest = table_cache.table().manifest();
    drop(table_cache);
    for path in logs.iter().map(|(_, path)| path).chain([&database]) {
        fs::remove_file(path).map_err(|e| StoreError::write(path, &e))?;
    }
    sync_directory(directory);
    let note = format!(
        "{} had format {} and was converted. Earlier versions of cohortist cannot open it any more",
        directory.display(),
        converted.format
    );
    Ok((manifest, note))
}

/// Applies the logs of a store of an older format. Returns what was lost.
fn replay_legacy_logs(
    logs: &[(u64, PathBuf)],
    table_cache: &TableCache,
    memtables: &mut Memtables,
    accept_loss: bool,
) -> Result<Vec<String>> {
    let mut losses = Vec::new();
    let reader = table_cache.reader();
    let converted = memtables.sequence;
    for (_, path) in logs {
        let damaged = |reason: String| StoreError::damaged(path, reason);
        let lost = wal::read_legacy(path, |frame| {
            if frame.sequence <= converted {
                return Ok(());
            }
            let first_missing = memtables.sequence + 1;
            if frame.sequence > first_missing && !accept_loss {
                return Err(damaged(format!(
                    "the changes {first_missing} to {} are missing",
                    frame.sequence - 1
                )));
            }
            memtables.sequence = memtables.sequence.max(frame.sequence);
            memtables.replay(frame.change, &reader)
        })?;
        match lost {
            Some(reason) if accept_loss => losses.push(damaged(reason).to_string()),
            Some(reason) => return Err(damaged(reason)),
            None => {}
        }
    }
    memtables.resolve_all(&reader)?;
    Ok(losses)
}
