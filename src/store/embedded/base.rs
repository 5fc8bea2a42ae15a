//! What the last checkpoint wrote: tiles in a redb file, with a bounded cache in front.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::bitmap::Tile;
use crate::sets::UserId;
use crate::store::embedded::layers::{EMPTY, Layers, Lifetimes, Overlay, Overlays};
use crate::store::embedded::record::Record;
use crate::store::embedded::rolls::{self, RollReader, Rolls};
use crate::store::{Result, StoreError, private};

/// Key text → [`Record`].
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// (number of the key, number of the tile) → the tile's bytes and their CRC-32.
const TILES: TableDefinition<(u32, u16), &[u8]> = TableDefinition::new("tiles");
/// Key text → when it goes by itself, in milliseconds since 1970.
const LIFETIMES: TableDefinition<&str, u64> = TableDefinition::new("lifetimes");
/// The few numbers below.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The version of this layout, and of the log beside it. 1 had no counts in its records, 2 no lifetimes and fewer kinds of
/// frames, 3 neither text ids nor runs; all are still read.
const FORMAT: (&str, u64) = ("format", 4);
/// The oldest version that is read.
const OLDEST_FORMAT: u64 = 1;
/// The sequence of the last log frame that is in the tables.
const SEQUENCE: &str = "sequence";
/// The number the next new key gets. Numbers are never used twice, so a cached tile is never that of another key.
const NEXT_KEY: &str = "next_key";

#[derive(Debug, Clone)]
struct Weights;

impl Weighter<(u32, u16), Arc<Tile>> for Weights {
    fn weight(&self, _: &(u32, u16), tile: &Arc<Tile>) -> u64 {
        64 + tile.memory() as u64
    }
}

impl Weighter<Box<str>, Option<Arc<Record>>> for Weights {
    fn weight(&self, text: &Box<str>, record: &Option<Arc<Record>>) -> u64 {
        (64 + text.len() + record.as_ref().map_or(0, |r| r.memory())) as u64
    }
}

/// The redb file and its cache.
pub struct Base {
    path: PathBuf,
    redb_cache: usize,
    /// `None` after a failed write, until it could be opened again.
    database: RwLock<Option<Database>>,
    /// When that was last tried, and what came in the way.
    tried: Mutex<Option<(Instant, String)>>,
    tiles: Cache<(u32, u16), Arc<Tile>, Weights>,
    records: Cache<Box<str>, Option<Arc<Record>>, Weights>,
}

/// One view of the file, as of when it was made.
pub struct Reader<'a> {
    base: &'a Base,
    keys: ReadOnlyTable<&'static str, &'static [u8]>,
    tiles: ReadOnlyTable<(u32, u16), &'static [u8]>,
}

