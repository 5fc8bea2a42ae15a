//! The table behind a cache of tiles and records, and the conversion of memtables to table entries.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::bitmap::Tile;
use crate::store::embedded::expirations::Expirations;
use crate::store::embedded::overlay::{Memtable, Older, Overlay, TileChange};
use crate::store::embedded::prefix_ids::{self, IdMaps};
use crate::store::embedded::record::Record;
use crate::store::embedded::table::segment::Segment;
use crate::store::embedded::table::{
    EXPIRY, Entry, Input, KEY, Manifest, PRESENT, Table, Version, entry_key, packed, put_varint,
    tile_key,
};
use crate::store::{Result, StoreError};

#[derive(Debug, Clone)]
struct Weights;

impl Weighter<(u32, u16), Since<Arc<Tile>>> for Weights {
    fn weight(&self, _: &(u32, u16), (_, tile): &Since<Arc<Tile>>) -> u64 {
        64 + tile.memory() as u64
    }
}

impl Weighter<Box<str>, Since<Arc<Record>>> for Weights {
    fn weight(&self, key: &Box<str>, (_, record): &Since<Arc<Record>>) -> u64 {
        (64 + key.len() + record.memory()) as u64
    }
}

/// The table of a store, with a cache of decoded tiles and records.
pub struct TableCache {
    pub(super) table: Table,
    /// By the number of the bitmap and the number of the tile.
    tiles: Cache<(u32, u16), Since<Arc<Tile>>, Weights>,
    /// By key.
    records: Cache<Box<str>, Since<Arc<Record>>, Weights>,
    epochs: RwLock<Epochs>,
    /// When bitmaps expire, according to the table.
    pub(super) expirations: Mutex<Expirations>,
}

/// Counters of checkpoints.
#[derive(Debug, Clone, Copy, Default)]
struct Epochs {
    /// The epoch of new readers.
    published: u64,
    /// The epoch of the cache. It is ahead of `published` from when the cache is refreshed until
    /// the checkpoint is published.
    latest: u64,
}

/// A cached value and the first epoch in which it is valid. Readers of earlier epochs must not use
/// it. It is valid until the latest epoch: a checkpoint that changes the value replaces or removes
/// it.
type Since<T> = (u64, T);

/// The changes that a checkpoint writes to the table.
#[derive(Clone, Copy)]
pub struct Checkpoint<'a> {
    pub memtable: &'a Memtable,
    pub id_maps: &'a IdMaps,
    /// All expiry times, not only those that changed.
    pub expirations: &'a Expirations,
}

/// A checkpoint that is written but not visible to readers yet.
#[must_use = "readers do not see a checkpoint until it is published"]
pub struct Unpublished {
    segment: Option<Segment>,
    changed: Vec<Changed>,
}

/// A bitmap of the table that a checkpoint changed.
pub struct Changed {
    key: Box<str>,
    overlay: Arc<Overlay>,
    /// The number in the keys of its tiles, or `None` if the checkpoint assigned a new one.
    number: Option<u32>,
}

/// A reader of the table as it was when the reader was created.
pub struct Reader<'a> {
    cache: &'a TableCache,
    epoch: u64,
    version: Arc<Version>,
}

impl TableCache {
    /// Opens the table. All caches together take at most `cache_bytes` bytes.
    pub fn open(directory: &Path, manifest: Manifest, cache_bytes: u64) -> Result<Self> {
        // Most of the memory is for decoded tiles, because repeated queries use these. The table
        // caches encoded blocks.
        let table = Table::open(directory, manifest, cache_bytes / 4)?;
        let tiles = cache_bytes / 8 * 5;
        let records = cache_bytes / 8;
        let expirations = expirations_in(&table.version())?;
        Ok(TableCache {
            table,
            tiles: Cache::with_weighter(
                usize::try_from(tiles / 4096).unwrap_or(usize::MAX),
                tiles,
                Weights,
            ),
            records: Cache::with_weighter(
                usize::try_from(records / 256).unwrap_or(usize::MAX),
                records,
                Weights,
            ),
            epochs: RwLock::default(),
            expirations: Mutex::new(expirations),
        })
    }

