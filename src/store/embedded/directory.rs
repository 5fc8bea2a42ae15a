//! The directory of a store: which files belong to it, and the lock of the process that has it open.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::store::embedded::log_files::{LOG, log_files};
use crate::store::embedded::table::{MANIFEST, Manifest, manifest_path, segment};
use crate::store::embedded::{backup_files, legacy, wal};
use crate::store::error::shared;
use crate::store::{Result, StoreError, private};

/// The name of the file with the process id of the process that has the store open, and the URL at
/// which other processes can reach it.
pub(super) const OWNER: &str = "owner";

/// The name of the file that is locked while a process has the store open.
pub(super) const LOCK: &str = "lock";

/// How long opening a store waits for its lock. The process that had the store open may just be
/// ending, and a new child process of this one may still hold a copy of a lock that was released.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How often opening a store tries to get its lock meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(10);

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

/// Returns whether a directory contains a store, of any format, including a damaged one.
pub(super) fn is_store(directory: &Path) -> bool {
    directory.join(MANIFEST).exists()
        || directory.join(legacy::DATABASE).exists()
        || has_segment_or_log(directory)
}

/// Returns whether a directory contains a segment or a log with records. A manifest must name them.
pub(super) fn has_segment_or_log(directory: &Path) -> bool {
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
            || backup_files::is_ours(name)
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

/// Acquires a lock, and waits for it for at most [`LOCK_TIMEOUT`].
pub(super) fn acquire(
    directory: &Path,
    lock: impl Fn() -> std::result::Result<(), TryLockError>,
) -> Result<()> {
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        match lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_RETRY);
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
