//! The table of a store: its current version, and how the next one replaces it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::store::embedded::table::entry::Entry;
use crate::store::embedded::table::manifest;
use crate::store::embedded::table::manifest::{Manifest, sync_directory};
use crate::store::embedded::table::segment::{self, Blocks, REMOVED, Segment, SegmentInfo, Writer};
use crate::store::embedded::table::version::Version;
use crate::store::{Result, StoreError};

/// The table of a store.
pub struct Table {
    pub(super) directory: PathBuf,
    pub(super) blocks: Arc<Blocks>,
    /// The manifest on disk. The lock is held while the manifest is replaced.
    pub(super) manifest: Mutex<Manifest>,
    pub(super) version: RwLock<Arc<Version>>,
    /// Held while segments are merged, so that two merges never take the same segments.
    pub(super) merging: Mutex<()>,
}

impl Table {
    /// Opens the segments that a manifest names.
    pub fn open(directory: &Path, manifest: Manifest, cache_bytes: u64) -> Result<Self> {
        let blocks = Arc::new(Blocks::new(cache_bytes));
        let open = |info: &SegmentInfo| {
            Segment::open(
                &directory.join(segment::file_name(info.number)),
                manifest.store,
                info,
            )
            .map(Arc::new)
        };
        let segments = manifest.segments.iter().map(open).collect::<Result<_>>()?;
        let version = Arc::new(Version {
            segments,
            blocks: Arc::clone(&blocks),
        });
        Ok(Table {
            directory: directory.to_owned(),
            blocks,
            manifest: Mutex::new(manifest),
            version: RwLock::new(version),
            merging: Mutex::default(),
        })
    }

    /// Returns the current segments.
    pub fn version(&self) -> Arc<Version> {
        Arc::clone(&self.version.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current manifest.
    pub fn manifest(&self) -> Manifest {
        self.lock().clone()
    }

    /// Changes the manifest, on disk first.
    pub fn edit(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let mut manifest = self.lock();
        let mut changed = manifest.clone();
        change(&mut changed);
        if changed != *manifest {
            changed
                .write(&self.directory)
                .map_err(|e| StoreError::write(&manifest::path(&self.directory), &e))?;
            *manifest = changed;
        }
        Ok(())
    }

    /// Takes the number of a new segment. Returns the number of the store and that number.
    pub(super) fn new_segment(&self) -> (u64, u64) {
        // If the file is never finished, its number is not in any manifest and may be taken again
        // after a restart.
        let mut manifest = self.lock();
        let number = manifest.next_segment;
        manifest.next_segment += 1;
        (manifest.store, number)
    }

    /// Adds a segment of these entries, which ascend by key and hold the changes up to `sequence`,
    /// and changes the manifest in the same step. If this fails, the table is unchanged. Readers
    /// see the segment once it is [published](Self::publish).
    pub fn add(
        &self,
        entries: impl Iterator<Item = Result<Entry>>,
        sequence: u64,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<Option<Segment>> {
        let mut entries = entries.peekable();
        if entries.peek().is_none() {
            self.edit(|manifest| {
                manifest.sequence = sequence;
                change(manifest);
            })?;
            return Ok(None);
        }
        let (store, number) = self.new_segment();
        let path = self.directory.join(segment::file_name(number));
        let failed = |error: &io::Error| StoreError::write(&path, error);
        let mut writer = Writer::create(&path, store, number).map_err(|e| failed(&e))?;
        for entry in entries {
            let (key, value) = entry?;
            writer
                .add(&key, value.as_deref().unwrap_or(&[REMOVED]))
                .map_err(|e| failed(&e))?;
        }
        let info = writer.finish(sequence).map_err(|e| failed(&e))?;
        let committed = Segment::open(&path, store, &info).and_then(|segment| {
            sync_directory(&self.directory);
            self.edit(|manifest| {
                manifest.segments.push(info);
                manifest.sequence = sequence;
                change(manifest);
            })?;
            Ok(Some(segment))
        });
        committed.inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// Makes an added segment visible to new readers.
    pub fn publish(&self, segment: Segment) {
        let mut version = self.version.write().unwrap_or_else(PoisonError::into_inner);
        let mut segments = version.segments.clone();
        segments.push(Arc::new(segment));
        *version = Arc::new(Version {
            segments,
            blocks: Arc::clone(&self.blocks),
        });
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
