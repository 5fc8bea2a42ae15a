//! Stores of the formats 1 to 4: a redb file with logs beside it. They are read here once, to be
//! converted.

mod record;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::bitmap::Tile;
use crate::store::embedded::idmap;
use crate::store::embedded::record::Record;
use crate::store::embedded::table::segment::Writer;
use crate::store::embedded::table::{EXPIRY, KEY, PRESENT, packed, put_varint, text_key, tile_key};
use crate::store::{Result, StoreError};

/// The file of these formats.
pub const DATABASE: &str = "bitmaps.redb";

/// Key text → record.
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// (number of the key, number of the tile) → the tile's bytes and their CRC-32.
const TILES: TableDefinition<(u32, u16), &[u8]> = TableDefinition::new("tiles");
/// Key text → when it expires, in milliseconds since 1970.
const LIFETIMES: TableDefinition<&str, u64> = TableDefinition::new("lifetimes");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Prefix → the number its next new text gets.
const ROLLS: TableDefinition<&str, u64> = TableDefinition::new("rolls");
/// (prefix, number) → a checksum, and the text.
const TEXTS: TableDefinition<(&str, u32), (u32, &str)> = TableDefinition::new("texts");

const FORMATS: std::ops::RangeInclusive<u64> = 1..=4;

/// What a file of these formats begins with.
const MAGIC: &[u8] = b"redb";

/// Whether a file is a store, or a backup, of one of these formats.
pub fn is_old(path: &Path) -> bool {
    let mut beginning = [0; MAGIC.len()];
    fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut beginning))
        .is_ok()
        && beginning == MAGIC
}

/// What a converted file was.
pub struct Converted {
    pub format: u64,
    /// The sequence of the last log frame that is in it.
    pub sequence: u64,
    pub next_key: u64,
    /// The number of bitmaps.
    pub keys: u64,
}

/// The users of a tile as these formats stored it; `None` when it is not whole.
fn unseal(bytes: &[u8]) -> Option<Tile> {
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

/// redb panics where it finds its pages in disorder; to us that is an error like any other.
fn shielded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    // Its words are in the error: nothing is printed on this thread.
    let thread = std::thread::current().id();
    let before = Arc::new(std::panic::take_hook());
    let others = Arc::clone(&before);
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != thread {
            others(panic);
        }
    }));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    std::panic::set_hook(Box::new(move |panic| before(panic)));
    outcome.unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(corrupted(format!(
            "its pages are in disorder ({})",
            words.unwrap_or("no details")
        )))
    })
}

fn corrupted(reason: impl Into<String>) -> redb::Error {
    redb::Error::Corrupted(reason.into())
}

/// Reads everything in a file, checks it, and writes it to a segment.
pub fn convert(path: &Path, writer: &mut Writer) -> Result<Converted> {
    let damaged = |reason: String| StoreError::damaged(path, reason);
    match shielded(|| read(path, writer)) {
        Ok(converted) => Ok(converted),
        Err(redb::Error::DatabaseAlreadyOpen) => Err(StoreError::Locked(format!(
            "{} is open in a process of an older version of cohortist: stop that one first",
            path.display()
        ))),
        Err(redb::Error::Io(error)) => Err(StoreError::Write {
            path: path.display().to_string(),
            reason: error.to_string(),
        }),
        Err(error) => Err(damaged(error.to_string())),
    }
}

