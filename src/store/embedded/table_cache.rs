//! The table with a bounded cache of what its entries mean in front, and how overlays become
//! entries.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::bitmap::Tile;
use crate::sets::UserId;
use crate::store::embedded::idmap::{self, IdMaps};
use crate::store::embedded::memtable::{
    Below, EMPTY, Expirations, Memtables, Overlay, Overlays, TileChange,
};
use crate::store::embedded::record::Record;
use crate::store::embedded::table::segment::Segment;
use crate::store::embedded::table::{
    EXPIRY, Entry, Input, KEY, Manifest, PRESENT, Table, Version, packed, put_varint, text_key,
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
    fn weight(&self, text: &Box<str>, (_, record): &Since<Arc<Record>>) -> u64 {
        (64 + text.len() + record.memory()) as u64
    }
}

/// The table and its cache.
pub struct TableCache {
    table: Table,
    tiles: Cache<(u32, u16), Since<Arc<Tile>>, Weights>,
    records: Cache<Box<str>, Since<Arc<Record>>, Weights>,
    epochs: RwLock<Epochs>,
    /// When bitmaps expire, as the table has it.
    expiry: Mutex<Expirations>,
}

/// How often what is in the table has changed: for readers who begin now, and for the caches, which
/// are made ready before.
#[derive(Debug, Clone, Copy, Default)]
struct Epochs {
    published: u64,
    latest: u64,
}

/// What a checkpoint wrote, before readers see it.
#[must_use = "nobody sees it before it is published"]
pub struct Unpublished {
    segment: Option<Segment>,
    changed: Vec<Changed>,
}

/// A bitmap of the table that a checkpoint changed.
pub struct Changed {
    text: Box<str>,
    overlay: Arc<Overlay>,
    /// The number in the keys of its tiles, or `None` if the checkpoint assigned a new one.
    number: Option<u32>,
}

/// Something of the table, with the epoch since which it is known to be so: a reader that began in
/// an earlier one must not use it. What a checkpoint changes is replaced or removed after it, so
/// what is in a cache is valid until today.
type Since<T> = (u64, T);

/// One view of the table, as of when it was made.
pub struct Reader<'a> {
    base: &'a TableCache,
    epoch: u64,
    version: Arc<Version>,
}

impl TableCache {
    /// Opens the table; `cache_bytes` bounds all memory it keeps.
    pub fn open(directory: &Path, manifest: Manifest, cache_bytes: u64) -> Result<Self> {
        // Blocks hold what is packed, the other two what it means: that is what repeated questions
        // want.
        let table = Table::open(directory, manifest, cache_bytes / 4)?;
        let tiles = cache_bytes / 8 * 5;
        let records = cache_bytes / 8;
        let expiry = expiry_of(&table.version())?;
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
            expiry: Mutex::new(expiry),
        })
    }

    /// The table itself.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Memtables over the table with nothing in them yet.
    pub fn layers(&self) -> Result<Memtables> {
        Ok(Memtables {
            sequence: self.table.manifest().sequence,
            lifetimes: self
                .expiry
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            enrolled: idmap::prefixes(&self.table.version())?,
            ..Memtables::default()
        })
    }

    /// A view of the table as it is now. To be asked for while the layers are locked, so that no
    /// checkpoint is published meanwhile.
    pub fn reader(&self) -> Reader<'_> {
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        Reader {
            base: self,
            epoch: epochs.published,
            version: self.table.version(),
        }
    }

    /// Writes overlays, new string ids, all expiry times and the sequence they stand for, durably,
    /// and changes the manifest with it. When that fails the table is as before.
    pub fn write(
        &self,
        overlays: &Overlays,
        rolls: &IdMaps,
        lifetimes: &Expirations,
        sequence: u64,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<Unpublished> {
        let mut before = self.expiry.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = self.reader();
        let mut next_key = self.table.manifest().next_key;
        let (entries, changed) = entries(
            Some(&reader),
            overlays,
            rolls,
            (&before, lifetimes),
            &mut next_key,
        )?;
        let segment = self.table.add(entries, sequence, |manifest| {
            manifest.next_key = next_key;
            change(manifest);
        })?;
        before.clone_from(lifetimes);
        Ok(Unpublished { segment, changed })
    }

    /// Makes the caches ready for readers who will see what was written. Those who begin now do
    /// not, and use nothing of it.
    pub fn refresh(&self, written: &Unpublished) {
        let since = {
            let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
            // From here on nobody puts anything into the caches that is true of today only.
            epochs.latest += 1;
            epochs.latest
        };
        for Changed {
            text,
            overlay,
            number,
        } in &written.changed
        {
            self.records.remove(text);
            // Cached tiles of a bitmap with a new number are never requested again.
            let Some(number) = number else { continue };
            for (tile, change) in overlay.tiles.iter() {
                let place = (*number, tile);
                if let Some((_, before)) = self.tiles.peek(&place) {
                    let tile = change.over(Some(before));
                    if tile.is_empty() {
                        self.tiles.remove(&place);
                    } else {
                        self.tiles.insert(place, (since, tile));
                    }
                }
            }
        }
    }

    /// Lets those who begin to read see what was written. Called while the layers are locked, and
    /// with it the overlays go.
    pub fn publish(&self, written: Unpublished) {
        let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = written.segment {
            self.table.publish(segment);
        }
        epochs.published = epochs.latest;
    }
}

