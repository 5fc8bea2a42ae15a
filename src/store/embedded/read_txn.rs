//! A read transaction: all bitmaps as they were at one moment.

use std::sync::Arc;

use crate::bitmap::{TILE_BYTES, Tile, split, user};
use crate::sets::UserId;
use crate::store::embedded::key_index::KeyIndex;
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::table_cache::Reader;
use crate::store::{Result, Snapshot};

/// A read transaction: all bitmaps as they were at one moment.
#[derive(Clone, Copy)]
pub struct ReadTxn<'a> {
    pub(super) memtables: &'a Memtables,
    pub(super) reader: Option<&'a Reader<'a>>,
}

impl<'a> ReadTxn<'a> {
    /// Returns whether a bitmap of that name exists.
    ///
    /// # Errors
    /// Like all methods here, returns an error if the store cannot be read.
    pub fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.memtables.view(key, self.reader)?.exists)
    }

    /// Returns the byte length of a bitmap, or 0 if there is none.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn len(&self, key: &str) -> Result<u64> {
        Ok(self.memtables.view(key, self.reader)?.len)
    }

    /// Returns one bit.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn bit(&self, key: &str, user: UserId) -> Result<bool> {
        self.memtables
            .view(key, self.reader)?
            .contains(user, self.reader)
    }

    /// Returns how many bits are set from `first` to `last`, both included.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn count(&self, key: &str, first: UserId, last: UserId) -> Result<u64> {
        let view = self.memtables.view(key, self.reader)?;
        let (from, from_place) = split(first);
        let (to, to_place) = split(last);
        let mut total = 0;
        for number in view
            .tiles()
            .iter()
            .copied()
            .filter(|number| (from..=to).contains(number))
        {
            let tile = view.tile(number, self.reader)?;
            let start = if number == from { from_place } else { 0 };
            let end = if number == to { to_place } else { u16::MAX };
            total += if (start, end) == (0, u16::MAX) {
                tile.len()
            } else {
                tile.count_between(start, end)
            };
        }
        Ok(total)
    }

    /// Finds the first bit with a value from `first` to `last`, both included. Bits beyond the end
    /// of the bitmap are 0.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn position(
        &self,
        key: &str,
        value: bool,
        first: UserId,
        last: UserId,
    ) -> Result<Option<UserId>> {
        let view = self.memtables.view(key, self.reader)?;
        let (from, from_place) = split(first);
        let (to, _) = split(last);
        let numbers = view.tiles();
        let find_in = |number: u16, tile: &Tile| {
            let start = if number == from { from_place } else { 0 };
            let found = user(number, tile.first(start, value)?);
            (found <= last).then_some(found)
        };
        if value {
            // Tiles without users need not be searched.
            let range = from..=to;
            for number in numbers.iter().filter(|number| range.contains(number)) {
                let tile = view.tile(*number, self.reader)?;
                if let Some(found) = find_in(*number, &tile) {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        for number in from..=to {
            let tile = match numbers.binary_search(&number) {
                Ok(_) => view.tile(number, self.reader)?,
                Err(_) => Arc::default(),
            };
            if let Some(found) = find_in(number, &tile) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns the whole bitmap, which shares memory with the store, or `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn snapshot(&self, key: &str) -> Result<Option<Snapshot>> {
        let view = self.memtables.view(key, self.reader)?;
        if !view.exists {
            return Ok(None);
        }
        let numbers = view.tiles();
        let tiles = numbers
            .iter()
            .map(|number| Ok((*number, view.tile(*number, self.reader)?)));
        Ok(Some(Snapshot {
            len: view.len,
            tiles: tiles.collect::<Result<_>>()?,
        }))
    }

    /// Like [`snapshot`](Self::snapshot), but only with the bytes from `first` to `last`, both
    /// included. All other bytes may be missing. Returns an empty bitmap if there is none.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn part(&self, key: &str, first: u64, last: u64) -> Result<Snapshot> {
        let view = self.memtables.view(key, self.reader)?;
        let numbers = view.tiles();
        let within =
            |number: &&u16| (first / TILE_BYTES..=last / TILE_BYTES).contains(&u64::from(**number));
        let tiles = numbers
            .iter()
            .filter(within)
            .map(|number| Ok((*number, view.tile(*number, self.reader)?)));
        Ok(Snapshot {
            len: view.len,
            tiles: tiles.collect::<Result<_>>()?,
        })
    }

    /// Returns when a bitmap expires, in milliseconds since 1970, or `None` if it never does.
    pub fn expires_at(&self, key: &str) -> Option<u64> {
        self.memtables.expirations.of(key)
    }

    /// Returns the number of bitmaps that have an expiry time.
    pub fn expiring(&self) -> usize {
        self.memtables.expirations.len()
    }

    /// Returns all keys.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn keys(&self) -> Result<&'a KeyIndex> {
        self.memtables.index(self.reader)
    }
}
