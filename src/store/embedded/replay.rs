//! Applies the frames of a log to the memtables, when a store is opened or checked.

use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::sets::UserId;
use crate::store::embedded::memtable::{Memtables, sort_bits};
use crate::store::embedded::table_cache::Reader;
use crate::store::embedded::wal::{self, Change, Expected, Frame, ReadOutcome};
use crate::store::{Result, StoreError};

/// The number of bits that are collected before they are applied. They take 32 MiB.
const BATCH_BITS: usize = 4 << 20;

/// Reads the log at `path` and applies every frame whose sequence number is greater than
/// `checkpoint`. The table has the other ones already.
///
/// # Errors
/// Returns an error if the log is damaged, unless `expected` accepts losses, or if the table cannot
/// be read.
pub fn replay_log(
    path: &Path,
    expected: Expected,
    checkpoint: u64,
    memtables: &mut Memtables,
    reader: &Reader<'_>,
) -> Result<ReadOutcome> {
    let mut batch = Batch {
        memtables,
        reader,
        path,
        accepts_loss: expected.accepts_loss,
        indexes: Vec::new(),
        keys: Vec::new(),
        bits: Vec::new(),
    };
    let outcome = wal::read(path, expected, |frame, names| {
        if frame.sequence > checkpoint {
            batch.push(frame, names)
        } else {
            Ok(())
        }
    })?;
    batch.flush()?;
    Ok(outcome)
}

/// Bits of many frames, collected so that each key and tile is looked up once for all of them
/// instead of once per frame. Other changes are applied at once.
struct Batch<'a> {
    memtables: &'a mut Memtables,
    reader: &'a Reader<'a>,
    path: &'a Path,
    /// Whether to skip what cannot be applied, instead of reporting it as damage.
    accepts_loss: bool,
    /// For each key of the log its index in `keys`, if it is there.
    indexes: Vec<Option<u32>>,
    keys: Vec<String>,
    /// As in [`Change::Bits`].
    bits: Vec<(u32, u32)>,
}

/// The keys that a log has named so far. `None` stands for a name that was lost.
type Names = [Option<Arc<str>>];

fn name_of(names: &Names, key: u32) -> Option<String> {
    names.get(key as usize)?.as_ref().map(ToString::to_string)
}

impl Batch<'_> {
    fn damaged(&self, reason: String) -> StoreError {
        StoreError::damaged(self.path, reason)
    }

    /// Adds the next frame of the log.
    fn push(&mut self, frame: Frame<u32>, names: &Names) -> Result<()> {
        let expected = self.memtables.sequence + 1;
        if frame.sequence > expected {
            if !self.accepts_loss {
                return Err(self.damaged(format!(
                    "the changes {expected} to {} are missing before it",
                    frame.sequence - 1
                )));
            }
            self.memtables.has_gap = true;
        }
        match frame.change {
            Change::Bits { keys, bits } => self.push_bits(keys, bits, names)?,
            change => self.apply(change, names)?,
        }
        self.memtables.sequence = self.memtables.sequence.max(frame.sequence);
        Ok(())
    }

    fn push_bits(&mut self, keys: Vec<u32>, bits: Vec<(u32, u32)>, names: &Names) -> Result<()> {
        let mut indexes = Vec::with_capacity(keys.len());
        for key in keys {
            let index = self.index_of(key, names);
            if index.is_none() && !self.accepts_loss {
                return Err(self.damaged(format!("it does not name key {key}")));
            }
            indexes.push(index);
        }
        // Bits of lost keys, and bits whose index is out of range, change nothing.
        self.bits
            .extend(bits.into_iter().filter_map(|(key_and_value, user)| {
                let index = (*indexes.get(key_and_value as usize / 2)?)?;
                Some((index * 2 + key_and_value % 2, user))
            }));
        if self.bits.len() > BATCH_BITS {
            self.flush()?;
        }
        Ok(())
    }

    /// Returns the index of a key in this batch, and adds the key if necessary. Returns `None` if
    /// the name of the key was lost.
    fn index_of(&mut self, key: u32, names: &Names) -> Option<u32> {
        let at = key as usize;
        if let Some(Some(index)) = self.indexes.get(at) {
            return Some(*index);
        }
        let name = name_of(names, key)?;
        let index = u32::try_from(self.keys.len()).expect("a log names at most 4 billion keys");
        self.keys.push(name);
        if self.indexes.len() <= at {
            self.indexes.resize(at + 1, None);
        }
        self.indexes[at] = Some(index);
        Some(index)
    }

    /// Applies a change that is not of bits.
    fn apply(&mut self, change: Change<u32>, names: &Names) -> Result<()> {
        self.flush()?;
        let Some(change) = change.renamed(&mut |key| name_of(names, key)) else {
            return if self.accepts_loss {
                Ok(())
            } else {
                Err(self.damaged("it does not name a key that it changes".to_owned()))
            };
        };
        if let Change::Add { batches } = &change
            && self.memtables.has_gap
        {
            let greatest = batches
                .iter()
                .filter_map(|(key, batch)| Some((key, *batch.users().last()?)));
            self.reader.reserve_numbers(self.memtables, greatest)?;
        }
        self.memtables.replay(change, self.reader)
    }

    /// Applies the collected bits.
    fn flush(&mut self) -> Result<()> {
        self.indexes.clear();
        let keys = std::mem::take(&mut self.keys);
        let bits = std::mem::take(&mut self.bits);
        if self.memtables.has_gap {
            self.reserve_numbers(&keys, &bits)?;
        }
        let mut with_cleared = Vec::new();
        for bits_of_key in sort_bits(&bits).chunk_by(|(a, _), (b, _)| a >> 32 == b >> 32) {
            let bit = |(_, i): &(u64, u32)| bits[*i as usize];
            if bits_of_key.iter().all(|at| bit(at).0 % 2 == 1) {
                let mut users: Vec<UserId> = bits_of_key.iter().map(|at| bit(at).1).collect();
                users.dedup();
                let key = &keys[bit(&bits_of_key[0]).0 as usize / 2];
                self.memtables.add_unresolved(key, &users, self.reader)?;
            } else {
                with_cleared.extend(bits_of_key.iter().map(bit));
            }
        }
        let prepared = self
            .memtables
            .prepare(&keys, &with_cleared, Some(self.reader), None)?;
        self.memtables.apply(prepared);
        Ok(())
    }

    /// Reserves the greatest user of each bitmap, because the assignment of string ids to these
    /// users may have been lost.
    fn reserve_numbers(&mut self, keys: &[String], bits: &[(u32, u32)]) -> Result<()> {
        let mut greatest: HashMap<u32, UserId> = HashMap::new();
        for (key_and_value, user) in bits {
            let of_key = greatest.entry(key_and_value / 2).or_default();
            *of_key = (*of_key).max(*user);
        }
        let named = greatest
            .into_iter()
            .map(|(index, user)| (&keys[index as usize], user));
        self.reader.reserve_numbers(self.memtables, named)
    }
}