    /// Returns the table itself.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Returns a reader of the table as it is now. The caller must hold the lock on the memtables,
    /// so that no checkpoint is published between reading them and reading the table.
    pub fn reader(&self) -> Reader<'_> {
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        Reader {
            cache: self,
            epoch: epochs.published,
            version: self.table.version(),
        }
    }

    /// Durably writes a checkpoint with the changes up to `sequence`, and changes the manifest in
    /// the same step. If this fails, the table is unchanged.
    pub fn write(
        &self,
        checkpoint: Checkpoint<'_>,
        sequence: u64,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<Unpublished> {
        let mut stored = self
            .expirations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let reader = self.reader();
        let mut next_key = self.table.manifest().next_key;
        let (entries, changed) = entries(Some(&reader), checkpoint, &stored, &mut next_key)?;
        let segment = self.table.add(entries, sequence, |manifest| {
            manifest.next_key = next_key;
            change(manifest);
        })?;
        stored.clone_from(checkpoint.expirations);
        Ok(Unpublished { segment, changed })
    }

    /// Updates the cache for readers that will see the checkpoint. Readers that are created before
    /// it is published do not see it, and use none of the updated values.
    pub fn refresh(&self, written: &Unpublished) {
        let since = {
            let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
            // From now on, no reader caches values that the checkpoint may have changed.
            epochs.latest += 1;
            epochs.latest
        };
        for Changed {
            key,
            overlay,
            number,
        } in &written.changed
        {
            self.records.remove(key);
            // If the bitmap has a new number, its cached tiles are never requested again.
            let Some(number) = number else { continue };
            for (tile, change) in overlay.tiles.iter() {
                let cache_key = (*number, tile);
                if let Some((_, before)) = self.tiles.peek(&cache_key) {
                    let tile = change.over(Some(before));
                    if tile.is_empty() {
                        self.tiles.remove(&cache_key);
                    } else {
                        self.tiles.insert(cache_key, (since, tile));
                    }
                }
            }
        }
    }

    /// Makes the checkpoint visible to new readers. The caller must hold the lock on the memtables,
    /// and remove the changes from them before it releases the lock.
    pub fn publish(&self, written: Unpublished) {
        let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = written.segment {
            self.table.publish(segment);
        }
        epochs.published = epochs.latest;
    }
}

/// Reads the key and the contents of an entry that says when a bitmap expires. Returns `None` if
/// they are not valid.
pub fn expiry_entry<'a>(key: &'a [u8], contents: &[u8]) -> Option<(&'a str, u64)> {
    std::str::from_utf8(key).ok().zip(Input(contents).varint())
}

fn expirations_in(version: &Version) -> Result<Expirations> {
    let mut found = Expirations::default();
    version.visit(&[EXPIRY], |key, contents| {
        let Some((key, expires_at)) = expiry_entry(key, contents) else {
            let newest = version.segments().last();
            return Err(StoreError::damaged(
                newest.expect("the entry is in a segment").path(),
                "an expiry time cannot be read",
            ));
        };
        found.set(key, Some(expires_at));
        Ok(true)
    })?;
    Ok(found)
}

/// Returns the entries of expiry times that differ between the table and a checkpoint.
fn expiry_entries(stored: &Expirations, new: &Expirations) -> Vec<Entry> {
    let removed = stored
        .iter()
        .filter(|(key, _)| new.of(key).is_none())
        .map(|(key, _)| (entry_key(EXPIRY, key), None));
    let set = new
        .iter()
        .filter(|(key, expires_at)| stored.of(key) != Some(*expires_at))
        .map(|(key, expires_at)| {
            let mut value = vec![PRESENT];
            put_varint(&mut value, expires_at);
            (entry_key(EXPIRY, key), Some(value))
        });
    let mut entries: Vec<Entry> = removed.chain(set).collect();
    entries.sort_unstable();
    entries
}

