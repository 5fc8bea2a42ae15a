//! Stores of the formats 1 to 4, which are a redb file with separate logs. They are only read to be
//! converted.

mod record;

use std::fs;
use std::path::Path;

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    TableError,
};

use crate::bitmap::Tile;
use crate::panics::caught;
use crate::store::embedded::id_entries;
use crate::store::embedded::record::Record;
use crate::store::embedded::table::segment::Writer;
use crate::store::embedded::table::{
    EXPIRY, ID, KEY, NEXT_NUMBER, PRESENT, entry_key, packed, put_varint, tile_key,
};
use crate::store::{Result, StoreError};

/// The name of the file in these formats.
pub const DATABASE: &str = "bitmaps.redb";

/// Key → record.
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// (number of the bitmap, number of the tile) → the bytes of the tile and their CRC-32.
const TILES: TableDefinition<(u32, u16), &[u8]> = TableDefinition::new("tiles");
/// Key → when the bitmap expires, in milliseconds since 1970.
const EXPIRATIONS: TableDefinition<&str, u64> = TableDefinition::new("lifetimes");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Prefix → the number of the next new string id.
const NEXT_NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("rolls");
/// (prefix, number) → a checksum, and the string id.
const STRING_IDS: TableDefinition<(&str, u32), (u32, &str)> = TableDefinition::new("texts");

const FORMATS: std::ops::RangeInclusive<u64> = 1..=4;

/// The first bytes of a redb file.
const MAGIC: &[u8] = b"redb";

/// Returns whether a file is a store or a backup of one of these formats.
pub fn is_legacy(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start))
        .is_ok()
        && start == MAGIC
}

/// The properties of a converted file.
pub struct Converted {
    pub format: u64,
    /// The sequence number of the last log frame whose changes the file contains.
    pub sequence: u64,
    /// The number of the next new bitmap.
    pub next_key: u64,
    /// The number of bitmaps.
    pub bitmaps: u64,
}

/// Decodes a tile. Returns `None` if it is damaged.
fn decode_tile(bytes: &[u8]) -> Option<Tile> {
    let (bytes, checksum) = bytes.split_last_chunk()?;
    (crc32fast::hash(bytes) == u32::from_le_bytes(*checksum)).then_some(())?;
    if bytes.len() == 8192 {
        return Some(Tile::of_bytes(bytes));
    }
    let (places, rest) = bytes.as_chunks::<2>();
    let places: Vec<u16> = places
        .iter()
        .map(|place| u16::from_le_bytes(*place))
        .collect();
    (rest.is_empty() && places.is_sorted_by(|a, b| a < b)).then(|| places.into_iter().collect())
}

/// Calls redb, which panics on some kinds of damage, and returns a panic as an error.
fn catch_panics<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    caught(work).unwrap_or_else(|panic| Err(corrupted(format!("its pages are damaged ({panic})"))))
}

fn corrupted(reason: impl Into<String>) -> redb::Error {
    redb::Error::Corrupted(reason.into())
}

/// Checks a file and writes its contents to a segment.
pub fn convert(path: &Path, writer: &mut Writer) -> Result<Converted> {
    catch_panics(|| read(path, writer)).map_err(|error| match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked(format!(
            "{} is open in a process of an older version of cohortist. Stop that process first",
            path.display()
        )),
        redb::Error::Io(error) => StoreError::write(path, &error),
        error => StoreError::damaged(path, error),
    })
}

