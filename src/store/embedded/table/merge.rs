//! Merges the entries of several segments. Newer entries take precedence over older ones.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::store::embedded::idmap::{self, IdEntry};
use crate::store::embedded::record::Record;
use crate::store::embedded::table::packed::Packed;
use crate::store::embedded::table::segment::{Cursor, REMOVED, Segment};
use crate::store::embedded::table::{EXPIRY, ID, Input, KEY, ROLL, TEXT, TILE, Version, tile_of};
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
        let path = self
            .cursors
            .first()
            .map(|cursor| cursor.path().to_owned())
            .unwrap_or_default();
        StoreError::damaged(
            &path,
            format!(
                "the entry {} cannot be read",
                self.merged.key.escape_ascii()
            ),
        )
    }
}

/// The string ids of one prefix, in both directions: from string ids to numbers, and from numbers
/// to string ids.
#[derive(Debug, Default)]
struct Ids {
    /// The number of entries in each direction, and a checksum of them that does not depend on
    /// their order.
    by_text: (u64, u64),
    by_number: (u64, u64),
    greatest: Option<u64>,
    /// The number of the next new string id.
    next: Option<u64>,
}

impl Ids {
    /// Counts an entry under its prefix. Returns `None` if the entry cannot be read.
    fn count(ids: &mut BTreeMap<String, Ids>, key: &[u8], value: &[u8]) -> Option<()> {
        let (prefix, entry) = idmap::read_entry(key, value)?;
        let found = ids.entry(prefix).or_default();
        let (way, number, text) = match entry {
            IdEntry::Next(next) => {
                found.next = Some(next);
                return Some(());
            }
            IdEntry::ByText(text, number) => (&mut found.by_text, number, text),
            IdEntry::ByNumber(number, text) => (&mut found.by_number, number, text),
        };
        let mut hasher = DefaultHasher::new();
        (number, text).hash(&mut hasher);
        *way = (way.0 + 1, way.1.wrapping_add(hasher.finish()));
        found.greatest = found.greatest.max(Some(number.into()));
        Some(())
    }

    /// Returns whether both directions agree and no number will be assigned again.
    fn agree(&self) -> bool {
        self.by_text == self.by_number
            && self
                .greatest
                .is_none_or(|greatest| self.next.is_some_and(|next| greatest < next))
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (texts, numbers) = (self.by_text.0, self.by_number.0);
        match (self.greatest, self.next) {
            _ if texts != numbers => {
                write!(
                    f,
                    "{texts} string ids map to numbers, but {numbers} numbers map to string ids"
                )
            }
            _ if self.by_text.1 != self.by_number.1 => {
                f.write_str("the two directions of the mapping disagree")
            }
            (Some(greatest), Some(next)) => write!(
                f,
                "number {greatest} is in use, but the next new number is {next}"
            ),
            (_, _) => f.write_str("the next number is missing"),
        }
    }
}

