//! Inspects the files of a store: whether they are intact, and what takes up space in them.

use std::fs::{self, File};
use std::path::Path;

use crate::store::embedded::directory::{
    LOCK, acquire, cannot_open, check_directory, is_store, unnamed_log,
};
use crate::store::embedded::keyspace::Keyspace;
use crate::store::embedded::log_files::{log_files, log_name, log_path};
use crate::store::embedded::replay::replay_log;
use crate::store::embedded::table::segment::{self, Cursor, REMOVED, Segment, SegmentInfo};
use crate::store::embedded::table::{
    FORMAT, KEY, MANIFEST, Manifest, Pace, TILE, Version, manifest_path, packed, record_number,
    tile_of,
};
use crate::store::embedded::table_cache::TableCache;
use crate::store::embedded::wal;
use crate::store::{Result, StoreError};

/// The memory for caches during a check, in bytes.
const CACHE_BYTES: u64 = 8 << 20;

/// What [`check`] found.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// The files that make up the store, each with what was found in it.
    pub files: Vec<CheckedFile>,
    /// Damage that is not confined to one file, such as files that contradict each other.
    pub damages: Vec<StoreError>,
    /// The number of bitmaps, or `None` if something is damaged.
    pub bitmaps: Option<u64>,
    /// Messages for the operator, for example about an incomplete last record of a log.
    pub notes: Vec<String>,
}

/// One file of a store.
#[derive(Debug, Clone)]
pub struct CheckedFile {
    /// Its name in the store's directory.
    pub name: String,
    /// Its length in bytes, or `None` if it cannot be read.
    pub bytes: Option<u64>,
    /// What is wrong with it. Empty if it is intact.
    pub damages: Vec<StoreError>,
}

impl Checked {
    /// Returns everything that is damaged.
    pub fn damages(&self) -> impl Iterator<Item = &StoreError> {
        self.files
            .iter()
            .flat_map(|file| &file.damages)
            .chain(&self.damages)
    }

    fn add_file(&mut self, directory: &Path, name: &str, damages: Vec<StoreError>) {
        let bytes = fs::metadata(directory.join(name))
            .ok()
            .map(|metadata| metadata.len());
        self.files.push(CheckedFile {
            name: name.to_owned(),
            bytes,
            damages,
        });
    }
}

/// Reads every byte of a store and reports what is damaged. Writes nothing.
///
/// # Errors
/// Returns an error if there is no store, another process has it open, or it has an older format.
/// Damage is not an error of this function.
pub fn check(directory: &Path) -> Result<Checked> {
    check_directory(directory)?;
    if !is_store(directory) {
        return Err(StoreError::Missing(directory.display().to_string()));
    }
    let _lock = lock_to_read(directory)?;
    let mut checked = Checked::default();
    let manifest = match Manifest::read(directory) {
        Ok(Some(manifest)) => manifest,
        Ok(None) if directory.join(super::legacy::DATABASE).exists() => {
            return Err(StoreError::Open {
                path: directory.display().to_string(),
                reason: format!(
                    "it has an older format than {FORMAT}. `cohortist events` converts it, and checks all of it first"
                ),
                source: None,
            });
        }
        missing_or_damaged => {
            let missing = || StoreError::damaged(&manifest_path(directory), "the file is missing");
            let error = missing_or_damaged.err().unwrap_or_else(missing);
            checked.add_file(directory, MANIFEST, vec![error]);
            return Ok(checked);
        }
    };
    checked.add_file(directory, MANIFEST, Vec::new());
    for info in &manifest.segments {
        let name = segment::file_name(info.number);
        let damages = check_segment(&directory.join(&name), manifest.store, info);
        checked.add_file(directory, &name, damages);
    }
    let segments_are_intact = checked.damages().next().is_none();
    for number in &manifest.logs {
        let path = log_path(directory, *number);
        let read = wal::read(
            &path,
            wal::Expected::of(directory, &manifest, *number, false),
            |_, _| Ok(()),
        );
        let damages = match read {
            Ok(read) => {
                checked.notes.extend(read.notes);
                Vec::new()
            }
            Err(error) => vec![error],
        };
        checked.add_file(directory, &log_name(*number), damages);
    }
    checked.damages.extend(unnamed_log(directory, &manifest)?);
    if segments_are_intact {
        let logs_are_intact = checked.damages().next().is_none();
        match check_contents(directory, &manifest, logs_are_intact) {
            Ok(bitmaps) => checked.bitmaps = bitmaps,
            Err(error) => checked.damages.push(error),
        }
    }
    checked.notes.extend(
        manifest
            .losses
            .iter()
            .map(|loss| format!("lost and accepted: {loss}")),
    );
    Ok(checked)
}