fn read(path: &Path, writer: &mut Writer) -> Result<Converted, redb::Error> {
    let mut database = Database::builder().set_cache_size(64 << 20).open(path)?;
    // Only this call verifies the checksums of the pages.
    if !database.check_integrity()? {
        tracing::warn!("{} was not closed cleanly and was repaired", path.display());
    }
    let transaction = database.begin_read()?;
    let (format, sequence, next_key) = read_meta(&transaction)?;
    // Everything is written in the order of the keys of a segment.
    if let Some(expirations) = existing(transaction.open_table(EXPIRATIONS))? {
        for entry in expirations.iter()? {
            let (key, expires_at) = entry?;
            writer.add(
                &entry_key(EXPIRY, key.value()),
                &number_value(expires_at.value()),
            )?;
        }
    }
    let string_ids = read_string_ids(&transaction)?;
    let first_number = string_ids.partition_point(|(key, _)| key.first() == Some(&ID));
    let (by_id, by_number) = string_ids.split_at(first_number);
    for (key, value) in by_id {
        writer.add(key, value)?;
    }
    let tiles = transaction.open_table(TILES)?;
    let records = convert_records(&transaction, &tiles, writer)?;
    for (key, value) in by_number {
        writer.add(key, value)?;
    }
    if let Some(next_numbers) = existing(transaction.open_table(NEXT_NUMBERS))? {
        for entry in next_numbers.iter()? {
            let (prefix, next) = entry?;
            writer.add(
                &entry_key(NEXT_NUMBER, prefix.value()),
                &number_value(next.value()),
            )?;
        }
    }
    let mut found = 0_u64;
    for entry in tiles.iter()? {
        let (numbers, bytes) = entry?;
        let (bitmap, number) = numbers.value();
        let tile = decode_tile(bytes.value()).ok_or_else(|| damaged_tile(bitmap, number))?;
        writer.add(&tile_key(bitmap, number), &packed::pack(&tile))?;
        found += 1;
    }
    if records.tiles != found {
        return Err(corrupted(format!(
            "its records list {} tiles, but it has {found}",
            records.tiles
        )));
    }
    Ok(Converted {
        format,
        sequence,
        next_key,
        bitmaps: records.bitmaps,
    })
}

/// Reads the format, the sequence number of the last change, and the number of the next bitmap.
fn read_meta(transaction: &ReadTransaction) -> Result<(u64, u64, u64), redb::Error> {
    let meta = transaction.open_table(META)?;
    let number = |name: &str| Ok::<_, redb::Error>(meta.get(name)?.map(|number| number.value()));
    let format = number("format")?
        .filter(|format| FORMATS.contains(format))
        .ok_or_else(|| corrupted("its format is unknown"))?;
    // The first checkpoint wrote the other two.
    let sequence = number("sequence")?.unwrap_or(0);
    let next_key = number("next_key")?.unwrap_or(0);
    Ok((format, sequence, next_key))
}

/// The key and the value of an entry.
type KeyAndValue = (Vec<u8>, Vec<u8>);

/// Returns the entries of all string ids, in ascending order of their keys.
fn read_string_ids(transaction: &ReadTransaction) -> Result<Vec<KeyAndValue>, redb::Error> {
    let mut entries = Vec::new();
    if let Some(string_ids) = existing(transaction.open_table(STRING_IDS))? {
        for entry in string_ids.iter()? {
            let (place, sealed) = entry?;
            let (prefix, user) = place.value();
            let (checksum, id) = sealed.value();
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&user.to_le_bytes());
            hasher.update(id.as_bytes());
            if hasher.finalize() != checksum {
                return Err(corrupted(format!(
                    "the string id of user {user} is damaged"
                )));
            }
            entries.extend(id_entries::id_entries(prefix, id, user));
        }
    }
    entries.sort_unstable();
    Ok(entries)
}

/// How many bitmaps the records describe, and how many tiles they list.
#[derive(Default)]
struct Records {
    bitmaps: u64,
    tiles: u64,
}

/// Converts all records.
fn convert_records(
    transaction: &ReadTransaction,
    tiles: &ReadOnlyTable<(u32, u16), &[u8]>,
    writer: &mut Writer,
) -> Result<Records, redb::Error> {
    let mut records = Records::default();
    for entry in transaction.open_table(KEYS)?.iter()? {
        let (key, bytes) = entry?;
        let key = key.value();
        let old = record::Record::from_bytes(bytes.value())
            .ok_or_else(|| corrupted(format!("the record of {key} is damaged")))?;
        let mut counted = Vec::with_capacity(old.tiles.len());
        for number in &old.tiles {
            let users = match old.users_in(*number) {
                Some(users) => users,
                None => tiles
                    .get((old.number, *number))?
                    .and_then(|bytes| decode_tile(bytes.value()))
                    .ok_or_else(|| damaged_tile(old.number, *number))?
                    .len(),
            };
            counted.push((*number, users));
        }
        records.bitmaps += 1;
        records.tiles += counted.len() as u64;
        let mut value = vec![PRESENT];
        Record::new(old.number, old.len, &counted).write(&mut value);
        writer.add(&entry_key(KEY, key), &value)?;
    }
    Ok(records)
}

fn damaged_tile(bitmap: u32, number: u16) -> redb::Error {
    corrupted(format!("tile {number} of key {bitmap} is damaged"))
}

fn number_value(number: u64) -> Vec<u8> {
    let mut value = vec![PRESENT];
    put_varint(&mut value, number);
    value
}

/// Returns a table, or `None` if it does not exist. Older formats have fewer tables.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
