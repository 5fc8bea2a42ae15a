//! Opens a store: locks the directory, reads the manifest, and replays the logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use crate::store::embedded::directory::lock;
use crate::store::embedded::directory::{
    OWNER, cannot_open, check_directory, has_segment_or_log, is_store, unnamed_log,
};
use crate::store::embedded::engine::{Disk, Engine};
use crate::store::embedded::log_files::{LOG, log_files, log_number, log_path};
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::replay::replay_log;
use crate::store::embedded::signal::{Durable, Signal};
use crate::store::embedded::table::segment::{self, Writer};
use crate::store::embedded::table::{
    Manifest, UNFINISHED_MANIFEST, manifest_path, new_store, sync_directory,
};
use crate::store::embedded::table_cache::{Checkpoint, TableCache};
use crate::store::embedded::wal::{self, Log, LogFile};
use crate::store::embedded::write_health::{PROBE, WriteHealth};
use crate::store::embedded::{backup_files, legacy, salvage};
use crate::store::{Options, Result, StoreError, private};

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
            name == UNFINISHED_MANIFEST || name == PROBE || backup_files::is_unfinished(name);
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
