//! What the last checkpoint wrote: tiles in a redb file, with a bounded cache in front.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use crate::bitmap::Tile;
use crate::sets::UserId;
use crate::store::embedded::file::{
    KEYS, LIFETIMES, META, Make, NEXT_KEY, SEQUENCE, TILES, create, open, read_record, shielded, unseal, write,
};
use crate::store::embedded::layers::{EMPTY, Layers, Lifetimes, Overlay, Overlays};
use crate::store::embedded::record::Record;
use crate::store::embedded::rolls::{RollReader, Rolls};
use crate::store::{Result, StoreError};

#[derive(Debug, Clone)]
struct Weights;

impl Weighter<(u32, u16), Since<Arc<Tile>>> for Weights {
    fn weight(&self, _: &(u32, u16), (_, tile): &Since<Arc<Tile>>) -> u64 {
        64 + tile.memory() as u64
    }
}

impl Weighter<Box<str>, Since<Option<Arc<Record>>>> for Weights {
    fn weight(&self, text: &Box<str>, (_, record): &Since<Option<Arc<Record>>>) -> u64 {
        (64 + text.len() + record.as_ref().map_or(0, |r| r.memory())) as u64
    }
}

/// The redb file and its cache.
pub struct Base {
    path: PathBuf,
    redb_cache: usize,
    /// The only lock on the file and on why it is closed.
    database: RwLock<Result<Database, Closed>>,
    tiles: Cache<(u32, u16), Since<Arc<Tile>>, Weights>,
    records: Cache<Box<str>, Since<Option<Arc<Record>>>, Weights>,
    /// How often what readers can find in the file has changed: once before a checkpoint is written and once after.
    epoch: RwLock<u64>,
}

/// Something of the file, with the epoch since which it is known to be so: a reader that began in an earlier one must not use
/// it. What a checkpoint changes is replaced or removed after it, so what is in a cache is valid until today.
type Since<T> = (u64, T);

/// The file after a failed write, until it could be opened again.
struct Closed {
    /// When that is tried.
    again_at: Instant,
    /// What came in the way.
    why: String,
}

