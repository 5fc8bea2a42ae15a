//! Checks that the entries of a version are valid and agree with each other.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::store::embedded::id_entries::{self, IdEntry};
use crate::store::embedded::record::Record;
use crate::store::embedded::table::codec::Input;
use crate::store::embedded::table::entry::{
    EXPIRY, ID, KEY, NEXT_NUMBER, NUMBER, TILE, contents, tile_of,
};
use crate::store::embedded::table::merge::Merged;
use crate::store::embedded::table::packed::Packed;
use crate::store::embedded::table::version::Version;
use crate::store::{Result, StoreError};

impl Version {
    /// Reads every block and every tile, and checks that everything listed in the records exists,
    /// and nothing else. Returns the number of bitmaps.
    pub fn check(&self) -> Result<u64> {
        check(self)
    }
}

/// Reads and checks all entries of a version. Each tile must be listed in a record, and have the
/// number of users given there. Returns the number of bitmaps.
pub fn check(version: &Version) -> Result<u64> {
    let mut checker = Checker {
        version,
        bitmaps: 0,
        listed: Vec::new(),
        seen: 0,
        ids: BTreeMap::new(),
    };
    let mut merge = version.merge(&[])?;
    while let Some(entry) = merge.next()? {
        match entry.key.first() {
            Some(&(ID | NUMBER | NEXT_NUMBER)) => checker.string_id(entry)?,
            Some(&EXPIRY) => checker.expiry(entry)?,
            Some(&KEY) => checker.record(entry)?,
            Some(&TILE) => checker.tile(entry)?,
            _ => {}
        }
    }
    checker.finish()
}

/// What the entries so far contain. Records come before tiles.
struct Checker<'a> {
    version: &'a Version,
    bitmaps: u64,
    /// The tiles that the records list, by the numbers of the bitmap and the tile, and the number
    /// of users of each, minus one.
    listed: Vec<((u32, u16), u16)>,
    /// How many of the listed tiles were seen.
    seen: usize,
    ids: BTreeMap<String, Ids>,
}

impl Checker<'_> {
    fn damaged(&self, reason: String) -> StoreError {
        let oldest = self.version.segments().first();
        StoreError::damaged(oldest.expect("an entry is in a segment").path(), reason)
    }

    fn string_id(&mut self, entry: &Merged) -> Result<()> {
        Ids::count(&mut self.ids, entry).ok_or_else(|| {
            let key = entry.key.escape_ascii();
            self.damaged(format!("the string id {key} cannot be read"))
        })
    }

    fn expiry(&self, entry: &Merged) -> Result<()> {
        if std::str::from_utf8(&entry.key[1..]).is_ok()
            && Input(contents(&entry.value)).varint().is_some()
        {
            return Ok(());
        }
        let key = entry.key.escape_ascii();
        Err(self.damaged(format!("the expiry time {key} cannot be read")))
    }

    fn record(&mut self, entry: &Merged) -> Result<()> {
        let record = Record::read(contents(&entry.value)).ok_or_else(|| {
            let key = String::from_utf8_lossy(&entry.key[1..]);
            self.damaged(format!("the record of {key} cannot be read"))
        })?;
        self.bitmaps += 1;
        self.listed.extend(
            record
                .tiles_less_one()
                .map(|(tile, less_one)| ((record.number, tile), less_one)),
        );
        Ok(())
    }

    fn tile(&mut self, entry: &Merged) -> Result<()> {
        if self.seen == 0 {
            self.listed.sort_unstable();
        }
        let numbers = tile_of(&entry.key);
        let users = match Packed::read(&entry.value) {
            Some(Packed::Whole(tile)) => tile.len(),
            _ => 0,
        };
        let expected = self.listed.get(self.seen);
        let is_listed = expected.is_some_and(|(listed, less_one)| {
            Some(*listed) == numbers && users == u64::from(*less_one) + 1
        });
        if is_listed {
            self.seen += 1;
            return Ok(());
        }
        let wanted = match expected {
            Some(((bitmap, tile), less_one)) => {
                let users = u64::from(*less_one) + 1;
                format!("tile {tile} of key {bitmap} with {users} users")
            }
            None => "no more tiles".to_owned(),
        };
        let found = match numbers {
            Some((bitmap, tile)) => format!("tile {tile} of key {bitmap} with {users} users"),
            None => "another entry".to_owned(),
        };
        Err(self.damaged(format!("its records list {wanted}, but it has {found}")))
    }

    fn finish(self) -> Result<u64> {
        if let Some((prefix, ids)) = self.ids.iter().find(|(_, ids)| !ids.agree()) {
            return Err(self.damaged(format!(
                "the string ids under `{prefix}` are inconsistent: {ids}"
            )));
        }
        match self.listed.get(self.seen) {
            Some(((bitmap, tile), _)) => {
                Err(self.damaged(format!("tile {tile} of key {bitmap} is missing")))
            }
            None => Ok(self.bitmaps),
        }
    }
}

