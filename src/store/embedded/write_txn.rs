//! A write transaction: several changes that are one frame of the log.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::bitmap::{Operation, Tile};
use crate::sets::UserId;
use crate::store::embedded::engine::Engine;
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::overlay::{EMPTY, Overlay};
use crate::store::embedded::precomputed::Precomputed;
use crate::store::embedded::prefix_ids::IdMaps;
use crate::store::embedded::read_txn::ReadTxn;
use crate::store::embedded::table_cache::Reader;
use crate::store::embedded::wal::{Change, Packed};
use crate::store::{Result, Snapshot};

/// The state of a key before it was changed.
struct Before {
    overlay: Option<Arc<Overlay>>,
    expires_at: Option<u64>,
}

/// The previous state of everything that a transaction changed.
pub(super) struct Undo {
    keys: HashMap<Box<str>, Before>,
    active_bytes: usize,
    /// The string ids and the prefixes that have some, if they were deleted.
    ids: Option<(IdMaps, BTreeSet<Box<str>>)>,
}

impl Undo {
    /// Returns the keys that were changed.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(|key| &**key)
    }
}

impl Memtables {
    /// Restores everything to its previous state.
    pub(super) fn undo(&mut self, undo: Undo) {
        if let Some((id_maps, string_id_prefixes)) = undo.ids {
            self.id_maps = id_maps;
            self.string_id_prefixes = string_id_prefixes;
        }
        if undo.keys.is_empty() {
            return;
        }
        for (key, before) in undo.keys {
            self.expirations.set(&key, before.expires_at);
            match before.overlay {
                Some(overlay) => {
                    if !overlay.unresolved.is_empty() {
                        self.unresolved.insert(key.clone());
                    }
                    self.active.insert(key, overlay);
                }
                None => drop(self.active.remove(&key)),
            }
        }
        self.active_bytes = undo.active_bytes;
        // No reader can have listed keys in the meantime, because the memtables were locked. The
        // version only ever increases.
        self.keys_version += 1;
        self.index.take();
    }
}