/// Reads an entry that says when a bitmap expires.
pub fn expiry_entry<'a>(text: &'a [u8], value: &[u8]) -> Option<(&'a str, u64)> {
    std::str::from_utf8(text).ok().zip(Input(value).varint())
}

fn expiry_of(version: &Version) -> Result<Expirations> {
    let mut found = Expirations::default();
    let path = version
        .segments()
        .last()
        .map(|segment| segment.path().to_owned())
        .unwrap_or_default();
    version.visit(&[EXPIRY], |text, value| {
        let (text, until) = expiry_entry(text, value)
            .ok_or_else(|| StoreError::damaged(&path, "an expiry time cannot be read"))?;
        found.set(text, Some(until));
        Ok(true)
    })?;
    Ok(found)
}

/// Overlays and what else a checkpoint writes, as entries ascending by key. `expiry` is what the
/// table has and what it is to have. Tiles, which are most of it, are packed one at a time. Also
/// returns the changed bitmaps that the table already has.
pub fn entries<'a>(
    reader: Option<&'a Reader<'_>>,
    overlays: &'a Overlays,
    rolls: &'a IdMaps,
    expiry: (&Expirations, &Expirations),
    next_key: &mut u64,
) -> Result<(impl Iterator<Item = Result<Entry>> + use<'a>, Vec<Changed>)> {
    let ids = idmap::entries(reader.map(Reader::version), rolls)?;
    let (before, after) = expiry;
    let mut entries: Vec<Entry> = Vec::new();
    for (text, _) in before.iter().filter(|(text, _)| after.of(text).is_none()) {
        entries.push((text_key(EXPIRY, text), None));
    }
    for (text, until) in after
        .iter()
        .filter(|(text, until)| before.of(text) != Some(*until))
    {
        let mut value = vec![PRESENT];
        put_varint(&mut value, until);
        entries.push((text_key(EXPIRY, text), Some(value)));
    }
    entries.sort_unstable();
    // In the order they are listed in: keys asked for together then get numbers, and places in the
    // file, side by side.
    let mut overlays: Vec<_> = overlays.iter().collect();
    overlays.sort_unstable_by_key(|(text, _)| *text);
    let mut lookup = reader.map(|reader| reader.version.lookup());
    let (mut records, mut tiles, mut changed) =
        (Vec::with_capacity(overlays.len()), Vec::new(), Vec::new());
    for (text, overlay) in overlays {
        assert!(
            overlay.unread.is_empty(),
            "everything is read before it is written"
        );
        let below = match &mut lookup {
            Some(lookup) if overlay.below != Below::Nothing => {
                lookup.get(&text_key(KEY, text), Record::read)?
            }
            _ => None,
        };
        if let Some(below) = &below {
            let number = (overlay.below == Below::Changed).then_some(below.number);
            changed.push(Changed {
                text: text.clone(),
                overlay: Arc::clone(overlay),
                number,
            });
        }
        overlay_entries(
            reader,
            below,
            (text, overlay),
            next_key,
            &mut records,
            &mut tiles,
        )?;
    }
    tiles.sort_unstable_by_key(|(key, _)| *key);
    let tiles = tiles
        .into_iter()
        .map(|(key, stored)| Ok((key.to_vec(), stored.pack()?)));
    // By the first bytes of their keys.
    let entries = entries
        .into_iter()
        .chain(ids.ids)
        .chain(records)
        .chain(ids.texts)
        .chain(ids.rolls);
    Ok((entries.map(Ok).chain(tiles), changed))
}

