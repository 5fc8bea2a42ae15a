//! The immutable table: segments, of which newer ones take precedence over older ones, and the
//! manifest that names them.
//!
//! ```text
//! checkpoint ──▶ new segment ─┐
//!                             ├─▶ manifest ──▶ version, which readers hold
//! compaction ──▶ merged one ──┘
//! ```
//!
//! A reader holds a [`Version`]: segments do not change, and a deleted file stays readable for
//! readers that have it open. A segment holds the changes since the previous one. Compaction merges
//! adjacent segments until each segment is at least twice as big as all newer ones together.
//! Therefore there are few segments, and an entry is rewritten a logarithmic number of times (the
//! scheme of log-structured merge trees, O'Neil et al. 1996).
//!
//! Keys are bytes. The first byte is the kind of the entry:
//!
//! | key | value after the byte 1 |
//! |---|---|
//! | `e` text | when the bitmap expires, in milliseconds since 1970, as a varint |
//! | `i` prefix, string id | its number as a varint |
//! | `k` text | the [record](super::record) of a bitmap |
//! | `n` prefix, number (4 bytes, big endian) | the string id |
//! | `r` prefix | the number of the next new string id, as a varint |
//! | `t` number of the bitmap (4 bytes), number of the tile (2 bytes), both big endian | the tile as in [`packed`], without the byte 1 |
//!
//! In `i` and `n` keys, the length of the prefix precedes it as a varint. The value 0 marks a
//! removal: it removes what older segments hold for the key.

mod block;
mod check;
mod codec;
mod compaction;
mod manifest;
mod merge;
pub mod packed;
pub mod segment;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use codec::{Input, put_varint};
pub use compaction::{Pace, copy};
pub use manifest::{
    FORMAT, MANIFEST, Manifest, UNFINISHED_MANIFEST, new_store, path as manifest_path,
    sync_directory,
};
pub use merge::Merge;
use packed::Packed;
use segment::{Blocks, LastBlock, REMOVED, Segment, SegmentInfo, Writer};

use crate::bitmap::Tile;
use crate::store::embedded::record::Record;
use crate::store::{Result, StoreError};

/// The first byte of a value that is neither a tile nor a removal.
pub const PRESENT: u8 = 1;

/// The kind of the entry that holds the metadata of a backup.
pub const METADATA: u8 = b'!';
/// The kind of entries that hold when a bitmap expires.
pub const EXPIRY: u8 = b'e';
/// The kind of entries that hold the number of a string id.
pub const ID: u8 = b'i';
/// The kind of entries that hold the record of a bitmap.
pub const KEY: u8 = b'k';
/// The kind of entries that hold the string id of a number.
pub const NUMBER: u8 = b'n';
/// The kind of entries that hold the number of the next new string id.
pub const NEXT_NUMBER: u8 = b'r';
/// The kind of entries that hold a tile.
pub const TILE: u8 = b't';

/// Returns the key of an entry: its kind, followed by `name`.
pub fn entry_key(kind: u8, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(kind);
    key.extend_from_slice(name.as_bytes());
    key
}

/// Returns the contents of an entry: its value without the first byte. An empty value, which is not
/// valid, has empty contents.
pub fn contents(value: &[u8]) -> &[u8] {
    value.split_first().map_or(&[], |(_, contents)| contents)
}

/// Returns the key of a tile, given the number of its bitmap and its own number.
pub fn tile_key(bitmap: u32, tile: u16) -> [u8; 7] {
    let [a, b, c, d] = bitmap.to_be_bytes();
    let [e, f] = tile.to_be_bytes();
    [TILE, a, b, c, d, e, f]
}

/// Returns the number of the bitmap and the number of the tile from the key of a tile, or `None`
/// for other keys.
pub fn tile_of(key: &[u8]) -> Option<(u32, u16)> {
    let (number, rest) = key.strip_prefix(&[TILE])?.split_first_chunk()?;
    Some((
        u32::from_be_bytes(*number),
        u16::from_be_bytes(rest.try_into().ok()?),
    ))
}

/// Returns the number of a bitmap, given the value that holds its record. Returns `None` if the
/// value is not a valid record.
pub fn record_number(value: &[u8]) -> Option<u32> {
    let (first, record) = value.split_first()?;
    (*first == PRESENT)
        .then(|| Record::read(record))?
        .map(|record| record.number)
}

/// An entry: its key, and its value or `None` for a removal.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// The segments of a table at one moment.
pub struct Version {
    /// From the oldest to the newest.
    segments: Vec<Arc<Segment>>,
    blocks: Arc<Blocks>,
}

