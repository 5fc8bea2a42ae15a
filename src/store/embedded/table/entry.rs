//! Entries of the table: their kinds and their keys.

use crate::store::embedded::record::Record;

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
