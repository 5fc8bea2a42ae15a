//! What the file of the last checkpoint knows of a key without its tiles.
//!
//! Written as [`MARK`], a `postcard` of [`Written`], and a CRC-32 of that: the counts in it are shown to people as they
//! are, and a bit that flips on the disk must not become a number. Records from before counts were kept have neither
//! mark nor checksum and are a `postcard` of [`Plain`]; they get their counts when their key is next written.

use serde::{Deserialize, Serialize};

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
    /// For each tile how many users are in it, less one: a tile in the file is never empty, and may be full.
    less_one: Vec<u16>,
    total: u64,
}

#[derive(Deserialize)]
struct Plain {
    number: u32,
    len: u64,
    tiles: Vec<u16>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    number: u32,
    len: u64,
    tiles: Vec<u16>,
    /// `None` when a tile could not be read.
    less_one: Option<Vec<u16>>,
}

impl Record {
    /// A key with these tiles, ascending, and how many users are in each; `None` where nobody knows.
    pub fn new(number: u32, len: u64, tiles: &[(u16, Option<u64>)]) -> Self {
        let less_one = tiles.iter().map(|(_, users)| u16::try_from(users.as_ref()?.checked_sub(1)?).ok()).collect();
        let tiles = tiles.iter().map(|(tile, _)| *tile).collect();
        Record { number, len, tiles, counts: counts(less_one) }
    }

    /// How many users the key has, if that is known.
    pub fn users(&self) -> Option<u64> {
        self.counts.as_ref().map(|counts| counts.total)
    }

    /// How many users are in a tile, if that is known; nobody is in one that is not there.
    pub fn users_in(&self, tile: u16) -> Option<u64> {
        let counts = self.counts.as_ref()?;
        let Ok(place) = self.tiles.binary_search(&tile) else { return Some(0) };
        counts.less_one.get(place).map(|less_one| u64::from(*less_one) + 1)
    }

    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        96 + 2 * self.tiles.len() + self.counts.as_ref().map_or(0, |counts| 2 * counts.less_one.len())
    }

    /// As stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        let less_one = self.counts.as_ref().map(|counts| counts.less_one.clone());
        let written = Written { number: self.number, len: self.len, tiles: self.tiles.clone(), less_one };
        let mut bytes = postcard::to_extend(&written, MARK.to_vec())?;
        bytes.extend(crc32fast::hash(&bytes[MARK.len()..]).to_le_bytes());
        Ok(bytes)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, or wrote before there were counts; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Some(sealed) = bytes.strip_prefix(&MARK) else {
            let (Plain { number, len, tiles }, rest) = postcard::take_from_bytes(bytes).ok()?;
            return rest.is_empty().then_some(Record { number, len, tiles, counts: None });
        };
        let (payload, checksum) = sealed.split_last_chunk()?;
        (crc32fast::hash(payload) == u32::from_le_bytes(*checksum)).then_some(())?;
        let Written { number, len, tiles, less_one } = postcard::from_bytes(payload).ok()?;
        let whole = less_one.as_ref().is_none_or(|less_one| less_one.len() == tiles.len());
        whole.then(|| Record { number, len, tiles, counts: counts(less_one) })
    }
}

fn counts(less_one: Option<Vec<u16>>) -> Option<Counts> {
    let less_one = less_one?;
    let total = less_one.iter().map(|less_one| u64::from(*less_one) + 1).sum();
    Some(Counts { less_one, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(300, 8192 * 66, &[(0, Some(1)), (7, Some(65_536)), (65, Some(400)), (900, Some(3))])
    }

    #[test]
    fn counts_are_kept_and_found_again() {
        let read = Record::from_bytes(&record().to_bytes().unwrap()).unwrap();
        assert_eq!(read, record());
        assert_eq!((read.users(), read.users_in(7), read.users_in(8)), (Some(65_940), Some(65_536), Some(0)));
        let unknown = Record::new(1, 1, &[(0, Some(1)), (7, None)]);
        assert_eq!((unknown.users(), unknown.users_in(0), unknown.users_in(8)), (None, None, None));
        assert_eq!(Record::from_bytes(&unknown.to_bytes().unwrap()).unwrap(), unknown);
        assert_eq!(Record::new(1, 1, &[]).users(), Some(0));
    }

    #[test]
    fn records_from_before_there_were_counts_are_read() {
        for number in [0, 300, u32::MAX] {
            let plain = postcard::to_stdvec(&(number, 77_u64, vec![3_u16, 900])).unwrap();
            let read = Record::from_bytes(&plain).unwrap();
            assert_eq!((read.number, read.len, &read.tiles[..], read.users()), (number, 77, &[3, 900][..], None));
        }
    }

    #[test]
    fn no_bit_that_flips_goes_unnoticed() {
        let bytes = record().to_bytes().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::from_bytes(&flipped), None, "bit {bit}");
        }
        (0..bytes.len()).for_each(|end| assert_eq!(Record::from_bytes(&bytes[..end]), None, "cut at {end}"));
    }
}
