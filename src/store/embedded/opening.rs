//! Opening a store: whose directory it is, and what its logs still hold.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use crate::store::embedded::base::Base;
use crate::store::embedded::layers::{Gathered, Layers};
use crate::store::embedded::log::{self, Frame, Log, LogFile};
use crate::store::embedded::signal::{Durable, Signal};
use crate::store::embedded::vitals::Vitals;
use crate::store::embedded::{DATABASE, Disk, Engine, LOG, OWNER};
use crate::store::{Options, Result, StoreError, private};

pub(super) fn cannot_open(path: &Path, error: &io::Error) -> StoreError {
    let path = path.display().to_string();
    let reason = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "permission denied. Check with `ls -ld` who owns {path} and the directory it is in, and run cohortist as that user, or \
             name another directory with --store"
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            "its file system is mounted read-only. Name a directory on another one with --store".to_owned()
        }
        _ => error.to_string(),
    };
    StoreError::Open { path, reason }
}

fn cannot_write(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, FileTooLarge | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

/// Makes new and deleted names in a directory survive a power cut. Not every file system can; none loses by it.
pub(super) fn sync_directory(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

pub(super) fn log_files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(LOG)?.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Refuses to make a store out of what is something else already.
pub(super) fn check_directory(directory: &Path) -> Result<()> {
    let not_ours =
        |reason: &str| Err(StoreError::NotAStore { path: directory.display().to_string(), reason: reason.to_owned() });
    if directory.is_file() {
        return not_ours("it is a file, and the embedded store is a directory");
    }
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    let ours = |name: &str| name.starts_with(DATABASE) || name.starts_with(LOG) || name == OWNER;
    let all_ours = entries.flatten().all(|entry| entry.file_name().to_str().is_some_and(ours));
    if all_ours || directory.join(DATABASE).exists() {
        Ok(())
    } else {
        not_ours("the directory holds other files; give a new or empty one")
    }
}

/// What can end the reading of a log.
enum Stopped {
    Io(io::Error),
    Store(StoreError),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Stopped::Io(error)
    }
}

/// Opens the files and replays the logs; also says whether more than one log was there.
pub(super) fn open(directory: &Path, options: &Options) -> Result<(Engine, bool)> {
    check_directory(directory)?;
    if !options.create && !directory.join(DATABASE).exists() {
        return Err(StoreError::Missing(directory.display().to_string()));
    }
    let created = !directory.join(DATABASE).exists();
    private::create_directory(directory).map_err(|e| cannot_open(directory, &e))?;
    let base = Base::open(&directory.join(DATABASE), options.cache_bytes).map_err(|e| open_error(directory, e))?;
    // From here on the files are ours alone.
    let _ = private::write(&directory.join(OWNER), std::process::id().to_string());
    let checkpoint = base.sequence()?;
    let (lifetimes, enrolled) = (base.lifetimes()?, base.enrolled()?);
    let mut layers = Layers { sequence: checkpoint, lifetimes, enrolled, ..Layers::default() };
    let mut notes = Vec::new();
    let logs = log_files(directory).map_err(|e| cannot_open(directory, &e))?;
    {
        let reader = base.reader()?;
        for (i, (_, path)) in logs.iter().enumerate() {
            let mut gathered = Gathered::new(&mut layers, &reader);
            let take = |frame: Frame| match frame.sequence > checkpoint {
                true => gathered.take(frame).map_err(Stopped::Store),
                false => Ok(()),
            };
            let replay = log::read(path, take).map_err(|stopped| match stopped {
                Stopped::Io(error) => cannot_open(path, &error),
                Stopped::Store(error) => error,
            })?;
            gathered.put_in()?;
            notes.extend(replay.notes.iter().cloned());
            if i + 1 == logs.len() {
                layers.log = Some(Log::open(path, Some(&replay)).map_err(|e| cannot_open(path, &e))?);
            } else {
                // The process before may not have forced it to disk.
                let file = File::open(path).map_err(|e| cannot_open(path, &e))?;
                layers.closed.push(Arc::new(LogFile::new(file)));
            }
        }
    }
    if layers.log.is_none() {
        let path = directory.join(format!("{LOG}1"));
        layers.log = Some(Log::create(&path).map_err(|e| cannot_open(&path, &e))?);
        sync_directory(directory);
    }
    for note in &notes {
        tracing::warn!("{note}");
    }
    let disk = Disk {
        directory: directory.to_owned(),
        created,
        base,
        durability: options.durability,
        checkpoint_bytes: usize::try_from(options.checkpoint_bytes).unwrap_or(usize::MAX),
        pending: Mutex::default(),
        durable: Durable::new(checkpoint),
        signal: Signal::default(),
        vitals: Vitals::default(),
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
        logs.len() > 1,
    ))
}

fn open_error(directory: &Path, error: redb::Error) -> StoreError {
    let path = directory.display().to_string();
    match error {
        redb::Error::DatabaseAlreadyOpen => {
            let owner = fs::read_to_string(directory.join(OWNER)).unwrap_or_default();
            let (process, url) = owner.split_once('\n').unwrap_or((&owner, ""));
            let process = if process.is_empty() { String::new() } else { format!(" (process {process})") };
            StoreError::Locked(match url {
                "" => format!(
                    "{path} is open in another process{process}: one process at a time owns an embedded store. Stop that one first; if it is `cohortist serve`, its pages go on answering questions, and started with --resp 127.0.0.1:6380 it serves other commands too"
                ),
                url => format!(
                    "{path} is open in another process{process}, which also serves it to others: give --store {url} instead"
                ),
            })
        }
        redb::Error::Io(error) if cannot_write(error.kind()) => cannot_open(directory, &error),
        other => StoreError::Damaged { path, reason: other.to_string() },
    }
}