/// How long after a failure the next attempt at opening the file is made.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// One view of the file, as of when it was made.
pub struct Reader<'a> {
    base: &'a Base,
    epoch: u64,
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
        let database = shielded(|| open(path, redb_cache, Make::IfMissing))?;
        let tiles = cache_bytes / 8 * 5;
        let records = cache_bytes / 8;
        Ok(Base {
            path: path.to_owned(),
            redb_cache,
            database: RwLock::new(Ok(database)),
            tiles: Cache::with_weighter(usize::try_from(tiles / 4096).unwrap_or(usize::MAX), tiles, Weights),
            records: Cache::with_weighter(usize::try_from(records / 256).unwrap_or(usize::MAX), records, Weights),
            epoch: RwLock::new(0),
        })
    }

    /// Reads from the file, which is opened again if it has to be.
    fn with<T>(&self, read: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T> {
        self.reopen();
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Ok(database) => shielded(|| read(database)).map_err(|e| self.damaged(e)),
            Err(Closed { why, .. }) => Err(StoreError::Unreachable {
                location: self.path.display().to_string(),
                reason: format!(
                    "after a failed write the file could not be opened again ({why}); it is tried anew each second"
                ),
            }),
        }
    }

    /// Opens the file again after a failure, when it is time.
    fn reopen(&self) {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_ok() {
            return;
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.as_ref().is_err_and(|closed| closed.again_at <= Instant::now()) {
            *database = shielded(|| open(&self.path, self.redb_cache, Make::Never))
                .map_err(|error| Closed { again_at: Instant::now() + REOPEN_AFTER, why: error.to_string() });
        }
    }

    /// The sequence of the last log frame that is in the file.
    pub fn sequence(&self) -> Result<u64> {
        self.with(|database| {
            let meta = database.begin_read()?.open_table(META)?;
            Ok(meta.get(SEQUENCE)?.map_or(0, |v| v.value()))
        })
    }

    /// When keys go by themselves, as of then.
    pub fn lifetimes(&self) -> Result<Lifetimes> {
        self.with(|database| {
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
        })
    }

    fn damaged(&self, reason: impl ToString) -> StoreError {
        StoreError::Damaged { path: self.path.display().to_string(), reason: reason.to_string() }
    }

    /// A view of the file as it is now. To be asked for while the layers are locked, so that no checkpoint ends meanwhile.
    pub fn reader(&self) -> Result<Reader<'_>> {
        // Held until the transaction has begun: no checkpoint is written between the two.
        let epoch = self.epoch.read().unwrap_or_else(PoisonError::into_inner);
        self.reader_of(*epoch)
    }

    fn next_epoch(&self) -> u64 {
        let mut epoch = self.epoch.write().unwrap_or_else(PoisonError::into_inner);
        *epoch += 1;
        *epoch
    }

    fn reader_of(&self, epoch: u64) -> Result<Reader<'_>> {
        let (keys, tiles) = self.with(|database| {
            let transaction = database.begin_read()?;
            Ok((transaction.open_table(KEYS)?, transaction.open_table(TILES)?))
        })?;
        Ok(Reader { base: self, epoch, keys, tiles })
    }

    /// The text ids in the file as it is now; `None` where there never were any.
    pub fn rolls(&self) -> Result<Option<RollReader>> {
        self.with(|database| RollReader::open(&database.begin_read()?))
    }

    /// The prefixes that have text ids, as of then.
    pub fn enrolled(&self) -> Result<BTreeSet<Box<str>>> {
        let Some(rolls) = self.rolls()? else { return Ok(BTreeSet::new()) };
        shielded(|| rolls.prefixes()).map_err(|e| self.damaged(e))
    }

    /// Writes overlays, new text ids, all lifetimes and the sequence they stand for, durably. When that fails the file is as before.
    pub fn write(&self, overlays: &Overlays, rolls: &Rolls, lifetimes: &Lifetimes, sequence: u64) -> Result<()> {
        // A reader that begins from now on sees the file as it is before or after, and these overlays above. What it finds is
        // not for readers that began earlier, which may see less than these overlays.
        self.next_epoch();
        self.reopen();
        let outcome = match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Ok(database) => {
                shielded(|| write(database, overlays, rolls, lifetimes, sequence)).map_err(|e| e.to_string())
            }
            Err(Closed { why, .. }) => Err(format!("the file could not be opened again ({why})")),
        };
        outcome.map_err(|reason| {
            // After a failed write redb refuses all service until the file is opened anew.
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if database.is_ok() {
                *database = Err(Closed { again_at: Instant::now(), why: reason.clone() });
            }
            drop(database);
            self.reopen();
            StoreError::Write { path: self.path.display().to_string(), reason }
        })
    }

    /// Makes the caches agree with overlays that were written. Until it returns, everybody who begins to read must see these
    /// overlays, too.
    pub fn refresh(&self, overlays: &Overlays) {
        let since = self.next_epoch();
        let update = || -> Result<()> {
            let reader = self.reader_of(since)?;
            for (text, overlay) in overlays {
                self.records.remove(text);
                let Some(record) = reader.read_record(text)? else { continue };
                for (number, tile) in &overlay.tiles {
                    if tile.is_empty() {
                        self.tiles.remove(&(record.number, *number));
                    } else {
                        self.tiles.insert((record.number, *number), (since, Arc::clone(tile)));
                    }
                }
                self.records.insert(text.clone(), (since, Some(record)));
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
        if let Some((since, found)) = self.base.records.get(text)
            && since <= self.epoch
        {
            return Ok(found);
        }
        let record = self.read_record(text)?;
        self.cached(|since| self.base.records.insert(text.into(), (since, record.clone())));
        Ok(record)
    }

    /// Puts something this reader found into a cache, unless a checkpoint has ended since it began.
    fn cached(&self, insert: impl FnOnce(u64)) {
        let epoch = self.base.epoch.read().unwrap_or_else(PoisonError::into_inner);
        if *epoch == self.epoch {
            insert(self.epoch);
        }
    }

    fn read_record(&self, text: &str) -> Result<Option<Arc<Record>>> {
        let read = || -> Result<Option<Arc<Record>>, redb::Error> {
            let Some(bytes) = self.keys.get(text)? else { return Ok(None) };
            Ok(Some(Arc::new(read_record(bytes.value())?)))
        };
        shielded(read).map_err(|e| self.base.damaged(format!("key {text}: {e}")))
    }

    /// A tile that the key's record names.
    pub fn tile(&self, record: &Record, number: u16) -> Result<Arc<Tile>> {
        let place = (record.number, number);
        if let Some((since, tile)) = self.base.tiles.get(&place)
            && since <= self.epoch
        {
            return Ok(tile);
        }
        let read = || -> Result<Tile, redb::Error> {
            let bytes = self.tiles.get(place)?;
            let tile = bytes.as_ref().and_then(|b| unseal(b.value()));
            tile.ok_or_else(|| redb::Error::Corrupted(format!("tile {number} of key {} is not whole", record.number)))
        };
        let tile = Arc::new(shielded(read).map_err(|e| self.base.damaged(e))?);
        self.cached(|since| self.base.tiles.insert(place, (since, Arc::clone(&tile))));
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
        let database = open(path, 16 << 20, Make::IfMissing)?;
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
    use std::fs;

    use super::*;
    use crate::bitmap::split;
    use crate::store::embedded::file::{FORMAT, OLDEST_FORMAT};

    fn overlays(marks: &[(&str, &[u32])]) -> Overlays {
        let mut overlays = Overlays::new();
        for (text, users) in marks {
            let overlay = Arc::make_mut(overlays.entry((*text).into()).or_default());
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
        Arc::make_mut(more.get_mut("a").unwrap()).tiles.insert(0, Arc::default());
        base.write(&more, &Rolls::new(), &Lifetimes::default(), 2).unwrap();
        base.refresh(&more);
        assert_eq!((users(&base, "a"), users(&base, "b")), (Some(4), None));
    }

    /// Readers and writers meet a file that cannot be opened again: each gets an error, and none waits for another for ever.
    #[test]
    fn a_file_that_cannot_be_opened_again_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bitmaps.redb");
        let base = Arc::new(Base::open(&path, 1 << 20).unwrap());
        let marks = overlays(&[("a", &[1, 2])]);
        base.write(&marks, &Rolls::new(), &Lifetimes::default(), 1).unwrap();
        let aside = directory.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        let close = |base: &Base| {
            let closed = Closed { again_at: Instant::now(), why: "the disk is full".to_owned() };
            *base.database.write().unwrap() = Err(closed);
        };
        close(&base);
        let (ended, all) = std::sync::mpsc::channel();
        for thread in 0..4 {
            let (base, ended, marks) = (Arc::clone(&base), ended.clone(), marks.clone());
            // Not joined: a thread that hangs must not keep the test from failing.
            std::thread::spawn(move || {
                for _ in 0..500 {
                    close(&base);
                    let failed = match thread {
                        0 => base.write(&marks, &Rolls::new(), &Lifetimes::default(), 2).is_err(),
                        1 => base.lifetimes().is_err(),
                        _ => base.reader().is_err(),
                    };
                    assert!(failed);
                }
                ended.send(thread).unwrap();
            });
        }
        for _ in 0..4 {
            all.recv_timeout(Duration::from_secs(60)).expect("a thread hangs or failed");
        }
        // A directory in its place is no store, and neither is nothing.
        fs::remove_dir(&path).unwrap();
        close(&base);
        assert!(matches!(base.reader().err(), Some(StoreError::Unreachable { .. })));
        assert!(!path.exists());
        fs::rename(&aside, &path).unwrap();
        close(&base);
        assert_eq!(base.reader().unwrap().record("a").unwrap().unwrap().users(), Some(2));
    }
}
