//! The record of a bitmap in the older formats.
//!
//! A record is [`MARK`], a [`WithCounts`] in `postcard` encoding, and a CRC-32 of that. The
//! checksum protects the counts, which are used without reading the tiles. The oldest records have
//! no counts: they are a [`WithoutCounts`] in `postcard` encoding, with neither mark nor checksum.

use serde::Deserialize;

/// The first bytes of a record with counts. A record without counts cannot start with them, because
/// they would be a first number that is too large.
const MARK: [u8; 5] = [0xff; 5];

/// The record of one bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The number of the bitmap in the keys of its tiles.
    pub number: u32,
    /// The length of the bitmap in bytes, as in Redis.
    pub len: u64,
    /// The numbers of its tiles, ascending.
    pub tiles: Vec<u16>,
    /// The number of users in each tile, minus one, if the record has counts.
    less_one: Option<Vec<u16>>,
}

#[derive(Deserialize)]
struct WithoutCounts {
    number: u32,
    len: u64,
    tiles: Vec<u16>,
}

#[derive(Deserialize)]
struct WithCounts {
    number: u32,
    len: u64,
    tiles: Vec<u16>,
    /// `None` if a tile could not be read when the record was written.
    less_one: Option<Vec<u16>>,
}

impl Record {
    /// Returns the number of users in a tile that the record lists, or `None` if the record has no
    /// counts.
    pub fn users_in(&self, tile: u16) -> Option<u64> {
        let less_one = self.less_one.as_ref()?;
        let index = self.tiles.binary_search(&tile).ok()?;
        Some(u64::from(less_one[index]) + 1)
    }

    /// Reads a record. Returns `None` if it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Some(sealed) = bytes.strip_prefix(&MARK) else {
            let (record, rest) = postcard::take_from_bytes::<WithoutCounts>(bytes).ok()?;
            return rest.is_empty().then_some(Record {
                number: record.number,
                len: record.len,
                tiles: record.tiles,
                less_one: None,
            });
        };
        let (payload, checksum) = sealed.split_last_chunk()?;
        if crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let record: WithCounts = postcard::from_bytes(payload).ok()?;
        let is_complete = record
            .less_one
            .as_ref()
            .is_none_or(|less_one| less_one.len() == record.tiles.len());
        is_complete.then_some(Record {
            number: record.number,
            len: record.len,
            tiles: record.tiles,
            less_one: record.less_one,
        })
    }
}