/// Reads and checks everything in a version. Each tile must be listed in a record, and have the
/// number of users given there.
pub fn check(version: &Version) -> Result<u64> {
    let path = version
        .segments()
        .first()
        .map(|segment| segment.path().to_owned())
        .unwrap_or_default();
    let mut merge = version.merge(&[])?;
    let mut keys = 0;
    // The number of users, minus one, that each tile must have, by the numbers of the key and the
    // tile.
    let mut named: Vec<((u32, u16), u16)> = Vec::new();
    let mut seen = 0;
    let mut ids: BTreeMap<String, Ids> = BTreeMap::new();
    while let Some(entry) = merge.next()? {
        match entry.key.first() {
            Some(&(ID | TEXT | ROLL)) => {
                let readable = Ids::count(
                    &mut ids,
                    &entry.key,
                    entry.value.get(1..).unwrap_or_default(),
                );
                if readable.is_none() {
                    return Err(StoreError::damaged(
                        &path,
                        format!("the string id {} cannot be read", entry.key.escape_ascii()),
                    ));
                }
            }
            Some(&EXPIRY) => {
                let is_readable = std::str::from_utf8(&entry.key[1..]).is_ok()
                    && entry
                        .value
                        .get(1..)
                        .is_some_and(|value| Input(value).varint().is_some());
                if !is_readable {
                    return Err(StoreError::damaged(
                        &path,
                        format!(
                            "the expiry time {} cannot be read",
                            entry.key.escape_ascii()
                        ),
                    ));
                }
            }
            Some(&KEY) => {
                let shown = || String::from_utf8_lossy(&entry.key[1..]).into_owned();
                let record = entry.value.get(1..).and_then(Record::read);
                let record = record.ok_or_else(|| {
                    StoreError::damaged(&path, format!("the record of {} cannot be read", shown()))
                })?;
                keys += 1;
                named.extend(
                    record
                        .counted()
                        .map(|(tile, less_one)| ((record.number, tile), less_one)),
                );
            }
            Some(&TILE) => {
                if seen == 0 {
                    named.sort_unstable();
                }
                let place = tile_of(&entry.key);
                let users = match Packed::read(&entry.value) {
                    Some(Packed::Whole(tile)) => tile.len(),
                    _ => 0,
                };
                let as_named = named.get(seen).is_some_and(|(at, less_one)| {
                    Some(*at) == place && users == u64::from(*less_one) + 1
                });
                if !as_named {
                    let wanted = named.get(seen).map_or(
                        "no more tiles".to_owned(),
                        |((key, tile), less_one)| {
                            format!(
                                "tile {tile} of key {key} with {} users",
                                u64::from(*less_one) + 1
                            )
                        },
                    );
                    let found = place.map_or("another entry".to_owned(), |(key, tile)| {
                        format!("tile {tile} of key {key} with {users} users")
                    });
                    return Err(StoreError::damaged(
                        &path,
                        format!("its records name {wanted}, and there is {found}"),
                    ));
                }
                seen += 1;
            }
            _ => {}
        }
    }
    if let Some((prefix, ids)) = ids.iter().find(|(_, ids)| !ids.agree()) {
        return Err(StoreError::damaged(
            &path,
            format!("the string ids under `{prefix}` are not whole: {ids}"),
        ));
    }
    match named.get(seen) {
        Some(((key, tile), _)) => Err(StoreError::damaged(
            &path,
            format!("tile {tile} of key {key} is missing"),
        )),
        None => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::table::Entry;
    use crate::store::embedded::table::segment::Writer;

    fn checked(entries: &[Entry]) -> Result<u64> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment-1");
        let mut entries = entries.to_vec();
        entries.sort_unstable();
        let mut writer = Writer::create(&path, 7, 1).unwrap();
        entries
            .iter()
            .for_each(|(key, value)| writer.add(key, value.as_deref().unwrap()).unwrap());
        writer.finish(1).unwrap();
        Version::of(Segment::open_any(&path).unwrap()).check()
    }

    #[test]
    fn string_ids_agree_in_both_directions() {
        let ids = |text: &str, number| {
            idmap::id_entries("p_", text, number).map(|(key, value)| (key, Some(value)))
        };
        let [ann, ann_back] = ids("ann", 0);
        let [bob, bob_back] = ids("bob", 1);
        let [cyd, bob_again] = ids("cyd", 1);
        let next = |number| idmap::next_entry("p_", number);
        let whole = [
            ann.clone(),
            ann_back.clone(),
            bob.clone(),
            bob_back.clone(),
            next(2),
        ];
        assert_eq!(checked(&whole).unwrap(), 0);
        assert_eq!(checked(&[]).unwrap(), 0);
        assert_eq!(checked(&[next(5)]).unwrap(), 0);
        for (what, entries) in [
            (
                "a text without its number",
                vec![ann.clone(), ann_back.clone(), bob.clone(), next(2)],
            ),
            (
                "a number without its text",
                vec![ann.clone(), ann_back.clone(), bob_back.clone(), next(2)],
            ),
            (
                "another text",
                vec![
                    ann.clone(),
                    ann_back.clone(),
                    bob.clone(),
                    bob_again,
                    next(2),
                ],
            ),
            (
                "a number twice",
                vec![
                    ann.clone(),
                    ann_back.clone(),
                    bob.clone(),
                    cyd,
                    bob_back.clone(),
                    next(2),
                ],
            ),
            (
                "a number that is given again",
                [&whole[..4], &[next(1)]].concat(),
            ),
            ("no next number", whole[..4].to_vec()),
        ] {
            let error = checked(&entries).unwrap_err().to_string();
            assert!(error.contains("string ids under `p_`"), "{what}: {error}");
        }
    }
}