impl Base {
    /// Opens or creates the file; `cache_bytes` bounds all memory it keeps.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, redb::Error> {
        // redb's own cache holds raw pages, ours what they mean: the second is what repeated questions want.
        let redb_cache = usize::try_from(cache_bytes / 4).unwrap_or(usize::MAX);
        if !path.exists() {
            shielded(|| create(path, redb_cache))?;
        }
        let database = shielded(|| open(path, redb_cache))?;
        let tiles = cache_bytes / 8 * 5;
        let records = cache_bytes / 8;
        Ok(Base {
            path: path.to_owned(),
            redb_cache,
            database: RwLock::new(Some(database)),
            tried: Mutex::default(),
            tiles: Cache::with_weighter(usize::try_from(tiles / 4096).unwrap_or(usize::MAX), tiles, Weights),
            records: Cache::with_weighter(usize::try_from(records / 256).unwrap_or(usize::MAX), records, Weights),
        })
    }

    /// The sequence of the last log frame that is in the file.
    pub fn sequence(&self) -> Result<u64> {
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = slot.as_ref().ok_or_else(|| self.closed())?;
        let read = || -> Result<u64, redb::Error> {
            let meta = database.begin_read()?.open_table(META)?;
            Ok(meta.get(SEQUENCE)?.map_or(0, |v| v.value()))
        };
        shielded(read).map_err(|e| self.damaged(e))
    }

    /// When keys go by themselves, as of then.
    pub fn lifetimes(&self) -> Result<Lifetimes> {
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = slot.as_ref().ok_or_else(|| self.closed())?;
        let read = || -> Result<Lifetimes, redb::Error> {
            let mut found = Lifetimes::default();
            let table = match database.begin_read()?.open_table(LIFETIMES) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(found),
                Err(error) => return Err(error.into()),
            };
            for entry in table.iter()? {
                let (text, until) = entry?;
                found.set(text.value(), Some(until.value()));
            }
            Ok(found)
        };
        shielded(read).map_err(|e| self.damaged(e))
    }

    fn closed(&self) -> StoreError {
        StoreError::Unreachable {
            location: self.path.display().to_string(),
            reason: {
                let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
                let why = tried.as_ref().map_or("", |(_, why)| why);
                format!("after a failed write the file could not be opened again ({why}); it is tried anew each second")
            },
        }
    }

    /// Opens the file again after a failure, at most once a second.
    fn reopen(&self) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if tried.as_ref().is_some_and(|(at, _)| at.elapsed() < Duration::from_secs(1)) {
            return;
        }
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *tried = match shielded(|| open(&self.path, self.redb_cache)) {
                Ok(database) => {
                    *slot = Some(database);
                    None
                }
                Err(error) => Some((Instant::now(), error.to_string())),
            };
        }
    }

    fn damaged(&self, reason: impl ToString) -> StoreError {
        StoreError::Damaged { path: self.path.display().to_string(), reason: reason.to_string() }
    }

    /// A view of the file as it is now.
    pub fn reader(&self) -> Result<Reader<'_>> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.reopen();
        }
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = slot.as_ref().ok_or_else(|| self.closed())?;
        let read = || -> Result<_, redb::Error> {
            let transaction = database.begin_read()?;
            Ok((transaction.open_table(KEYS)?, transaction.open_table(TILES)?))
        };
        let (keys, tiles) = shielded(read).map_err(|e| self.damaged(e))?;
        Ok(Reader { base: self, keys, tiles })
    }

    /// The text ids in the file as it is now; `None` where there never were any.
    pub fn rolls(&self) -> Result<Option<RollReader>> {
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = slot.as_ref().ok_or_else(|| self.closed())?;
        shielded(|| RollReader::open(&database.begin_read()?)).map_err(|e| self.damaged(e))
    }

    /// The prefixes that have text ids, as of then.
    pub fn enrolled(&self) -> Result<BTreeSet<Box<str>>> {
        let Some(rolls) = self.rolls()? else { return Ok(BTreeSet::new()) };
        shielded(|| rolls.prefixes()).map_err(|e| self.damaged(e))
    }

    /// Writes overlays, new text ids, all lifetimes and the sequence they stand for, durably. When that fails the file is as before.
    pub fn write(&self, overlays: &Overlays, rolls: &Rolls, lifetimes: &Lifetimes, sequence: u64) -> Result<()> {
        let outcome = {
            let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match slot.as_ref() {
                Some(database) => {
                    shielded(|| write(database, overlays, rolls, lifetimes, sequence)).map_err(|e| e.to_string())
                }
                None => Err("the file could not be opened again".to_owned()),
            }
        };
        outcome.map_err(|reason| {
            // After a failed write redb refuses all service until the file is opened anew.
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            self.reopen();
            StoreError::Write { path: self.path.display().to_string(), reason }
        })
    }

    /// Makes the cache agree with overlays that were written. Nobody may be reading meanwhile.
    pub fn refresh(&self, overlays: &Overlays) {
        let update = || -> Result<()> {
            let reader = self.reader()?;
            for (text, overlay) in overlays {
                self.records.remove(text);
                let Some(record) = reader.record(text)? else { continue };
                for (number, tile) in &overlay.tiles {
                    if tile.is_empty() {
                        self.tiles.remove(&(record.number, *number));
                    } else {
                        self.tiles.insert((record.number, *number), Arc::clone(tile));
                    }
                }
            }
            Ok(())
        };
        if update().is_err() {
            // Better to read everything anew than to answer from before the checkpoint.
            self.records.clear();
            self.tiles.clear();
        }
    }
}

