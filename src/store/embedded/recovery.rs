//! Opens a store: checks which process owns the directory, checks the files, and replays the logs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use crate::store::embedded::idmap::IdMaps;
use crate::store::embedded::legacy;
use crate::store::embedded::memtable::{Gathered, Memtables};
use crate::store::embedded::salvage;
use crate::store::embedded::signal::{Durable, Signal};
use crate::store::embedded::table::segment::{self, Writer};
use crate::store::embedded::table::{
    MANIFEST, Manifest, UNFINISHED_MANIFEST, manifest_path, new_store, sync_directory,
};
use crate::store::embedded::table_cache::TableCache;
use crate::store::embedded::wal::{self, Log, LogFile};
use crate::store::embedded::write_health::WriteHealth;
use crate::store::embedded::{Disk, Engine, LOG, OWNER, backup};
use crate::store::{Options, Result, StoreError, private};

/// The file that the owner process of a store keeps locked.
pub(super) const LOCK: &str = "lock";

/// How long a process that is being started may hold copies of this process's open files.
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
    StoreError::Open { path, reason }
}

pub(super) fn log_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{LOG}{number}"))
}

fn log_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(LOG)?.parse().ok()?;
    (format!("{LOG}{number}") == name).then_some(number)
}

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
        || has_parts(directory)
}

/// Returns whether a directory contains store files with contents, which a manifest must name.
fn has_parts(directory: &Path) -> bool {
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
    Ok(unnamed.first().map(|number| StoreError::Damaged {
        path: manifest_path(directory).display().to_string(),
        reason: format!("it is older than {LOG}{number}, which it does not name"),
    }))
}

/// Refuses to create a store where there is something else already.
pub(super) fn check_directory(directory: &Path) -> Result<()> {
    let not_ours = |reason: &str| {
        Err(StoreError::NotAStore {
            path: directory.display().to_string(),
            reason: reason.to_owned(),
        })
    };
    if directory.is_file() {
        return not_ours("it is a file, and the embedded store is a directory");
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    let ours = |name: &str| {
        [MANIFEST, LOG, "segment-", legacy::DATABASE]
            .iter()
            .any(|beginning| name.starts_with(beginning))
            || name == OWNER
            || name == LOCK
            || backup::is_ours(name)
    };
    let all_ours = entries
        .flatten()
        .all(|entry| entry.file_name().to_str().is_some_and(ours));
    if all_ours || is_store(directory) {
        Ok(())
    } else {
        not_ours("the directory holds other files; give a new or empty one")
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
    patiently(directory, || file.try_lock())?;
    Ok(file)
}

/// Takes a lock. A process that is being started briefly holds a copy of every open file, including
/// a lock that was just released. This function waits for that copy to be closed.
pub(super) fn patiently(
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
            Err(TryLockError::WouldBlock) => return Err(locked(directory)),
            Err(TryLockError::Error(error)) => return Err(cannot_open(directory, &error)),
        }
    }
}