/// A write transaction. Other readers see none of its changes until all of them are in the log.
pub struct WriteTxn<'a> {
    memtables: &'a mut Memtables,
    reader: Option<&'a Reader<'a>>,
    changes: Vec<Change>,
    undo: Undo,
    /// Set if keys whose users have string ids must be refused.
    guard: Option<&'a Engine>,
    precomputed: Precomputed,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(
        memtables: &'a mut Memtables,
        reader: Option<&'a Reader<'a>>,
        guard: Option<&'a Engine>,
    ) -> Self {
        let undo = Undo {
            keys: HashMap::new(),
            active_bytes: memtables.active_bytes,
            ids: None,
        };
        WriteTxn {
            memtables,
            reader,
            changes: Vec::new(),
            undo,
            guard,
            precomputed: Precomputed::default(),
        }
    }

    /// Uses results that were computed in advance, or records results for such use.
    pub(super) fn using(self, precomputed: Precomputed) -> Self {
        WriteTxn {
            precomputed,
            ..self
        }
    }

    /// Ends the transaction. Returns the results that it recorded.
    pub(super) fn precomputed(self) -> Precomputed {
        self.precomputed
    }

    /// Ends the transaction. Returns its changes and how to undo them.
    pub(super) fn end(self) -> (Vec<Change>, Undo) {
        (self.changes, self.undo)
    }

    /// Returns the bitmaps as they are after the changes so far.
    pub fn read(&self) -> ReadTxn<'_> {
        ReadTxn {
            memtables: self.memtables,
            reader: self.reader,
        }
    }

    fn check_guard(&self, key: &str) -> Result<()> {
        match self.guard {
            Some(engine) => engine.refuse_numeric_ids(self.memtables, key),
            None => Ok(()),
        }
    }

    /// Saves the state of a bitmap before its first change, so that the change can be undone.
    fn save_for_undo(&mut self, key: &str) {
        if let Entry::Vacant(entry) = self.undo.keys.entry(key.into()) {
            entry.insert(Before {
                overlay: self.memtables.active.get(key).cloned(),
                expires_at: self.memtables.expirations.of(key),
            });
        }
    }

    /// Like [`Keyspace::set_bits`](super::Keyspace::set_bits).
    ///
    /// # Errors
    /// Like all methods here, returns an error if the store cannot be read.
    pub fn set_bits(&mut self, keys: Vec<String>, bits: Vec<(u32, UserId)>) -> Result<Vec<bool>> {
        keys.iter().try_for_each(|key| self.check_guard(key))?;
        let mut before = vec![false; bits.len()];
        let prepared = self
            .memtables
            .prepare(&keys, &bits, self.reader, Some(&mut before))?;
        keys.iter().for_each(|key| self.save_for_undo(key));
        self.memtables.apply(prepared);
        self.changes.push(Change::Bits { keys, bits });
        Ok(before)
    }

    /// Creates a bitmap of `len` bytes that does not expire, and replaces any bitmap of that name.
    /// The bitmap exists even if `len` is 0.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn put(&mut self, key: &str, len: u64, tiles: Vec<(u16, Arc<Tile>)>) -> Result<()> {
        self.check_guard(key)?;
        let len = if len == 0 { EMPTY } else { len };
        self.save_for_undo(key);
        let packed = tiles
            .iter()
            .map(|(number, tile)| (*number, Packed(Arc::clone(tile))))
            .collect();
        self.changes.push(Change::Put {
            key: key.to_owned(),
            len,
            tiles: packed,
        });
        self.memtables.put(key, len, tiles);
        Ok(())
    }

    /// Like [`put`](Self::put), with the contents of a snapshot. The bitmap expires at
    /// `expires_at`, in milliseconds since 1970, or never.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn put_snapshot(
        &mut self,
        key: &str,
        snapshot: &Snapshot,
        expires_at: Option<u64>,
    ) -> Result<()> {
        let tiles = snapshot
            .tiles
            .iter()
            .filter(|(_, tile)| !tile.is_empty())
            .cloned()
            .collect();
        self.put(key, snapshot.len, tiles)?;
        self.set_expires_at(key, expires_at)?;
        Ok(())
    }

    /// Deletes bitmaps. Returns how many of them existed.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn delete(&mut self, keys: &[String]) -> Result<u64> {
        let existing = self.memtables.existing(keys, self.reader)?;
        if existing.is_empty() {
            return Ok(0);
        }
        existing.iter().for_each(|key| self.save_for_undo(key));
        self.changes.push(Change::Delete {
            keys: existing.iter().map(|key| key.to_string()).collect(),
        });
        let deleted = existing.len() as u64;
        self.memtables.delete(existing);
        Ok(deleted)
    }

    /// Deletes the string ids of all prefixes. This is for transactions that delete all bitmaps.
    pub fn delete_string_ids(&mut self) {
        if self.memtables.string_id_prefixes.is_empty() {
            return;
        }
        let id_maps = self.memtables.id_maps.clone();
        let prefixes = self.memtables.string_id_prefixes.clone();
        for prefix in &prefixes {
            self.changes.push(Change::DeleteIds {
                prefix: prefix.to_string(),
            });
            self.memtables.delete_ids(prefix);
        }
        self.undo.ids.get_or_insert((id_maps, prefixes));
    }

    /// Stores the result of the operation on `sources` in `target`. Returns its length in bytes. If
    /// that is 0, `target` does not exist afterwards.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn combine(
        &mut self,
        operation: Operation,
        target: &str,
        sources: &[String],
    ) -> Result<u64> {
        let (len, tiles) =
            self.precomputed
                .combine(operation, sources, self.memtables, self.reader)?;
        if len == 0 {
            self.delete(&[target.to_owned()])?;
            return Ok(0);
        }
        self.check_guard(target)?;
        self.save_for_undo(target);
        self.changes.push(Change::Combine {
            operation,
            target: target.to_owned(),
            sources: sources.to_vec(),
        });
        self.memtables.put(target, len, tiles);
        Ok(len)
    }

    /// Sets when a bitmap expires, in milliseconds since 1970, or that it never expires. Returns
    /// whether the bitmap exists. A bitmap whose expiry time has already passed is deleted before
    /// the next read.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn set_expires_at(&mut self, key: &str, expires_at: Option<u64>) -> Result<bool> {
        if !self.read().exists(key)? {
            return Ok(false);
        }
        if self.memtables.expirations.of(key) != expires_at {
            self.save_for_undo(key);
            self.memtables.expirations.set(key, expires_at);
            self.changes.push(Change::Expire {
                key: key.to_owned(),
                expires_at,
            });
        }
        Ok(true)
    }

    /// Renames a bitmap, and replaces any bitmap of the new name. The expiry time moves with it.
    /// Returns `false` if there is no bitmap to rename.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<bool> {
        let Some(Snapshot { len, tiles }) = self.read().snapshot(from)? else {
            return Ok(false);
        };
        if from != to {
            let expires_at = self.memtables.expirations.of(from);
            self.put(to, len, tiles)?;
            self.set_expires_at(to, expires_at)?;
            self.delete(&[from.to_owned()])?;
        }
        Ok(true)
    }
}

impl Engine {
    /// Applies several changes as one frame: all of them or none, and no other change between them.
    /// `guarded` is as in [`write_bits`](Self::write_bits).
    pub(super) fn change<T>(
        &self,
        guarded: bool,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        self.change_with(guarded, Precomputed::default(), 0, work)
    }

    /// Like [`change`](Self::change), with results that were computed in advance, and for a change
    /// that takes about `bytes` of memory beside them.
    pub(super) fn change_with<T>(
        &self,
        guarded: bool,
        precomputed: Precomputed,
        bytes: usize,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut memtables = self.lock_with_room_for(bytes + precomputed.memory())?;
        let reader = self.reader();
        let mut txn = WriteTxn::new(&mut memtables, reader.as_ref(), guarded.then_some(self))
            .using(precomputed);
        let result = work(&mut txn);
        let (mut changes, undo) = txn.end();
        if result.is_err() {
            memtables.undo(undo);
            return result;
        }
        let change = match changes.len() {
            0 => return result,
            1 => changes.remove(0),
            _ => Change::All(changes),
        };
        if let Err(error) = self.append(&mut memtables, change) {
            memtables.undo(undo);
            return Err(error);
        }
        self.notify_listeners(undo.keys());
        self.after_append(memtables)?;
        result
    }
}