impl Reader<'_> {
    /// What is known of a key; `None` when there is no such key.
    pub fn record(&self, text: &str) -> Result<Option<Arc<Record>>> {
        if let Some(found) = self.base.records.get(text) {
            return Ok(found);
        }
        let read = || -> Result<Option<Arc<Record>>, redb::Error> {
            let Some(bytes) = self.keys.get(text)? else { return Ok(None) };
            Ok(Some(Arc::new(read_record(bytes.value())?)))
        };
        let record = shielded(read).map_err(|e| self.base.damaged(format!("key {text}: {e}")))?;
        self.base.records.insert(text.into(), record.clone());
        Ok(record)
    }

    /// A tile that the key's record names.
    pub fn tile(&self, record: &Record, number: u16) -> Result<Arc<Tile>> {
        let place = (record.number, number);
        if let Some(tile) = self.base.tiles.get(&place) {
            return Ok(tile);
        }
        let read = || -> Result<Tile, redb::Error> {
            let bytes = self.tiles.get(place)?;
            let tile = bytes.as_ref().and_then(|b| unseal(b.value()));
            tile.ok_or_else(|| redb::Error::Corrupted(format!("tile {number} of key {} is not whole", record.number)))
        };
        let tile = Arc::new(shielded(read).map_err(|e| self.base.damaged(e))?);
        self.base.tiles.insert(place, Arc::clone(&tile));
        Ok(tile)
    }

    /// See [`Layers::pass_over`].
    pub fn pass_over<'k>(
        &self,
        layers: &mut Layers,
        named: impl IntoIterator<Item = (&'k String, UserId)>,
    ) -> Result<()> {
        let rolls = self.base.rolls()?;
        let pass = || named.into_iter().try_for_each(|(key, user)| layers.pass_over(key, user, rolls.as_ref()));
        shielded(pass).map_err(|e| self.base.damaged(e))
    }

    /// The texts of all keys that begin so, ascending.
    pub fn keys(&self, beginning: &str) -> Result<Vec<String>> {
        let read = || -> Result<Vec<String>, redb::Error> {
            let mut found = Vec::new();
            for entry in self.keys.range(beginning..)? {
                let (text, _) = entry?;
                if !text.value().starts_with(beginning) {
                    break;
                }
                found.push(text.value().to_owned());
            }
            Ok(found)
        };
        shielded(read).map_err(|e| self.base.damaged(e))
    }
}

impl Base {
    /// Reads all there is and checks that it is whole; says how many keys there are.
    pub fn check(&self) -> Result<u64> {
        let (reader, rolls) = (self.reader()?, self.rolls()?);
        let read = || -> Result<u64, redb::Error> {
            let mut keys = 0;
            for entry in reader.keys.iter()? {
                let (text, bytes) = entry?;
                let record = read_record(bytes.value())?;
                for number in &record.tiles {
                    let tile = reader.tiles.get((record.number, *number))?;
                    if tile.as_ref().and_then(|bytes| unseal(bytes.value())).is_none() {
                        return Err(redb::Error::Corrupted(format!("tile {number} of {} is not whole", text.value())));
                    }
                }
                keys += 1;
            }
            if let Some(rolls) = &rolls {
                rolls.check()?;
            }
            Ok(keys)
        };
        shielded(read).map_err(|e| self.damaged(e))
    }
}

/// How many tiles are copied in one transaction.
pub const COPIED_AT_ONCE: usize = 100_000;

/// Makes a new file of one view of another, with overlays on top, the older first; says how many keys it has. What is not
/// whole is not copied but an error.
pub fn copy<'a>(
    path: &Path,
    reader: Option<&Reader<'_>>,
    rolls: Option<&RollReader>,
    overlays: impl IntoIterator<Item = (&'a Overlays, &'a Rolls)>,
    lifetimes: &Lifetimes,
    sequence: u64,
) -> Result<u64> {
    let work = || -> Result<u64, redb::Error> {
        let database = open(path, 16 << 20)?;
        let mut next_key = 0;
        if let Some(reader) = reader {
            let mut tiles = reader.tiles.iter()?.peekable();
            while tiles.peek().is_some() {
                let transaction = database.begin_write()?;
                {
                    let mut table = transaction.open_table(TILES)?;
                    for entry in tiles.by_ref().take(COPIED_AT_ONCE) {
                        let (place, bytes) = entry?;
                        if unseal(bytes.value()).is_none() {
                            return Err(redb::Error::Corrupted(format!("tile {:?} is not whole", place.value())));
                        }
                        table.insert(place.value(), bytes.value())?;
                    }
                }
                transaction.commit()?;
            }
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(KEYS)?;
                for entry in reader.keys.iter()? {
                    let (text, bytes) = entry?;
                    next_key = next_key.max(u64::from(read_record(bytes.value())?.number) + 1);
                    table.insert(text.value(), bytes.value())?;
                }
                transaction.open_table(META)?.insert(NEXT_KEY, next_key)?;
            }
            transaction.commit()?;
        }
        if let Some(rolls) = rolls {
            rolls.copy_to(&database)?;
        }
        for (overlays, rolls) in overlays {
            write(&database, overlays, rolls, lifetimes, sequence)?;
        }
        let keys = database.begin_read()?.open_table(KEYS)?.len()?;
        Ok(keys)
    };
    shielded(work).map_err(|error| StoreError::Backup { path: path.display().to_string(), reason: error.to_string() })
}

