//! The record of a bitmap in the table: everything about the bitmap except its tiles.

use crate::store::embedded::table::{Input, put_varint};

/// The record of one bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The number of the bitmap in the keys of its tiles.
    pub number: u32,
    /// The length of the bitmap in bytes as in Redis, or [`EMPTY`](super::overlay::EMPTY).
    pub len: u64,
    /// The numbers of its tiles, in ascending order.
    pub tiles: Vec<u16>,
    /// The number of users in each tile, minus one: a stored tile is never empty and may be full.
    less_one: Vec<u16>,
    users: u64,
}

impl Record {
    /// Creates the record of a bitmap from its tiles, in ascending order, and the number of users
    /// in each: from 1 to 65,536.
    pub fn new(number: u32, len: u64, tiles: &[(u16, u64)]) -> Self {
        let less_one = |users: u64| {
            u16::try_from(users - 1).expect("a tile that is stored has 1 to 65,536 users")
        };
        Record {
            number,
            len,
            tiles: tiles.iter().map(|(tile, _)| *tile).collect(),
            less_one: tiles.iter().map(|(_, users)| less_one(*users)).collect(),
            users: tiles.iter().map(|(_, users)| users).sum(),
        }
    }

    /// Returns the number of users in the bitmap.
    pub fn users(&self) -> u64 {
        self.users
    }

    /// Returns the number of users in a tile, or 0 if the tile does not exist.
    pub fn users_in(&self, tile: u16) -> u64 {
        self.tiles
            .binary_search(&tile)
            .map_or(0, |index| u64::from(self.less_one[index]) + 1)
    }

    /// Iterates over the tiles, each with its number of users minus one.
    pub fn tiles_less_one(&self) -> impl Iterator<Item = (u16, u16)> {
        self.tiles
            .iter()
            .copied()
            .zip(self.less_one.iter().copied())
    }

    /// Returns approximately how many bytes of memory the record takes.
    pub fn memory(&self) -> usize {
        96 + 4 * self.tiles.len()
    }

    /// Appends the record as stored: number, length, and number of tiles as varints; the distance
    /// of each tile from the previous one, minus one, as a varint; for each tile its number of
    /// users, minus one, as a varint. [`EMPTY`](super::overlay::EMPTY) is stored as length 0.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.number.into());
        put_varint(bytes, self.len.wrapping_add(1));
        put_varint(bytes, self.tiles.len() as u64);
        let mut next = 0;
        for tile in &self.tiles {
            put_varint(bytes, u64::from(*tile) - next);
            next = u64::from(*tile) + 1;
        }
        self.less_one
            .iter()
            .for_each(|less_one| put_varint(bytes, (*less_one).into()));
    }

    /// Reads what [`write`](Self::write) wrote. Returns `None` for anything else.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let number = u32::try_from(input.varint()?).ok()?;
        let len = input.varint()?.wrapping_sub(1);
        let count = input.len().filter(|count| *count <= bytes.len())?;
        let mut tiles = Vec::with_capacity(count);
        let mut next = 0_u64;
        for _ in 0..count {
            let tile = u16::try_from(next.checked_add(input.varint()?)?).ok()?;
            tiles.push(tile);
            next = u64::from(tile) + 1;
        }
        let mut less_one = Vec::with_capacity(count);
        for _ in 0..count {
            less_one.push(u16::try_from(input.varint()?).ok()?);
        }
        let users = less_one
            .iter()
            .map(|less_one| u64::from(*less_one) + 1)
            .sum();
        input.is_empty().then_some(Record {
            number,
            len,
            tiles,
            less_one,
            users,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::embedded::overlay::EMPTY;

    proptest! {
        #[test]
        fn a_record_reads_back(
            number: u32, len in prop_oneof![any::<u32>().prop_map(u64::from), Just(EMPTY)],
            tiles in prop::collection::btree_map(any::<u16>(), 1_u64..=65_536, 0..20),
        ) {
            let tiles: Vec<(u16, u64)> = tiles.into_iter().collect();
            let record = Record::new(number, len, &tiles);
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            prop_assert_eq!(Record::read(&bytes), Some(record.clone()));
            prop_assert_eq!(record.users(), tiles.iter().map(|(_, users)| users).sum::<u64>());
            for (tile, users) in &tiles {
                prop_assert_eq!(record.users_in(*tile), *users);
            }
            for end in 0..bytes.len() {
                prop_assert_eq!(Record::read(&bytes[..end]), None);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Record::read(&bytes);
        }
    }

    #[test]
    fn a_small_bitmap_takes_few_bytes() {
        let mut bytes = Vec::new();
        Record::new(300, 250, &[(0, 12)]).write(&mut bytes);
        assert_eq!(bytes, [0xac, 2, 0xfb, 1, 1, 0, 11]);
    }
}