/// The entries of string ids in one direction.
#[derive(Debug, Default, PartialEq, Eq)]
struct Direction {
    entries: u64,
    /// A checksum of the entries that does not depend on their order.
    checksum: u64,
}

/// The string ids of one prefix, in both directions: from string ids to numbers, and from numbers
/// to string ids.
#[derive(Debug, Default)]
struct Ids {
    by_id: Direction,
    by_number: Direction,
    /// The greatest number.
    greatest: Option<u64>,
    /// The number of the next new string id.
    next: Option<u64>,
}

impl Ids {
    /// Counts an entry under its prefix. Returns `None` if the entry cannot be read.
    fn count(ids: &mut BTreeMap<String, Ids>, entry: &Merged) -> Option<()> {
        let (prefix, entry) = id_entries::read_entry(&entry.key, contents(&entry.value))?;
        let found = ids.entry(prefix).or_default();
        let (direction, number, id) = match entry {
            IdEntry::Next(next) => {
                found.next = Some(next);
                return Some(());
            }
            IdEntry::ById(id, number) => (&mut found.by_id, number, id),
            IdEntry::ByNumber(number, id) => (&mut found.by_number, number, id),
        };
        let mut hasher = DefaultHasher::new();
        (number, id).hash(&mut hasher);
        direction.entries += 1;
        direction.checksum = direction.checksum.wrapping_add(hasher.finish());
        found.greatest = found.greatest.max(Some(number.into()));
        Some(())
    }

    /// Returns whether both directions agree and no number will be assigned again.
    fn agree(&self) -> bool {
        self.by_id == self.by_number
            && self
                .greatest
                .is_none_or(|greatest| self.next.is_some_and(|next| greatest < next))
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.by_id.entries;
        let numbers = self.by_number.entries;
        match (self.greatest, self.next) {
            _ if ids != numbers => {
                write!(
                    f,
                    "{ids} string ids map to numbers, but {numbers} numbers map to string ids"
                )
            }
            _ if self.by_id.checksum != self.by_number.checksum => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::table::Entry;
    use crate::store::embedded::table::segment::{Segment, Writer};

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
    fn string_ids_must_agree_in_both_directions() {
        let ids = |id: &str, number| {
            id_entries::id_entries("p_", id, number).map(|(key, value)| (key, Some(value)))
        };
        let [ann, ann_back] = ids("ann", 0);
        let [bob, bob_back] = ids("bob", 1);
        let [cyd, bob_again] = ids("cyd", 1);
        let next = |number| id_entries::next_entry("p_", number);
        let valid = [
            ann.clone(),
            ann_back.clone(),
            bob.clone(),
            bob_back.clone(),
            next(2),
        ];
        assert_eq!(checked(&valid).unwrap(), 0);
        assert_eq!(checked(&[]).unwrap(), 0);
        assert_eq!(checked(&[next(5)]).unwrap(), 0);
        for (what, entries) in [
            (
                "no entry of number 1",
                vec![ann.clone(), ann_back.clone(), bob.clone(), next(2)],
            ),
            (
                "no entry of string id bob",
                vec![ann.clone(), ann_back.clone(), bob_back.clone(), next(2)],
            ),
            (
                "another string id",
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
                "a next number that is in use",
                [&valid[..4], &[next(1)]].concat(),
            ),
            ("no next number", valid[..4].to_vec()),
        ] {
            let error = checked(&entries).unwrap_err().to_string();
            assert!(error.contains("string ids under `p_`"), "{what}: {error}");
        }
    }
}