/// Returns the entries that a checkpoint writes, in ascending order of keys. `stored` holds the
/// expiry times that the table has. Also returns the bitmaps of the table that the checkpoint
/// changes. Tiles are encoded lazily, one at a time, because most of the entries are tiles.
pub fn entries<'a>(
    reader: Option<&'a Reader<'_>>,
    checkpoint: Checkpoint<'a>,
    stored: &Expirations,
    next_key: &mut u64,
) -> Result<(impl Iterator<Item = Result<Entry>> + use<'a>, Vec<Changed>)> {
    let ids = prefix_ids::entries(reader.map(Reader::version), checkpoint.id_maps)?;
    let expiry = expiry_entries(stored, checkpoint.expirations);
    // In the order in which keys are listed, so that bitmaps which are often read together have
    // adjacent numbers, and their tiles are adjacent in the file.
    let mut overlays: Vec<_> = checkpoint.memtable.iter().collect();
    overlays.sort_unstable_by_key(|(key, _)| *key);
    let mut lookup = reader.map(|reader| reader.version.lookup());
    let mut records = Vec::with_capacity(overlays.len());
    let mut tiles = Vec::new();
    let mut changed = Vec::new();
    for (key, overlay) in overlays {
        assert!(
            overlay.unresolved.is_empty(),
            "all overlays are resolved before a checkpoint"
        );
        let record = match &mut lookup {
            Some(lookup) if overlay.older != Older::Absent => {
                lookup.get(&entry_key(KEY, key), Record::read)?
            }
            _ => None,
        };
        if let Some(record) = &record {
            let number = (overlay.older == Older::Visible).then_some(record.number);
            changed.push(Changed {
                key: key.clone(),
                overlay: Arc::clone(overlay),
                number,
            });
        }
        overlay_entries(
            reader,
            record,
            (key, overlay),
            next_key,
            &mut records,
            &mut tiles,
        )?;
    }
    tiles.sort_unstable_by_key(|(key, _)| *key);
    let tiles = tiles
        .into_iter()
        .map(|(key, stored)| Ok((key.to_vec(), stored.encode()?)));
    // In the order of the first bytes of their keys.
    let entries = expiry
        .into_iter()
        .chain(ids.by_id)
        .chain(records)
        .chain(ids.by_number)
        .chain(ids.next_numbers);
    Ok((entries.map(Ok).chain(tiles), changed))
}

/// The key of a tile, and the value that a checkpoint stores for it.
type TileEntry<'a> = ([u8; 7], StoredTile<'a>);

