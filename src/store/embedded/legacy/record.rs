//! What these formats knew of a key without its tiles.
//!
//! Written as [`MARK`], a `postcard` of [`Written`], and a CRC-32 of that: the counts in it are
//! shown to people as they are, and a bit that flips on the disk must not become a number. Records
//! from before counts were kept have neither mark nor checksum and are a `postcard` of [`Plain`].

use serde::Deserialize;

/// What no plain record begins with: five such bytes are more than its first number can be.
const MARK: [u8; 5] = [0xff; 5];

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number in the tiles table.
    pub number: u32,
    /// The byte length of its bitmap as Redis would have it.
    pub len: u64,
    /// The numbers of its tiles, ascending.
    pub tiles: Vec<u16>,
    counts: Option<Counts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts {
    /// For each tile how many users are in it, less one: a tile in the file is never empty, and may
    /// be full.
    less_one: Vec<u16>,
}

#[derive(Deserialize)]
struct Plain {
    number: u32,
    len: u64,
    tiles: Vec<u16>,
}

#[derive(Deserialize)]
struct Written {
    number: u32,
    len: u64,
    tiles: Vec<u16>,
    /// `None` when a tile could not be read.
    less_one: Option<Vec<u16>>,
}

impl Record {
    /// How many users are in a tile, if that is known; nobody is in one that is not there.
    pub fn users_in(&self, tile: u16) -> Option<u64> {
        let counts = self.counts.as_ref()?;
        let Ok(place) = self.tiles.binary_search(&tile) else {
            return Some(0);
        };
        counts
            .less_one
            .get(place)
            .map(|less_one| u64::from(*less_one) + 1)
    }

    /// Reads a record; `None` when it is not whole.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Some(sealed) = bytes.strip_prefix(&MARK) else {
            let (Plain { number, len, tiles }, rest) = postcard::take_from_bytes(bytes).ok()?;
            return rest.is_empty().then_some(Record {
                number,
                len,
                tiles,
                counts: None,
            });
        };
        let (payload, checksum) = sealed.split_last_chunk()?;
        (crc32fast::hash(payload) == u32::from_le_bytes(*checksum)).then_some(())?;
        let Written {
            number,
            len,
            tiles,
            less_one,
        } = postcard::from_bytes(payload).ok()?;
        let whole = less_one
            .as_ref()
            .is_none_or(|less_one| less_one.len() == tiles.len());
        whole.then(|| Record {
            number,
            len,
            tiles,
            counts: less_one.map(|less_one| Counts { less_one }),
        })
    }
}