fn read(path: &Path, writer: &mut Writer) -> Result<Converted, redb::Error> {
    let mut database = Database::builder().set_cache_size(64 << 20).open(path)?;
    // Its pages carry checksums, which nothing else looks at.
    if !database.check_integrity()? {
        tracing::warn!(
            "{} was not closed in order and was repaired",
            path.display()
        );
    }
    let transaction = database.begin_read()?;
    let (mut converted, mut add) = (
        Converted {
            format: 0,
            sequence: 0,
            next_key: 0,
            keys: 0,
        },
        |key: &[u8], value: &[u8]| writer.add(key, value).map_err(redb::Error::Io),
    );
    {
        let meta = transaction.open_table(META)?;
        let number =
            |name: &str| Ok::<_, redb::Error>(meta.get(name)?.map(|number| number.value()));
        converted.format = number("format")?
            .filter(|format| FORMATS.contains(format))
            .ok_or_else(|| corrupted("its format is not known"))?;
        (converted.sequence, converted.next_key) = (
            number("sequence")?.unwrap_or(0),
            number("next_key")?.unwrap_or(0),
        );
    }
    // In the order of the keys of a segment.
    let with_number = |number: u64| {
        let mut value = vec![PRESENT];
        put_varint(&mut value, number);
        value
    };
    if let Some(lifetimes) = there(transaction.open_table(LIFETIMES))? {
        for entry in lifetimes.iter()? {
            let (text, until) = entry?;
            add(&text_key(EXPIRY, text.value()), &with_number(until.value()))?;
        }
    }
    let mut rolls_found: Vec<(String, u64)> = Vec::new();
    if let Some(table) = there(transaction.open_table(ROLLS))? {
        for entry in table.iter()? {
            let (prefix, next) = entry?;
            rolls_found.push((prefix.value().to_owned(), next.value()));
        }
    }
    let mut texts: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    if let Some(table) = there(transaction.open_table(TEXTS))? {
        for entry in table.iter()? {
            let (place, sealed) = entry?;
            let ((prefix, user), (checksum, text)) = (place.value(), sealed.value());
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&user.to_le_bytes());
            hasher.update(text.as_bytes());
            if hasher.finalize() != checksum {
                return Err(corrupted(format!(
                    "the string id of user {user} is not whole"
                )));
            }
            texts.extend(idmap::id_entries(prefix, text, user));
        }
    }
    texts.sort_unstable();
    let (ids, numbers) = texts.split_at(
        texts.partition_point(|(key, _)| key.first() == Some(&crate::store::embedded::table::ID)),
    );
    ids.iter().try_for_each(|(key, value)| add(key, value))?;
    let tiles = transaction.open_table(TILES)?;
    let tile = |number: u32, tile: u16| {
        let bytes = tiles.get((number, tile))?;
        bytes
            .as_ref()
            .and_then(|bytes| unseal(bytes.value()))
            .ok_or_else(|| corrupted(format!("tile {tile} of key {number} is not whole")))
    };
    let keys = transaction.open_table(KEYS)?;
    let mut named = 0_u64;
    for entry in keys.iter()? {
        let (text, bytes) = entry?;
        let old = record::Record::from_bytes(bytes.value())
            .ok_or_else(|| corrupted(format!("the record of {} is not whole", text.value())))?;
        let counted = old.tiles.iter().map(|number| match old.users_in(*number) {
            Some(users) => Ok((*number, users)),
            None => Ok((*number, tile(old.number, *number)?.len())),
        });
        let counted = counted.collect::<Result<Vec<_>, redb::Error>>()?;
        named += counted.len() as u64;
        let mut value = vec![PRESENT];
        Record::new(old.number, old.len, &counted).write(&mut value);
        add(&text_key(KEY, text.value()), &value)?;
        converted.keys += 1;
    }
    numbers
        .iter()
        .try_for_each(|(key, value)| add(key, value))?;
    for (prefix, next) in rolls_found {
        add(
            &text_key(crate::store::embedded::table::ROLL, &prefix),
            &with_number(next),
        )?;
    }
    let mut found = 0_u64;
    for entry in tiles.iter()? {
        let (place, bytes) = entry?;
        let (number, tile) = place.value();
        let bits = unseal(bytes.value())
            .ok_or_else(|| corrupted(format!("tile {tile} of key {number} is not whole")))?;
        add(&tile_key(number, tile), &packed::pack(&bits))?;
        found += 1;
    }
    if named != found {
        return Err(corrupted(format!(
            "its records name {named} tiles, and there are {found}"
        )));
    }
    Ok(converted)
}

fn there<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
