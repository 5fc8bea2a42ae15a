//! Runs: delta-coded batches of users in ascending order that are added to one bitmap together.
//!
//! Data that arrives in runs, as in an import, needs no sorting by key and tile, one lookup per
//! tile, and a byte or two per user in the log.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bitmap::split;
use crate::sets::{Key, UserId};
use crate::store::embedded::EmbeddedStore;
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::table_cache::Reader;
use crate::store::embedded::wal::Change;
use crate::store::traits::marks;
use crate::store::{Result, Store};

/// A run as stored in the log: the distance of each user from the previous one, the first from 0.
/// Each byte holds seven bits, lowest first. The eighth bit is set if another byte follows. The
/// users are strictly ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaBatch(Vec<u8>);

impl DeltaBatch {
    /// Packs users, which must be in ascending order without duplicates.
    pub fn pack(users: &[UserId]) -> Self {
        let mut bytes = Vec::with_capacity(users.len() * 3 / 2 + 8);
        let mut before = 0;
        for user in users {
            let mut distance = user.wrapping_sub(before);
            before = *user;
            while distance > 0x7f {
                bytes.push(0x80 | (distance & 0x7f).to_le_bytes()[0]);
                distance >>= 7;
            }
            bytes.push(distance.to_le_bytes()[0]);
        }
        DeltaBatch(bytes)
    }

    /// Returns the users, or `None` if the bytes are not a run.
    pub fn users(&self) -> Option<Vec<UserId>> {
        let mut users: Vec<UserId> = Vec::with_capacity(self.0.len());
        let (mut distance, mut shift) = (0_u64, 0);
        for byte in &self.0 {
            distance |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                let user = users.last().map_or(0, |user| u64::from(*user)) + distance;
                if distance == 0 && !users.is_empty() {
                    return None;
                }
                users.push(UserId::try_from(user).ok()?);
                (distance, shift) = (0, 0);
            } else if shift > 28 {
                return None;
            }
        }
        (shift == 0).then_some(users)
    }
}

impl Serialize for DeltaBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeltaBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = DeltaBatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a run")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<DeltaBatch, E> {
                let run = DeltaBatch(bytes.to_vec());
                if run.users().is_some() {
                    Ok(run)
                } else {
                    Err(E::invalid_length(bytes.len(), &self))
                }
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Runs, with what they change. Prepared before anything is written, so that a failed read leaves
/// everything unchanged.
pub struct PreparedBatches<'a> {
    runs: Vec<PreparedBatch<'a>>,
}

struct PreparedBatch<'a> {
    text: &'a str,
    /// Whether the key does not exist yet.
    new: bool,
    len: u64,
    /// The new users in each tile.
    tiles: Vec<(u16, Vec<UserId>)>,
}

impl EmbeddedStore {
    /// Like [`Store::add`], in one frame.
    pub(super) fn add_runs(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        if !runs
            .iter()
            .all(|(_, users)| users.is_sorted_by(|a, b| a < b))
        {
            return self.apply(&marks(runs));
        }
        let runs = runs.iter().filter(|(_, users)| !users.is_empty());
        let runs: Vec<(String, &[UserId])> = runs
            .map(|(key, users)| (key.text(&self.prefix), *users))
            .collect();
        if runs.is_empty() {
            return Ok(());
        }
        let packed = runs
            .iter()
            .map(|(text, users)| (text.clone(), DeltaBatch::pack(users)))
            .collect();
        let engine = &self.engine;
        let mut layers = engine.lock_with_room()?;
        let reader = engine.reader();
        // Everything that can fail comes before the write to the log, and the log comes before
        // memory.
        let prepared = layers.prepare_runs(
            runs.iter().map(|(text, users)| (text.as_str(), *users)),
            reader.as_ref(),
        )?;
        engine.append(&mut layers, Change::Runs { runs: packed })?;
        layers.apply_runs(prepared);
        engine.tell(runs.iter().map(|(text, _)| text.as_str()));
        engine.written(layers)
    }
}

impl Memtables {
    /// Reads what runs change. Each run is the name of the key it goes into and its users in
    /// ascending order.
    pub fn prepare_runs<'a>(
        &mut self,
        runs: impl Iterator<Item = (&'a str, &'a [UserId])>,
        reader: Option<&Reader<'_>>,
    ) -> Result<PreparedBatches<'a>> {
        let runs = runs.filter_map(|(text, users)| Some((text, users, users.last()?)));
        let runs = runs.map(|(text, users, last)| {
            self.resolve(text, reader)?;
            let view = self.view(text, reader)?;
            let mut tiles = Vec::new();
            for users in users.chunk_by(|a, b| split(*a).0 == split(*b).0) {
                let Some(number) = users.first().map(|user| split(*user).0) else {
                    continue;
                };
                let new = view.missing(number, users, reader)?;
                if !new.is_empty() {
                    tiles.push((number, new));
                }
            }
            Ok(PreparedBatch {
                text,
                new: !view.exists,
                len: view.len.max(u64::from(last / 8) + 1),
                tiles,
            })
        });
        Ok(PreparedBatches {
            runs: runs.collect::<Result<_>>()?,
        })
    }

    /// Adds the users in memory. Cannot fail.
    pub fn apply_runs(&mut self, prepared: PreparedBatches<'_>) {
        for run in prepared.runs {
            if run.new {
                self.made(run.text);
            }
            self.change(
                run.text,
                run.new,
                run.len,
                run.tiles.into_iter(),
                |tile, users| tile.add(&users),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_found_again(users in prop::collection::btree_set(any::<u32>(), 0..50), near: bool) {
            // Near users take a byte each, far ones up to five.
            let users: std::collections::BTreeSet<u32> =
                users.into_iter().map(|user| if near { user >> 22 } else { user }).collect();
            let users: Vec<u32> = users.into_iter().collect();
            let run = DeltaBatch::pack(&users);
            let most = if near { 2 } else { 5 };
            prop_assert!(run.0.len() <= most * users.len());
            prop_assert_eq!(run.users(), Some(users));
        }

        #[test]
        fn other_bytes_are_no_run_or_ascend(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(users) = DeltaBatch(bytes).users() {
                prop_assert!(users.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn what_goes_beyond_the_last_user_is_no_run() {
        assert_eq!(
            DeltaBatch(vec![0xff, 0xff, 0xff, 0xff, 0x0f]).users(),
            Some(vec![UserId::MAX])
        );
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 0x10][..],
            &[0xff, 0xff, 0xff, 0xff, 0x0f, 1],
            &[0x80; 6],
            &[5, 0],
            &[0x80],
        ] {
            assert_eq!(DeltaBatch(bytes.to_vec()).users(), None, "{bytes:?}");
        }
        assert_eq!(DeltaBatch::pack(&[0, 1, 300]).0, [0, 1, 0xab, 2]);
    }
}