/// A tile: its key and what is stored of it.
type TileEntry<'a> = ([u8; 7], Stored<'a>);

/// What a checkpoint stores of a tile.
enum Stored<'a> {
    /// That it is gone.
    Removed,
    /// The users added: there is none below.
    Whole(&'a TileChange),
    /// The change alone.
    Change(&'a TileChange),
    /// The change over the tile below, of that bitmap and number.
    Merged(&'a TileChange, &'a Reader<'a>, u32, u16),
}

impl Stored<'_> {
    fn pack(&self) -> Result<Option<Vec<u8>>> {
        Ok(match self {
            Stored::Removed => None,
            Stored::Whole(change) => Some(packed::pack(&change.added)),
            Stored::Change(change) => Some(packed::pack_change(&change.added, &change.removed())),
            Stored::Merged(change, reader, key, number) => Some(packed::pack(
                &change.over(Some(reader.tile_below(*key, *number)?)),
            )),
        })
    }
}

/// Whether a change is better written as such than the whole tile, which has so many users.
fn is_small(change: &TileChange, users: u64) -> bool {
    2 * (change.added.len() + change.removed_len()) < packed::estimated_bytes(users)
}

fn overlay_entries<'a>(
    reader: Option<&'a Reader<'_>>,
    below: Option<Record>,
    (text, overlay): (&str, &'a Overlay),
    next_key: &mut u64,
    records: &mut Vec<Entry>,
    tile_entries: &mut Vec<TileEntry<'a>>,
) -> Result<()> {
    if (overlay.below == Below::Replaced || !overlay.exists())
        && let Some(below) = &below
    {
        tile_entries.extend(
            below
                .tiles
                .iter()
                .map(|tile| (tile_key(below.number, *tile), Stored::Removed)),
        );
    }
    if !overlay.exists() {
        records.extend(below.map(|_| (text_key(KEY, text), None)));
        return Ok(());
    }
    let below = below.filter(|_| overlay.below == Below::Changed);
    let number = match &below {
        Some(below) => below.number,
        None => {
            let number = u32::try_from(*next_key).map_err(|_| StoreError::Refused {
                location: "this directory".to_owned(),
                reason: "more than 4 billion bitmaps were made in it: copy it to a new store"
                    .to_owned(),
            })?;
            *next_key += 1;
            number
        }
    };
    let mut tiles: Vec<(u16, u64)> = Vec::new();
    if let Some(below) = &below {
        let unchanged = below
            .tiles
            .iter()
            .filter(|tile| overlay.tiles.get(**tile).is_none());
        tiles.extend(unchanged.map(|tile| (*tile, below.users_in(*tile))));
    }
    for (tile, change) in overlay.tiles.iter() {
        let users_below = below.as_ref().map_or(0, |below| below.users_in(tile));
        let users = change.users(users_below);
        let stored = match reader.filter(|_| users_below > 0) {
            Some(_) if users == 0 => Stored::Removed,
            Some(_) if is_small(change, users) => Stored::Change(change),
            Some(reader) => Stored::Merged(change, reader, number, tile),
            None if users == 0 => continue,
            None => Stored::Whole(change),
        };
        tile_entries.push((tile_key(number, tile), stored));
        if users > 0 {
            tiles.push((tile, users));
        }
    }
    tiles.sort_unstable();
    let mut value = vec![PRESENT];
    Record::new(number, overlay.len, &tiles).write(&mut value);
    records.push((text_key(KEY, text), Some(value)));
    Ok(())
}

impl Reader<'_> {
    /// The segments it reads from.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// What is known of a key; `None` when there is no such key.
    pub fn record(&self, text: &str) -> Result<Option<Arc<Record>>> {
        if let Some((since, found)) = self.base.records.get(text)
            && since <= self.epoch
        {
            return Ok(Some(found));
        }
        let record = self
            .version
            .get(&text_key(KEY, text), Record::read)?
            .map(Arc::new);
        if let Some(record) = &record {
            self.cached(|since| {
                self.base
                    .records
                    .insert(text.into(), (since, Arc::clone(record)))
            });
        }
        Ok(record)
    }

    /// Puts something this reader found into a cache, unless a checkpoint has been written since it
    /// began.
    fn cached(&self, insert: impl FnOnce(u64)) {
        let epochs = self
            .base
            .epochs
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if epochs.latest == self.epoch {
            insert(self.epoch);
        }
    }

    /// About how many bytes the table's files have of a key and its tiles.
    pub fn stored(&self, text: &str, record: &Record) -> Result<u64> {
        let mut bytes = self.version.stored(&text_key(KEY, text))?;
        for tile in &record.tiles {
            bytes += self.version.stored(&tile_key(record.number, *tile))?;
        }
        Ok(bytes)
    }

    /// A tile that the key's record names.
    pub fn tile(&self, record: &Record, number: u16) -> Result<Arc<Tile>> {
        let place = (record.number, number);
        if let Some((since, tile)) = self.base.tiles.get(&place)
            && since <= self.epoch
        {
            return Ok(tile);
        }
        let tile = self.read_tile(record.number, number)?;
        if tile.len() != record.users_in(number) {
            let (expected, found) = (record.users_in(number), tile.len());
            return Err(self.damaged(format!(
                "tile {number} of key {} has {found} users and must have {expected}",
                record.number
            )));
        }
        let tile = Arc::new(tile);
        self.cached(|since| self.base.tiles.insert(place, (since, Arc::clone(&tile))));
        Ok(tile)
    }

    fn read_tile(&self, key: u32, number: u16) -> Result<Tile> {
        self.version
            .tile(key, number)?
            .ok_or_else(|| self.damaged(format!("tile {number} of key {key} is missing")))
    }

    /// A tile that is there, without taking a place in the cache.
    fn tile_below(&self, key: u32, number: u16) -> Result<Arc<Tile>> {
        match self.base.tiles.get(&(key, number)) {
            Some((since, tile)) if since <= self.epoch => Ok(tile),
            _ => self.read_tile(key, number).map(Arc::new),
        }
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged {
            path: self.base.table.directory().display().to_string(),
            reason,
        }
    }

    /// See [`Memtables::pass_over`].
    pub fn pass_over<'k>(
        &self,
        layers: &mut Memtables,
        named: impl IntoIterator<Item = (&'k String, UserId)>,
    ) -> Result<()> {
        named
            .into_iter()
            .try_for_each(|(key, user)| layers.pass_over(key, user, Some(&self.version)))
    }

    /// Gives the texts of all keys that begin so, ascending, until `each` answers `false`.
    pub fn visit_keys(&self, beginning: &str, mut each: impl FnMut(&str) -> bool) -> Result<()> {
        let mut text = String::new();
        self.version.visit(&text_key(KEY, beginning), |rest, _| {
            let rest = std::str::from_utf8(rest)
                .map_err(|_| self.damaged("a key is not UTF-8".to_owned()))?;
            text.clear();
            text.extend([beginning, rest]);
            Ok(each(&text))
        })
    }
}

impl Overlay {
    /// Whether the key exists, for this overlay.
    pub fn exists(&self) -> bool {
        self.len > 0
    }

    /// The bytes of the bitmap.
    pub fn bytes(&self) -> u64 {
        if self.len == EMPTY { 0 } else { self.len }
    }

    /// About how much memory it takes.
    pub fn memory(&self) -> usize {
        let unread = self.unread.iter().map(|(_, tile)| tile.memory());
        self.tiles
            .iter()
            .map(|(_, tile)| tile.memory())
            .chain(unread)
            .sum()
    }
}
