//! The segments of a table at one moment, and reads of them.

use std::sync::Arc;

use crate::bitmap::Tile;
use crate::store::embedded::table::entry::{contents, tile_key};
use crate::store::embedded::table::merge::Merge;
use crate::store::embedded::table::packed::Packed;
use crate::store::embedded::table::segment::{Blocks, LastBlock, REMOVED, Segment};
use crate::store::{Result, StoreError};

/// The segments of a table at one moment.
pub struct Version {
    /// From the oldest to the newest.
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) blocks: Arc<Blocks>,
}

impl Version {
    /// Passes the contents of the entry with a key to `read`, and returns the result. Returns
    /// `None` if there is no such entry. The key must not be the key of a tile.
    ///
    /// # Errors
    /// Returns an error if `read` returns `None`, or if the files are damaged.
    pub fn get<T>(&self, key: &[u8], read: impl FnMut(&[u8]) -> Option<T>) -> Result<Option<T>> {
        self.lookup().get(key, read)
    }

    /// Returns a lookup for several keys. A key close to the previous one takes little work.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup {
            version: self,
            last: vec![None; self.segments.len()],
        }
    }

    /// Returns a tile of a bitmap, or `None` if the bitmap has no tile of that number.
    pub fn tile(&self, number: u32, tile: u16) -> Result<Option<Tile>> {
        let key = tile_key(number, tile);
        // The changes above the whole tile, newest first.
        let mut changes = Vec::new();
        let mut whole = None;
        for segment in self.segments.iter().rev() {
            let found = segment.get(&key, &self.blocks, |value| match value {
                [REMOVED] => Some(None),
                value => Packed::read(value).map(Some),
            })?;
            match found {
                None => {}
                Some(None) => {
                    return Err(StoreError::damaged(
                        segment.path(),
                        format!("tile {tile} of key {number} cannot be read"),
                    ));
                }
                Some(Some(None)) => break,
                Some(Some(Some(change @ Packed::Change { .. }))) => changes.push(change),
                Some(Some(Some(tile))) => {
                    whole = Some(tile);
                    break;
                }
            }
        }
        let tile = changes
            .into_iter()
            .rev()
            .fold(whole, |below, change| Some(change.over(below)));
        Ok(tile.map(|tile| match tile {
            Packed::Whole(tile) => tile.compact(),
            Packed::Change { .. } => unreachable!("a change over anything is whole"),
        }))
    }

    /// Returns approximately how many bytes of the files the entries with a key take.
    pub fn stored(&self, key: &[u8]) -> Result<u64> {
        let mut bytes = 0;
        for segment in &self.segments {
            bytes += segment.stored(key, &self.blocks)?;
        }
        Ok(bytes)
    }

    /// Iterates over all entries from a key on.
    pub fn merge(&self, from: &[u8]) -> Result<Merge> {
        Merge::new(&self.segments, from, true)
    }

    /// Passes each entry whose key starts with `start` to `each`, until `each` returns `false`.
    /// `each` receives the rest of the key, and the contents of the entry.
    pub fn visit(
        &self,
        start: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut merge = self.merge(start)?;
        while let Some(entry) = merge.next()? {
            let Some(rest) = entry.key.strip_prefix(start) else {
                break;
            };
            if !each(rest, contents(&entry.value))? {
                break;
            }
        }
        Ok(())
    }

    /// Creates a version of a single segment, such as a backup.
    pub fn of(segment: Segment) -> Version {
        Version {
            segments: vec![Arc::new(segment)],
            blocks: Arc::new(Blocks::new(1 << 20)),
        }
    }

    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// Returns the total size of the files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.info().bytes)
            .sum()
    }
}

/// Looks up keys, one after the other.
pub struct Lookup<'v> {
    pub(super) version: &'v Version,
    /// The last block used in each segment, from the oldest to the newest.
    pub(super) last: Vec<LastBlock>,
}

impl Lookup<'_> {
    /// Like [`Version::get`].
    pub fn get<T>(
        &mut self,
        key: &[u8],
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        for (segment, last) in self.version.segments.iter().zip(&mut self.last).rev() {
            let found = segment.get_from(last, key, &self.version.blocks, |value| {
                match value.split_first() {
                    Some((&REMOVED, _)) => Some(None),
                    Some((_, value)) => read(value).map(Some),
                    None => None,
                }
            })?;
            if let Some(found) = found {
                return found
                    .ok_or_else(|| StoreError::damaged(segment.path(), "an entry cannot be read"));
            }
        }
        Ok(None)
    }
}