/// Prevents other processes from opening a store while it is read. Returns `None` if no process
/// ever had it open.
fn lock_to_read(directory: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(directory.join(LOCK)) else {
        return Ok(None);
    };
    acquire(directory, || file.try_lock_shared())?;
    Ok(Some(file))
}

/// Reads every block of a segment.
fn check_segment(path: &Path, store: u64, info: &SegmentInfo) -> Vec<StoreError> {
    let segment = match Segment::open(path, store, info) {
        Ok(segment) => segment,
        Err(error) => return vec![error],
    };
    let mut damages = Vec::new();
    let mut entries = 0;
    let mut removed = 0;
    let mut last: Option<Vec<u8>> = None;
    for number in 0..segment.blocks() {
        let block = match segment.read(number) {
            Ok(block) => block,
            Err(error) => {
                damages.push(error);
                continue;
            }
        };
        let first = block.key(0);
        if last.as_deref().is_some_and(|last| last >= first) {
            damages.push(StoreError::damaged(path, "its blocks are not in order"));
        }
        entries += block.len() as u64;
        removed += (0..block.len())
            .filter(|at| block.value(*at).first() == Some(&REMOVED))
            .count() as u64;
        last = Some(block.key(block.len() - 1).to_vec());
    }
    if damages.is_empty() && (entries, removed) != (info.entries, info.removed) {
        let reason = format!(
            "it has {entries} entries, {removed} of them removals, but its foot has other numbers"
        );
        damages.push(StoreError::damaged(path, reason));
    }
    damages
}

/// Checks the contents of all files together. Returns the number of bitmaps, or `None` if the logs
/// cannot be read.
fn check_contents(
    directory: &Path,
    manifest: &Manifest,
    logs_are_intact: bool,
) -> Result<Option<u64>> {
    let table_cache = TableCache::open(directory, manifest.clone(), CACHE_BYTES)?;
    table_cache.table().version().check()?;
    if !logs_are_intact {
        return Ok(None);
    }
    let mut memtables = table_cache.memtables()?;
    let reader = table_cache.reader();
    for number in &manifest.logs {
        replay_log(
            &log_path(directory, *number),
            wal::Expected::of(directory, manifest, *number, false),
            manifest.sequence,
            &mut memtables,
            &reader,
        )?;
    }
    memtables.resolve_all(&reader)?;
    let mut bitmaps = 0;
    memtables.visit_keys("", Some(&reader), |_| {
        bitmaps += 1;
        true
    })?;
    Ok(Some(bitmaps))
}

/// What takes up space in a store's files.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// The format of the files.
    pub format: u32,
    /// The number of segments in the table.
    pub segments: u64,
    /// The bytes of those segments.
    pub table_bytes: u64,
    /// The number of logs.
    pub logs: u64,
    /// The bytes of those logs.
    pub log_bytes: u64,
    /// The number of changes that are only in the logs.
    pub logged: u64,
    /// When the last checkpoint ended, in milliseconds since 1970.
    pub checkpoint_at: Option<u64>,
    /// The approximate number of bytes in the table that are no longer used: what was deleted or
    /// rewritten since.
    pub free_bytes: u64,
    /// The approximate number of bytes in the table that belong to each group of bitmaps.
    pub bytes: Vec<u64>,
    /// The losses accepted with `--accept-loss`.
    pub losses: Vec<String>,
}

