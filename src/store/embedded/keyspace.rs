//! The embedded store as a keyspace of named bitmaps, for Redis clients. The names have no meaning
//! here.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::bitmap::{Operation, TILE_BYTES, Tile, split, user};
use crate::sets::UserId;
use crate::store::embedded::idmap::IdMaps;
use crate::store::embedded::key_index::KeyIndex;
use crate::store::embedded::memtable::{EMPTY, Memtables, Overlay};
use crate::store::embedded::precomputed::Precomputed;
use crate::store::embedded::table_cache::Reader;
use crate::store::embedded::wal::{Change, Packed};
use crate::store::embedded::{BackgroundThreads, EmbeddedStore, Engine, OWNER};
use crate::store::{Result, Snapshot, private};

/// All bitmaps of an embedded store, under every prefix.
#[derive(Clone)]
pub struct Keyspace {
    engine: Arc<Engine>,
    // The threads run while any handle to the store exists.
    _threads: Option<Arc<BackgroundThreads>>,
}

impl Keyspace {
    pub(super) fn of(store: &EmbeddedStore) -> Self {
        Keyspace {
            engine: Arc::clone(&store.engine),
            _threads: store._threads.clone(),
        }
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Publishes a Redis URL, so that other processes, which cannot open the store, know how to
    /// reach its bitmaps.
    pub fn publish_url(&self, url: &str) {
        if let Some(disk) = &self.engine.disk {
            // If this fails, other processes learn only the process id.
            let _ = private::write(
                &disk.directory.join(OWNER),
                format!("{}\n{url}", std::process::id()),
            );
        }
    }

    /// Reads some bitmaps as of one moment. `work` sees no other bitmaps. Writes are not blocked in
    /// the meantime.
    ///
    /// # Errors
    /// Returns the errors of `work`.
    pub fn read_keys<'k, T>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
        work: impl FnOnce(ReadTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        let read = self.engine.begin_read(|memtables| memtables.subset(keys));
        work(ReadTxn {
            memtables: &read.memtables,
            reader: read.reader.as_ref(),
        })
    }

    /// Reads all bitmaps as of one moment. Writes wait until `work` returns.
    ///
    /// # Errors
    /// Returns the errors of `work`.
    pub fn read<T>(&self, work: impl FnOnce(ReadTxn<'_>) -> Result<T>) -> Result<T> {
        let memtables = self.engine.read_unexpired();
        let reader = self.engine.reader();
        work(ReadTxn {
            memtables: &memtables,
            reader: reader.as_ref(),
        })
    }

    /// Applies several changes as one: there are no other changes between them, and if `work`
    /// fails, none is applied. They are as durable as marks.
    ///
    /// # Errors
    /// Returns an error if the changes cannot be written, and the errors of `work`. Nothing is
    /// changed in these cases.
    pub fn change<T>(&self, work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>) -> Result<T> {
        self.engine.change(true, work)
    }

    /// Computes the bitmap operations of a change of these keys in advance, on a snapshot that
    /// blocks nobody. `work` must do what the change will do. It may run more than once.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn precompute(
        &self,
        keys: &[&str],
        work: impl FnMut(&mut WriteTxn<'_>),
    ) -> Result<Precomputed> {
        self.engine.precompute(keys, work)
    }

    /// Like [`change`](Self::change). Of the results computed in advance, only the parts that have
    /// changed since are computed again.
    ///
    /// # Errors
    /// Like [`change`](Self::change).
    pub fn change_with<T>(
        &self,
        precomputed: Precomputed,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        self.engine.change_with(true, precomputed, work)
    }

    /// Sets and clears many bits, all of them or none. Each bit is given as the index of its key
    /// times two, plus its new value, and its user. The bits apply in order. Returns the previous
    /// value of each bit.
    ///
    /// # Errors
    /// Returns an error if the bits cannot be written. Nothing is changed in this case.
    pub fn set_bits(&self, keys: Vec<String>, bits: Vec<(u32, UserId)>) -> Result<Vec<bool>> {
        let mut before = vec![false; bits.len()];
        self.engine
            .write_bits(keys, bits, Some(&mut before), true)?;
        Ok(before)
    }

    /// Sets and clears bits independently of each other: every bit that can be changed is changed.
    /// Returns for each bit its previous value, or why it was refused.
    pub fn set_each<'m>(
        &self,
        marks: impl Iterator<Item = (&'m str, UserId, bool)> + Clone,
    ) -> Vec<Result<bool>> {
        let each = marks.clone();
        let changed = self.change(|txn| {
            let set = |(key, user, value): (&str, UserId, bool)| {
                let before = txn.set_bits(vec![key.to_owned()], vec![(u32::from(value), user)])?;
                Ok(before[0])
            };
            Ok(each.map(set).collect())
        });
        changed.unwrap_or_else(|error| marks.map(|_| Err(error.clone())).collect())
    }
}

/// A read transaction: all bitmaps as they were at one moment.
#[derive(Clone, Copy)]
pub struct ReadTxn<'a> {
    memtables: &'a Memtables,
    reader: Option<&'a Reader<'a>>,
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

    /// Like [`Keyspace::set_bits`].
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