fn read_record(bytes: &[u8]) -> Result<Record, redb::Error> {
    Record::from_bytes(bytes).ok_or_else(|| redb::Error::Corrupted("its record is not whole".to_owned()))
}

/// A tile's bytes with their checksum: a bit that flips on the disk must not become a number.
fn seal(tile: &Tile) -> Vec<u8> {
    let mut bytes = tile.to_bytes();
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn unseal(bytes: &[u8]) -> Option<Tile> {
    let (bytes, checksum) = bytes.split_last_chunk()?;
    (crc32fast::hash(bytes) == u32::from_le_bytes(*checksum)).then(|| Tile::from_bytes(bytes))?
}

/// redb panics where it finds its pages in disorder; to us that is an error like any other.
fn shielded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(redb::Error::Corrupted(format!("its pages are in disorder ({})", words.unwrap_or("no details"))))
    })
}

/// Makes the file under another name and gives it its own only when it is whole: a process that ends on the way leaves
/// nothing that looks like a damaged store.
fn create(path: &Path, cache: usize) -> Result<(), redb::Error> {
    let unfinished = path.with_extension(format!("redb.new-{}", std::process::id()));
    let _ = fs::remove_file(&unfinished);
    drop(open(&unfinished, cache)?);
    // Unlike a renaming this leaves alone what another process has made meanwhile.
    let linked = fs::hard_link(&unfinished, path);
    let _ = fs::remove_file(&unfinished);
    match linked {
        Err(error) if !path.exists() => Err(redb::Error::Io(error)),
        _ => Ok(()),
    }
}