impl Keyspace {
    /// Reads the whole table and reports what takes up space in it. `group` sorts the keys of
    /// bitmaps into groups, numbered from 0. Returns `None` for a store in memory.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn usage(&self, group: impl FnMut(&str) -> usize) -> Result<Option<Usage>> {
        let Some(disk) = &self.engine().disk else {
            return Ok(None);
        };
        let version = disk.table_cache.table().version();
        let manifest = disk.table_cache.table().manifest();
        let logs =
            log_files(&disk.directory).map_err(|error| cannot_open(&disk.directory, &error))?;
        // A checkpoint may delete a log in the meantime.
        let len = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let (bytes, free_bytes) = shares(&version, group)?;
        Ok(Some(Usage {
            format: FORMAT,
            segments: version.segments().len() as u64,
            table_bytes: version.bytes(),
            logs: logs.len() as u64,
            log_bytes: logs.iter().map(|(_, path)| len(path)).sum(),
            logged: self
                .engine()
                .read()
                .sequence
                .saturating_sub(manifest.sequence),
            checkpoint_at: manifest.checkpoint_at,
            free_bytes,
            bytes,
            losses: manifest.losses,
        }))
    }

    /// Returns the losses accepted with `--accept-loss`.
    pub fn losses(&self) -> Vec<String> {
        self.engine()
            .disk
            .as_ref()
            .map_or_else(Vec::new, |disk| disk.table_cache.table().manifest().losses)
    }

    /// Writes everything to the table and merges all its segments into one, so that unused data
    /// takes up no space. Returns the size of the files before and after, in bytes, or `None` for a
    /// store in memory.
    ///
    /// # Errors
    /// Returns an error if the table cannot be written. Nothing is lost in this case.
    pub fn compact(&self) -> Result<Option<(u64, u64)>> {
        let Some(disk) = &self.engine().disk else {
            return Ok(None);
        };
        let bytes = || {
            disk.health()
                .files
                .map_or(0, |files| files.store_bytes + files.log_bytes)
        };
        let before = bytes();
        self.engine().checkpoint()?;
        disk.table_cache.table().compact_all(&Pace {
            hurries: true,
            goes_on: &|| true,
        })?;
        Ok(Some((before, bytes())))
    }
}

/// Returns the approximate number of bytes of each group, and of unused data. Data is measured
/// before compression, and the compressed size of each segment is divided in proportion.
fn shares(version: &Version, mut group: impl FnMut(&str) -> usize) -> Result<(Vec<u64>, u64)> {
    let segments = version.segments();
    let mut cursors = segments
        .iter()
        .map(|segment| Cursor::at(segment, &[]))
        .collect::<Result<Vec<_>>>()?;
    // The bytes of each segment before compression: all of them, the unused ones, and those of each
    // group.
    let mut all = vec![0_u64; segments.len()];
    let mut unused = vec![0_u64; segments.len()];
    let mut groups: Vec<Vec<u64>> = Vec::new();
    // Records come before tiles.
    let mut group_of: std::collections::HashMap<u32, usize> = std::collections::HashMap::new();
    while let Some(key) = cursors
        .iter()
        .filter_map(Cursor::key)
        .min()
        .map(<[u8]>::to_vec)
    {
        let mut owner = tile_of(&key).and_then(|(number, _)| group_of.get(&number).copied());
        let mut is_newest = true;
        let mut is_hidden = false;
        for (at, cursor) in cursors.iter_mut().enumerate().rev() {
            if cursor.key() != Some(&key) {
                continue;
            }
            let value = cursor.value().expect("it has a key, so it has a value");
            // Each of the two lengths takes a byte or two.
            let bytes = (key.len() + value.len() + 2) as u64;
            if is_newest
                && key.first() == Some(&KEY)
                && let Some(number) = record_number(value)
            {
                let found = group(&String::from_utf8_lossy(&key[1..]));
                group_of.insert(number, found);
                owner = Some(found);
            }
            all[at] += bytes;
            if is_hidden || value == [REMOVED] {
                unused[at] += bytes;
            } else if let Some(owner) = owner {
                if groups.len() <= owner {
                    groups.resize(owner + 1, vec![0; segments.len()]);
                }
                groups[owner][at] += bytes;
            }
            is_hidden |= key.first() != Some(&TILE) || packed::Packed::change(value).is_none();
            is_newest = false;
            cursor.advance()?;
        }
    }
    let stored = |parts: &[u64]| {
        let part = |(at, part): (usize, &u64)| {
            let share = u128::from(segments[at].info().bytes) * u128::from(*part)
                / u128::from(all[at].max(1));
            u64::try_from(share).expect("a part is at most as long as the segment")
        };
        parts.iter().enumerate().map(part).sum()
    };
    Ok((
        groups.iter().map(|parts| stored(parts)).collect(),
        stored(&unused),
    ))
}