pub(super) fn locked(directory: &Path) -> StoreError {
    let path = directory.display();
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

/// Opens the files and replays the logs. Also returns whether there was more than one log.
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
    let manifest = match Manifest::read(directory) {
        Ok(Some(manifest)) => manifest,
        Ok(None) if directory.join(legacy::DATABASE).exists() => {
            let (manifest, note) = convert(directory, options)?;
            notes.push(note);
            manifest
        }
        Ok(None) if !has_parts(directory) => new_manifest(directory)?,
        missing_or_damaged if options.accept_loss => {
            salvage::manifest(directory, missing_or_damaged.err())?
        }
        Ok(None) => {
            return Err(StoreError::Damaged {
                path: manifest_path(directory).display().to_string(),
                reason: "the file is missing".to_owned(),
            });
        }
        Err(error) => return Err(error),
    };
    let manifest = match unnamed_log(directory, &manifest)? {
        Some(error) if options.accept_loss => salvage::logs(directory, manifest, &error)?,
        Some(error) => return Err(error),
        None => manifest,
    };
    let manifest = if options.accept_loss {
        salvage::segments(directory, manifest)?
    } else {
        manifest
    };
    let base = TableCache::open(directory, manifest, options.cache_bytes)?;
    let layers = replay(directory, &base, options, &mut notes)?;
    let several = base.table().manifest().logs.len() > 1;
    remove_leftovers(directory, &base.table().manifest());
    for note in &notes {
        tracing::warn!("{note}");
    }
    notes.extend(
        base.table()
            .manifest()
            .losses
            .iter()
            .map(|loss| format!("lost and accepted: {loss}")),
    );
    let checkpoint = base.table().manifest().sequence;
    let disk = Disk {
        directory: directory.to_owned(),
        created,
        base,
        durability: options.durability,
        checkpoint_bytes: usize::try_from(options.checkpoint_bytes).unwrap_or(usize::MAX),
        pending: Mutex::default(),
        durable: Durable::new(checkpoint),
        signal: Signal::default(),
        vitals: WriteHealth::default(),
        _lock: lock,
    };
    let next_end = AtomicU64::new(layers.lifetimes.next().unwrap_or(u64::MAX));
    Ok((
        Engine {
            layers: RwLock::new(layers),
            next_end,
            disk: Some(disk),
            notes,
            settled: Mutex::default(),
            listeners: RwLock::default(),
        },
        several,
    ))
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

/// Reads what the logs hold beyond the last checkpoint, and provides a log to write to.
pub(super) fn replay(
    directory: &Path,
    base: &TableCache,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Memtables> {
    let manifest = base.table().manifest();
    let mut layers = base.layers()?;
    let mut losses = Vec::new();
    {
        let reader = base.reader();
        for number in &manifest.logs {
            let path = log_path(directory, *number);
            let expected = wal::Expected::of(directory, &manifest, *number, options.accept_loss);
            let is_last = manifest.logs.last() == Some(number);
            let mut gathered = Gathered::new(&mut layers, &reader);
            let read = wal::read(&path, expected, |frame, names| {
                if frame.sequence > manifest.sequence {
                    gathered.take(frame, names, options.accept_loss, &path)
                } else {
                    Ok(())
                }
            });
            let read = match read {
                Err(error @ StoreError::Damaged { .. })
                    if options.accept_loss && !path.exists() =>
                {
                    losses.push(error.to_string());
                    continue;
                }
                read => read?,
            };
            gathered.put_in()?;
            if options.accept_loss {
                losses.extend(read.notes.iter().cloned());
            } else {
                notes.extend(read.notes.iter().cloned());
            }
            if is_last && !options.accept_loss {
                layers.log = Some(Log::open(&path, read).map_err(|e| cannot_open(&path, &e))?);
            } else {
                // The previous process may not have synced it.
                let file = private::options()
                    .write(true)
                    .open(&path)
                    .map_err(|e| cannot_open(&path, &e))?;
                if !options.accept_loss {
                    read.truncate(&file).map_err(|e| cannot_open(&path, &e))?;
                }
                layers.closed.push(Arc::new(LogFile::new(file)));
            }
        }
    }
    layers.lost = false;
    let next = if layers.log.is_none() {
        let there = log_files(directory).map_err(|e| cannot_open(directory, &e))?;
        let last = there
            .iter()
            .map(|(number, _)| *number)
            .chain(manifest.logs.iter().copied())
            .max();
        let number = last.map_or(1, |last| last + 1);
        let path = log_path(directory, number);
        layers.log =
            Some(Log::create(&path, manifest.store, number).map_err(|e| cannot_open(&path, &e))?);
        sync_directory(directory);
        Some(number)
    } else {
        None
    };
    // This must precede any write to the log, which may have any length from now on.
    base.table().edit(|manifest| {
        manifest.closed_at = None;
        manifest.logs.extend(next);
        manifest.losses.extend(losses);
    })?;
    Ok(layers)
}

/// Deletes what interrupted processes left behind: segments that the manifest does not name, logs
/// whose changes are in the segments, unfinished files, and files that earlier versions set aside.
fn remove_leftovers(directory: &Path, manifest: &Manifest) {
    let first = manifest.logs.first().copied().unwrap_or(0);
    let named: Vec<u64> = manifest.segments.iter().map(|info| info.number).collect();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_over = log_number(name).is_some_and(|number| number < first);
        let is_aside = name.starts_with(LOG) && name.contains(".torn-at-");
        // The existence of the manifest shows that everything in this file was converted.
        let is_converted = name.starts_with(legacy::DATABASE);
        let is_unnamed = segment::number_of(name).is_some_and(|number| !named.contains(&number));
        let is_new_manifest = name == UNFINISHED_MANIFEST;
        if is_over
            || is_aside
            || is_converted
            || is_unnamed
            || is_new_manifest
            || backup::is_unfinished(name)
        {
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
        StoreError::Damaged { path, reason } if options.accept_loss => StoreError::Open {
            path,
            reason: format!(
                "{reason}. --accept-loss cannot read files of older formats: restore a backup"
            ),
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
    let base = TableCache::open(directory, manifest, options.cache_bytes)?;
    let mut losses = Vec::new();
    let logs = log_files(directory).map_err(|e| cannot_open(directory, &e))?;
    let mut layers = base.layers()?;
    {
        let reader = base.reader();
        for (_, path) in &logs {
            let damaged = |reason: String| StoreError::damaged(path, reason);
            let lost = wal::read_old(path, |frame| {
                if frame.sequence > converted.sequence {
                    let missing = layers.sequence + 1..frame.sequence;
                    if !missing.is_empty() && !options.accept_loss {
                        let reason = format!(
                            "the changes {} to {} are missing",
                            missing.start,
                            missing.end - 1
                        );
                        return Err(damaged(reason));
                    }
                    layers.sequence = layers.sequence.max(frame.sequence);
                    layers.replay(frame.change, &reader)?;
                }
                Ok(())
            })?;
            match lost {
                Some(reason) if options.accept_loss => losses.push(damaged(reason).to_string()),
                Some(reason) => return Err(damaged(reason)),
                None => {}
            }
        }
    }
    layers.resolve_all(&base.reader())?;
    // This writes the manifest, which puts everything into effect.
    let rolls: IdMaps = std::mem::take(&mut layers.rolls);
    let (sequence, first_log) = (
        layers.sequence,
        logs.last().map_or(1, |(number, _)| number + 1),
    );
    let log = log_path(directory, first_log);
    Log::create(&log, store, first_log).map_err(|e| StoreError::write(&log, &e))?;
    let written = base.write(
        &layers.dirty,
        &rolls,
        &layers.lifetimes,
        sequence,
        |manifest| {
            manifest.logs = vec![first_log];
            manifest.losses = losses;
        },
    )?;
    base.publish(written);
    let manifest = base.table().manifest();
    drop(base);
    for path in logs.iter().map(|(_, path)| path).chain([&database]) {
        fs::remove_file(path).map_err(|e| StoreError::write(path, &e))?;
    }
    sync_directory(directory);
    let note = format!(
        "{} had format {} and was converted: versions of cohortist before this one cannot open it any more",
        directory.display(),
        converted.format
    );
    Ok((manifest, note))
}