impl Version {
    /// Passes the contents of the entry with a key to `read`, and returns the result. Returns
    /// `None` if there is no such entry. The key must not be the key of a tile.
    ///
    /// # Errors
    /// Returns an error if `read` returns `None`, or if the files are damaged.
    pub fn get<T>(&self, key: &[u8], read: impl FnMut(&[u8]) -> Option<T>) -> Result<Option<T>> {
        self.lookup().get(key, read)
    }

    /// Returns a lookup for several keys. A key close to the previous one takes little work.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup {
            version: self,
            last: vec![None; self.segments.len()],
        }
    }

    /// Returns a tile of a bitmap, or `None` if the bitmap has no tile of that number.
    pub fn tile(&self, number: u32, tile: u16) -> Result<Option<Tile>> {
        let key = tile_key(number, tile);
        // The changes above the whole tile, newest first.
        let mut changes = Vec::new();
        let mut whole = None;
        for segment in self.segments.iter().rev() {
            let found = segment.get(&key, &self.blocks, |value| match value {
                [REMOVED] => Some(None),
                value => Packed::read(value).map(Some),
            })?;
            match found {
                None => {}
                Some(None) => {
                    return Err(StoreError::damaged(
                        segment.path(),
                        format!("tile {tile} of key {number} cannot be read"),
                    ));
                }
                Some(Some(None)) => break,
                Some(Some(Some(change @ Packed::Change { .. }))) => changes.push(change),
                Some(Some(Some(tile))) => {
                    whole = Some(tile);
                    break;
                }
            }
        }
        let tile = changes
            .into_iter()
            .rev()
            .fold(whole, |below, change| Some(change.over(below)));
        Ok(tile.map(|tile| match tile {
            Packed::Whole(tile) => tile.compact(),
            Packed::Change { .. } => unreachable!("a change over anything is whole"),
        }))
    }

    /// Returns approximately how many bytes of the files the entries with a key take.
    pub fn stored(&self, key: &[u8]) -> Result<u64> {
        let mut bytes = 0;
        for segment in &self.segments {
            bytes += segment.stored(key, &self.blocks)?;
        }
        Ok(bytes)
    }

    /// Iterates over all entries from a key on.
    pub fn merge(&self, from: &[u8]) -> Result<Merge> {
        Merge::new(&self.segments, from, true)
    }

    /// Passes each entry whose key starts with `start` to `each`, until `each` returns `false`.
    /// `each` receives the rest of the key, and the contents of the entry.
    pub fn visit(
        &self,
        start: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut merge = self.merge(start)?;
        while let Some(entry) = merge.next()? {
            let Some(rest) = entry.key.strip_prefix(start) else {
                break;
            };
            if !each(rest, contents(&entry.value))? {
                break;
            }
        }
        Ok(())
    }

    /// Creates a version of a single segment, such as a backup.
    pub fn of(segment: Segment) -> Version {
        Version {
            segments: vec![Arc::new(segment)],
            blocks: Arc::new(Blocks::new(1 << 20)),
        }
    }

    /// Reads every block and every tile, and checks that everything listed in the records exists,
    /// and nothing else. Returns the number of bitmaps.
    pub fn check(&self) -> Result<u64> {
        check::check(self)
    }

    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// Returns the total size of the files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.info().bytes)
            .sum()
    }
}

/// Looks up keys, one after the other.
pub struct Lookup<'v> {
    version: &'v Version,
    /// The last block used in each segment, from the oldest to the newest.
    last: Vec<LastBlock>,
}

impl Lookup<'_> {
    /// Like [`Version::get`].
    pub fn get<T>(
        &mut self,
        key: &[u8],
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        for (segment, last) in self.version.segments.iter().zip(&mut self.last).rev() {
            let found = segment.get_from(last, key, &self.version.blocks, |value| {
                match value.split_first() {
                    Some((&REMOVED, _)) => Some(None),
                    Some((_, value)) => read(value).map(Some),
                    None => None,
                }
            })?;
            if let Some(found) = found {
                return found
                    .ok_or_else(|| StoreError::damaged(segment.path(), "an entry cannot be read"));
            }
        }
        Ok(None)
    }
}

/// The table of a store.
pub struct Table {
    directory: PathBuf,
    blocks: Arc<Blocks>,
    /// The manifest on disk. The lock is held while the manifest is replaced.
    manifest: Mutex<Manifest>,
    version: RwLock<Arc<Version>>,
    /// Held while segments are merged, so that two merges never take the same segments.
    merging: Mutex<()>,
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

    fn lock(&self) -> MutexGuard<'_, Manifest> {
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
    fn new_segment(&self) -> (u64, u64) {
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
