//! The layout of the file that checkpoints write, how it is made and opened, and how overlays go into it.

use std::fs;
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::bitmap::Tile;
use crate::store::embedded::layers::{Lifetimes, Overlays};
use crate::store::embedded::record::Record;
use crate::store::embedded::rolls::{self, Rolls};
use crate::store::private;

/// Key text → [`Record`].
pub const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// (number of the key, number of the tile) → the tile's bytes and their CRC-32.
pub const TILES: TableDefinition<(u32, u16), &[u8]> = TableDefinition::new("tiles");
/// Key text → when it goes by itself, in milliseconds since 1970.
pub const LIFETIMES: TableDefinition<&str, u64> = TableDefinition::new("lifetimes");
/// The few numbers below.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The version of this layout, and of the log beside it. 1 had no counts in its records, 2 no lifetimes and fewer kinds of
/// frames, 3 neither text ids nor runs; all are still read.
pub const FORMAT: (&str, u64) = ("format", 4);
/// The oldest version that is read.
pub const OLDEST_FORMAT: u64 = 1;
/// The sequence of the last log frame that is in the tables.
pub const SEQUENCE: &str = "sequence";
/// The number the next new key gets. Numbers are never used twice, so a cached tile is never that of another key.
pub const NEXT_KEY: &str = "next_key";

/// Reads a record that is to be whole.
pub fn read_record(bytes: &[u8]) -> Result<Record, redb::Error> {
    Record::from_bytes(bytes).ok_or_else(|| redb::Error::Corrupted("its record is not whole".to_owned()))
}

/// A tile's bytes with their checksum: a bit that flips on the disk must not become a number.
fn seal(tile: &Tile) -> Vec<u8> {
    let mut bytes = tile.to_bytes();
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The tile; `None` when it is not whole.
pub fn unseal(bytes: &[u8]) -> Option<Tile> {
    let (bytes, checksum) = bytes.split_last_chunk()?;
    (crc32fast::hash(bytes) == u32::from_le_bytes(*checksum)).then(|| Tile::from_bytes(bytes))?
}

/// redb panics where it finds its pages in disorder; to us that is an error like any other.
pub fn shielded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(redb::Error::Corrupted(format!("its pages are in disorder ({})", words.unwrap_or("no details"))))
    })
}

/// Makes the file under another name and gives it its own only when it is whole: a process that ends on the way leaves
/// nothing that looks like a damaged store.
pub fn create(path: &Path, cache: usize) -> Result<(), redb::Error> {
    let unfinished = path.with_extension(format!("redb.new-{}", std::process::id()));
    let _ = fs::remove_file(&unfinished);
    drop(open(&unfinished, cache, Make::IfMissing)?);
    // Unlike a renaming this leaves alone what another process has made meanwhile.
    let linked = fs::hard_link(&unfinished, path);
    let _ = fs::remove_file(&unfinished);
    match linked {
        Err(error) if !path.exists() => Err(redb::Error::Io(error)),
        _ => Ok(()),
    }
}

/// Whether a file is made where there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Make {
    IfMissing,
    /// A store whose file is gone is no empty store.
    Never,
}

/// Opens a file of this layout, or of an older one that is read.
pub fn open(path: &Path, cache: usize, make: Make) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache);
    if make == Make::IfMissing && !path.exists() {
        // The library would create it with the default mode. If another process created it meanwhile, that one is used.
        drop(private::options().write(true).create_new(true).open(path));
    }
    let database = match make {
        Make::IfMissing => builder.create(path)?,
        Make::Never => builder.open(path)?,
    };
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

/// Writes overlays, new text ids, all lifetimes and the sequence they stand for: all of them or nothing.
pub fn write(
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
