//! Merges the entries of several segments. Newer entries take precedence over older ones.

use std::sync::Arc;

use crate::store::embedded::table::entry::TILE;
use crate::store::embedded::table::packed::Packed;
use crate::store::embedded::table::segment::{Cursor, REMOVED, Segment};
use crate::store::{Result, StoreError};

/// Iterates over the entries of adjacent segments in ascending key order.
pub struct Merge {
    /// From the oldest to the newest.
    cursors: Vec<Cursor>,
    /// Whether the oldest segment of all is among them. If it is, removals are left out.
    is_bottom: bool,
    merged: Merged,
}

/// The merged entry of one key.
#[derive(Debug, Default)]
pub struct Merged {
    pub key: Vec<u8>,
    /// The value as stored.
    pub value: Vec<u8>,
}

impl Merge {
    pub fn new(segments: &[Arc<Segment>], from: &[u8], is_bottom: bool) -> Result<Self> {
        let cursors = segments
            .iter()
            .map(|segment| Cursor::at(segment, from))
            .collect::<Result<_>>()?;
        Ok(Merge {
            cursors,
            is_bottom,
            merged: Merged::default(),
        })
    }

    /// Returns the next entry.
    pub fn next(&mut self) -> Result<Option<&Merged>> {
        loop {
            let Some(least) = self.cursors.iter().filter_map(Cursor::key).min() else {
                return Ok(None);
            };
            self.merged.key.clear();
            self.merged.key.extend_from_slice(least);
            if self.merge_one()? {
                return Ok(Some(&self.merged));
            }
        }
    }

    /// Merges what the segments hold for the current key. Returns whether there is an entry to
    /// return.
    fn merge_one(&mut self) -> Result<bool> {
        let is_tile = self.merged.key.first() == Some(&TILE);
        // The changes above the newest whole value, newest first.
        let mut changes: Vec<Packed> = Vec::new();
        let mut is_found = false;
        for cursor in self.cursors.iter_mut().rev() {
            if cursor.key() != Some(&self.merged.key) {
                continue;
            }
            if !is_found && let Some(value) = cursor.value() {
                match is_tile.then(|| Packed::change(value)).flatten() {
                    Some(change) => changes.push(change),
                    None => {
                        is_found = true;
                        self.merged.value.clear();
                        self.merged.value.extend_from_slice(value);
                    }
                }
            }
            cursor.advance()?;
        }
        if !changes.is_empty() {
            let below = match &self.merged.value[..] {
                _ if !is_found => None,
                [REMOVED] => Some(Packed::Whole(Default::default())),
                value => Some(Packed::read(value).ok_or_else(|| self.unreadable())?),
            };
            let packed = changes
                .into_iter()
                .rev()
                .fold(below, |below, change| match below {
                    // The value below the oldest of these segments is unknown here.
                    None if !self.is_bottom => Some(change),
                    below => Some(change.over(below)),
                });
            self.merged.value = match packed {
                Some(Packed::Whole(tile)) if tile.is_empty() => vec![REMOVED],
                Some(packed) => packed.to_bytes(),
                None => unreachable!("there was a change"),
            };
        }
        Ok(!(self.is_bottom && self.merged.value == [REMOVED]))
    }

    fn unreadable(&self) -> StoreError {
        let oldest = self.cursors.first().expect("an entry is in a segment");
        StoreError::damaged(
            oldest.path(),
            format!(
                "the entry {} cannot be read",
                self.merged.key.escape_ascii()
            ),
        )
    }
}