/// The value that a checkpoint stores for a tile.
enum StoredTile<'a> {
    /// A removal.
    Removed,
    /// The added users. The table does not have the tile yet.
    New(&'a TileChange),
    /// Only the change.
    Change(&'a TileChange),
    /// The change merged with the tile of the table, which is given by the number of its bitmap and
    /// its own number.
    Merged(&'a TileChange, &'a Reader<'a>, u32, u16),
}

impl StoredTile<'_> {
    /// Returns the value, or `None` for a removal.
    fn encode(&self) -> Result<Option<Vec<u8>>> {
        Ok(match self {
            StoredTile::Removed => None,
            StoredTile::New(change) => Some(packed::pack(&change.added)),
            StoredTile::Change(change) => {
                Some(packed::pack_change(&change.added, &change.removed()))
            }
            StoredTile::Merged(change, reader, bitmap, number) => Some(packed::pack(
                &change.over(Some(reader.tile_uncached(*bitmap, *number)?)),
            )),
        })
    }
}

/// Returns whether it takes less space to store only a change than the whole tile, which has
/// `users` users.
fn is_small(change: &TileChange, users: u64) -> bool {
    2 * (change.added.len() + change.removed_len()) < packed::estimated_bytes(users)
}

/// Adds the entries of one bitmap to `records` and `tile_entries`. `record` is the record that the
/// table has of it.
fn overlay_entries<'a>(
    reader: Option<&'a Reader<'_>>,
    record: Option<Record>,
    (key, overlay): (&str, &'a Overlay),
    next_key: &mut u64,
    records: &mut Vec<Entry>,
    tile_entries: &mut Vec<TileEntry<'a>>,
) -> Result<()> {
    if (overlay.older == Older::Hidden || !overlay.exists())
        && let Some(record) = &record
    {
        let removed = record
            .tiles
            .iter()
            .map(|tile| (tile_key(record.number, *tile), StoredTile::Removed));
        tile_entries.extend(removed);
    }
    if !overlay.exists() {
        records.extend(record.map(|_| (entry_key(KEY, key), None)));
        return Ok(());
    }
    let older = record.filter(|_| overlay.older == Older::Visible);
    let number = match &older {
        Some(older) => older.number,
        None => take_number(next_key)?,
    };
    let mut tiles: Vec<(u16, u64)> = Vec::new();
    if let Some(older) = &older {
        let unchanged = older
            .tiles
            .iter()
            .filter(|tile| overlay.tiles.get(**tile).is_none());
        tiles.extend(unchanged.map(|tile| (*tile, older.users_in(*tile))));
    }
    for (tile, change) in overlay.tiles.iter() {
        let older_users = older.as_ref().map_or(0, |older| older.users_in(tile));
        let users = change.users_over(older_users);
        let stored = match reader.filter(|_| older_users > 0) {
            Some(_) if users == 0 => StoredTile::Removed,
            Some(_) if is_small(change, users) => StoredTile::Change(change),
            Some(reader) => StoredTile::Merged(change, reader, number, tile),
            None if users == 0 => continue,
            None => StoredTile::New(change),
        };
        tile_entries.push((tile_key(number, tile), stored));
        if users > 0 {
            tiles.push((tile, users));
        }
    }
    tiles.sort_unstable();
    let mut value = vec![PRESENT];
    Record::new(number, overlay.len, &tiles).write(&mut value);
    records.push((entry_key(KEY, key), Some(value)));
    Ok(())
}

/// Takes the number for a new bitmap.
fn take_number(next_key: &mut u64) -> Result<u32> {
    let number = u32::try_from(*next_key).map_err(|_| StoreError::Refused {
        location: "this directory".to_owned(),
        reason: "more than 4 billion bitmaps were created in it. Copy it to a new store".to_owned(),
    })?;
    *next_key += 1;
    Ok(number)
}

impl Reader<'_> {
    /// Returns the epoch of the table that is read. It increases with every checkpoint.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the segments that are read.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Returns the record of a bitmap, or `None` if the table does not have the bitmap.
    pub fn record(&self, key: &str) -> Result<Option<Arc<Record>>> {
        if let Some((since, found)) = self.cache.records.get(key)
            && since <= self.epoch
        {
            return Ok(Some(found));
        }
        let record = self
            .version
            .get(&entry_key(KEY, key), Record::read)?
            .map(Arc::new);
        if let Some(record) = &record {
            self.insert_into_cache(|since| {
                self.cache
                    .records
                    .insert(key.into(), (since, Arc::clone(record)))
            });
        }
        Ok(record)
    }

    /// Calls `insert` to cache a value that this reader has read, unless a checkpoint was written
    /// since the reader was created.
    fn insert_into_cache(&self, insert: impl FnOnce(u64)) {
        let epochs = self
            .cache
            .epochs
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if epochs.latest == self.epoch {
            insert(self.epoch);
        }
    }

    /// Returns approximately how many bytes a bitmap takes in the files of the table.
    pub fn stored(&self, key: &str, record: &Record) -> Result<u64> {
        let mut bytes = self.version.stored(&entry_key(KEY, key))?;
        for tile in &record.tiles {
            bytes += self.version.stored(&tile_key(record.number, *tile))?;
        }
        Ok(bytes)
    }

    /// Returns a tile that the record of a bitmap lists.
    pub fn tile(&self, record: &Record, number: u16) -> Result<Arc<Tile>> {
        let cache_key = (record.number, number);
        if let Some((since, tile)) = self.cache.tiles.get(&cache_key)
            && since <= self.epoch
        {
            return Ok(tile);
        }
        let tile = self.read_tile(record.number, number)?;
        let expected = record.users_in(number);
        let found = tile.len();
        if found != expected {
            return Err(self.damaged(format!(
                "tile {number} of key {} has {found} users and must have {expected}",
                record.number
            )));
        }
        let tile = Arc::new(tile);
        self.insert_into_cache(|since| {
            self.cache
                .tiles
                .insert(cache_key, (since, Arc::clone(&tile)))
        });
        Ok(tile)
    }

    fn read_tile(&self, bitmap: u32, number: u16) -> Result<Tile> {
        self.version
            .tile(bitmap, number)?
            .ok_or_else(|| self.damaged(format!("tile {number} of key {bitmap} is missing")))
    }

    /// Returns a tile, which must exist. Does not add it to the cache.
    fn tile_uncached(&self, bitmap: u32, number: u16) -> Result<Arc<Tile>> {
        match self.cache.tiles.get(&(bitmap, number)) {
            Some((since, tile)) if since <= self.epoch => Ok(tile),
            _ => self.read_tile(bitmap, number).map(Arc::new),
        }
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::damaged(self.cache.table.directory(), reason)
    }

    /// Passes all keys that start with `start` to `each`, in ascending order, until `each` returns
    /// `false`.
    pub fn visit_keys(&self, start: &str, mut each: impl FnMut(&str) -> bool) -> Result<()> {
        let mut key = String::new();
        self.version.visit(&entry_key(KEY, start), |rest, _| {
            let rest = std::str::from_utf8(rest)
                .map_err(|_| self.damaged("a key is not UTF-8".to_owned()))?;
            key.clear();
            key.extend([start, rest]);
            Ok(each(&key))
        })
    }
}