fn open(path: &Path, cache: usize) -> Result<Database, redb::Error> {
    if !path.exists() {
        // The library would make it for everybody to read. Where another process made it meanwhile it is there as well.
        drop(private::options().write(true).create_new(true).open(path));
    }
    let database = Database::builder().set_cache_size(cache).create(path)?;
    let transaction = database.begin_read()?;
    let format = match transaction.open_table(META) {
        Ok(meta) => meta.get(FORMAT.0)?.map(|v| v.value()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    drop(transaction);
    match format {
        Some(version) if version == FORMAT.1 => {}
        Some(version) if (OLDEST_FORMAT..FORMAT.1).contains(&version) => {
            // Older programs could not read what is written from now on, and are to say so.
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            transaction.open_table(META)?.insert(FORMAT.0, FORMAT.1)?;
            transaction.commit()?;
        }
        Some(version) => {
            let reason =
                format!("it is of format {version}, and this version of cohortist reads formats up to {}", FORMAT.1);
            return Err(redb::Error::Corrupted(reason));
        }
        None => {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            transaction.open_table(KEYS)?;
            transaction.open_table(TILES)?;
            transaction.open_table(META)?.insert(FORMAT.0, FORMAT.1)?;
            transaction.commit()?;
        }
    }
    Ok(database)
}

fn write(
    database: &Database,
    overlays: &Overlays,
    rolls: &Rolls,
    lifetimes: &Lifetimes,
    sequence: u64,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // After a crash the file opens at once instead of being walked through.
    transaction.set_quick_repair(true);
    rolls::write(&transaction, rolls)?;
    {
        let mut keys = transaction.open_table(KEYS)?;
        let mut tiles = transaction.open_table(TILES)?;
        let mut meta = transaction.open_table(META)?;
        let mut next_key = meta.get(NEXT_KEY)?.map_or(0, |v| v.value());
        // In the order they are listed in: keys asked for together then get numbers, and places in the file, side by side.
        let mut overlays: Vec<_> = overlays.iter().collect();
        overlays.sort_unstable_by_key(|(text, _)| *text);
        for (text, overlay) in overlays {
            let before = match keys.get(&**text)? {
                Some(bytes) => Some(read_record(bytes.value())?),
                None => None,
            };
            let mut kept: Vec<(u16, Option<u64>)> = Vec::new();
            let mut number = None;
            if let Some(before) = before {
                if overlay.fresh {
                    for tile in &before.tiles {
                        tiles.remove((before.number, *tile))?;
                    }
                } else {
                    number = Some(before.number);
                    for tile in before.tiles.iter().filter(|tile| !overlay.tiles.contains_key(tile)) {
                        let users = match before.users_in(*tile) {
                            // Written before counts were kept. A tile that cannot be read is said when it is asked for.
                            None => tiles.get((before.number, *tile))?.and_then(|b| unseal(b.value())).map(|t| t.len()),
                            known => known,
                        };
                        kept.push((*tile, users));
                    }
                    for (tile, _) in overlay.tiles.iter().filter(|(_, tile)| tile.is_empty()) {
                        tiles.remove((before.number, *tile))?;
                    }
                }
            }
            if overlay.len == 0 {
                keys.remove(&**text)?;
                continue;
            }
            let number = match number {
                Some(number) => number,
                None => {
                    let number = u32::try_from(next_key)
                        .map_err(|_| redb::Error::Corrupted("more than 4 billion keys were made".to_owned()))?;
                    next_key += 1;
                    number
                }
            };
            for (tile, bits) in overlay.tiles.iter().filter(|(_, bits)| !bits.is_empty()) {
                tiles.insert((number, *tile), seal(bits).as_slice())?;
                kept.push((*tile, Some(bits.len())));
            }
            kept.sort_unstable();
            let record = Record::new(number, overlay.len, &kept);
            let bytes = record.to_bytes().map_err(|e| redb::Error::Corrupted(e.to_string()))?;
            keys.insert(&**text, bytes.as_slice())?;
        }
        meta.insert(NEXT_KEY, next_key)?;
        meta.insert(SEQUENCE, sequence)?;
        let mut ends = transaction.open_table(LIFETIMES)?;
        ends.retain(|text, until| lifetimes.of(text) == Some(until))?;
        for (text, until) in lifetimes.iter() {
            ends.insert(text, until)?;
        }
    }
    transaction.commit()?;
    Ok(())
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
        self.tiles.values().map(|tile| 96 + tile.memory()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitmap::split;

    fn overlays(marks: &[(&str, &[u32])]) -> Overlays {
        let mut overlays = Overlays::new();
        for (text, users) in marks {
            let overlay = overlays.entry((*text).into()).or_default();
            overlay.len = 200_000;
            for user in *users {
                let (number, place) = split(*user);
                Arc::make_mut(overlay.tiles.entry(number).or_default()).set(place, true);
            }
        }
        overlays
    }

    /// Makes every record what it was before counts were kept.
    fn age(path: &Path) {
        let database = Database::open(path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut keys = transaction.open_table(KEYS).unwrap();
            let records: Vec<(String, Record)> = keys
                .iter()
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|(text, bytes)| (text.value().to_owned(), Record::from_bytes(bytes.value()).unwrap()))
                .collect();
            for (text, record) in records {
                let plain = postcard::to_stdvec(&(record.number, record.len, record.tiles)).unwrap();
                keys.insert(&*text, &*plain).unwrap();
            }
            transaction.open_table(META).unwrap().insert(FORMAT.0, OLDEST_FORMAT).unwrap();
        }
        transaction.commit().unwrap();
    }

    #[test]
    fn a_store_from_before_counts_were_kept_gets_them_as_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bitmaps.redb");
        let base = Base::open(&path, 1 << 20).unwrap();
        base.write(&overlays(&[("a", &[1, 2, 70_000, 140_000]), ("b", &[9])]), &Rolls::new(), &Lifetimes::default(), 1)
            .unwrap();
        let users = |base: &Base, text: &str| base.reader().unwrap().record(text).unwrap().unwrap().users();
        assert_eq!((users(&base, "a"), users(&base, "b")), (Some(4), Some(1)));
        drop(base);
        age(&path);
        let base = Base::open(&path, 1 << 20).unwrap();
        assert_eq!((users(&base, "a"), users(&base, "b")), (None, None));
        // One tile is written anew, another emptied, the third left.
        let mut more = overlays(&[("a", &[70_000, 70_001, 70_002])]);
        more.get_mut("a").unwrap().tiles.insert(0, Arc::default());
        base.write(&more, &Rolls::new(), &Lifetimes::default(), 2).unwrap();
        base.refresh(&more);
        assert_eq!((users(&base, "a"), users(&base, "b")), (Some(4), None));
    }
}
