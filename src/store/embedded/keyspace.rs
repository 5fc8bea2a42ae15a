//! The embedded store as a keyspace of named bitmaps, regardless of what their names mean. This is
//! how Redis clients see it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::bitmap::{Operation, TILE_BYTES, Tile, split, user};
use crate::sets::UserId;
use crate::store::embedded::idmap::IdMaps;
use crate::store::embedded::memtable::{self, EMPTY, Index, Memtables, Overlay};
use crate::store::embedded::table_cache::Reader;
use crate::store::embedded::wal::{Change, Packed};
use crate::store::embedded::{BackgroundThreads, EmbeddedStore, Engine, OWNER};
use crate::store::{Result, private};

/// All bitmaps of an embedded store, under every prefix.
#[derive(Clone)]
pub struct Keyspace {
    engine: Arc<Engine>,
    // Its thread runs as long as any handle to the store exists.
    _keeper: Option<Arc<BackgroundThreads>>,
}

impl Keyspace {
    pub(super) fn of(store: &EmbeddedStore) -> Self {
        Keyspace {
            engine: Arc::clone(&store.engine),
            _keeper: store._keeper.clone(),
        }
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Publishes the URL at which other processes, which cannot open the store, can reach its
    /// bitmaps.
    pub fn tell_others(&self, url: &str) {
        if let Some(disk) = &self.engine.disk {
            // If this fails, other processes learn only the process id.
            let _ = private::write(
                &disk.directory.join(OWNER),
                format!("{}\n{url}", std::process::id()),
            );
        }
    }

    /// Like [`EmbeddedStore::back_up`].
    ///
    /// # Errors
    /// Returns the errors of [`EmbeddedStore::back_up`].
    pub fn back_up(&self, file: &Path) -> Result<u64> {
        self.engine.back_up(file)
    }

    /// Reads only these keys, as of one moment. `ask` sees no other keys. Changes are not blocked
    /// in the meantime.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read, and the errors of `ask`.
    pub fn look_at<'k, T>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
        ask: impl FnOnce(ReadTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        let read = self.engine.begin_read(|layers| layers.part(keys))?;
        ask(ReadTxn {
            layers: &read.layers,
            reader: read.reader.as_ref(),
        })
    }

    /// Reads all keys as of one moment. Changes wait until `ask` returns.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read, and the errors of `ask`.
    pub fn look<T>(&self, ask: impl FnOnce(ReadTxn<'_>) -> Result<T>) -> Result<T> {
        let layers = self.engine.shown();
        let reader = self.engine.reader();
        ask(ReadTxn {
            layers: &layers,
            reader: reader.as_ref(),
        })
    }

    /// Applies several changes atomically: no other change comes between them, and if `work` fails,
    /// none is applied. They are as durable as marks.
    ///
    /// # Errors
    /// Returns an error if the changes cannot be written, and the errors of `work`. Nothing is
    /// changed in these cases.
    pub fn change<T>(&self, work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>) -> Result<T> {
        self.engine.change(true, work)
    }

    /// Sets and clears many bits, all of them or none. `bits` are (index of the key × 2 + value,
    /// user), in order. Returns the previous value of each bit.
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
        let changed = self.change(|space| {
            let set = |(key, user, value): (&str, UserId, bool)| {
                let before =
                    space.set_bits(vec![key.to_owned()], vec![(u32::from(value), user)])?;
                Ok(before.first() == Some(&true))
            };
            Ok(each.map(set).collect())
        });
        changed.unwrap_or_else(|error| marks.map(|_| Err(error.clone())).collect())
    }
}

/// The bitmaps as they are at one moment.
#[derive(Clone, Copy)]
pub struct ReadTxn<'a> {
    layers: &'a Memtables,
    reader: Option<&'a Reader<'a>>,
}

impl<'a> ReadTxn<'a> {
    /// Returns whether a bitmap of that name exists.
    ///
    /// # Errors
    /// Like all methods here, returns an error if the store cannot be read.
    pub fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.layers.view(key, self.reader)?.exists)
    }

    /// Returns the byte length of a bitmap, or 0 if there is none.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn len(&self, key: &str) -> Result<u64> {
        Ok(self.layers.view(key, self.reader)?.len)
    }

    /// Returns one bit.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn bit(&self, key: &str, user: UserId) -> Result<bool> {
        memtable::contains(&self.layers.view(key, self.reader)?, user, self.reader)
    }

    /// Returns how many bits are set from `first` to `last`, both included.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn count(&self, key: &str, first: UserId, last: UserId) -> Result<u64> {
        let view = self.layers.view(key, self.reader)?;
        let ((from, from_place), (to, to_place)) = (split(first), split(last));
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

    /// Finds the first bit of that value from `first` to `last`, both included. Beyond the end of
    /// the bitmap all bits are 0.
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
        let view = self.layers.view(key, self.reader)?;
        let ((from, from_place), (to, _)) = (split(first), split(last));
        let there = view.tiles();
        let within = |number: u16, tile: &Tile| {
            let place = tile.first(if number == from { from_place } else { 0 }, value)?;
            Some(user(number, place)).filter(|found| *found <= last)
        };
        if value {
            for number in there
                .iter()
                .copied()
                .filter(|number| (from..=to).contains(number))
            {
                if let Some(found) = within(number, &*view.tile(number, self.reader)?) {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        for number in from..=to {
            let tile = match there.binary_search(&number) {
                Ok(_) => view.tile(number, self.reader)?,
                Err(_) => Arc::default(),
            };
            if let Some(found) = within(number, &tile) {
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
        let view = self.layers.view(key, self.reader)?;
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

    /// Like [`snapshot`](Self::snapshot), but only for the tiles that hold the bytes from `first`
    /// to `last`, both included.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn part(&self, key: &str, first: u64, last: u64) -> Result<Snapshot> {
        let view = self.layers.view(key, self.reader)?;
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

    /// Returns when a bitmap expires, in milliseconds since 1970.
    pub fn until(&self, key: &str) -> Option<u64> {
        self.layers.lifetimes.of(key)
    }

    /// Returns how many keys have an expiry time.
    pub fn expiring(&self) -> usize {
        self.layers.lifetimes.len()
    }

    /// Returns all keys.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn keys(&self) -> Result<&'a Index> {
        self.layers.index(self.reader)
    }
}

/// A tile with its number.
type Numbered = (u16, Arc<Tile>);

/// A bitmap as it was at one moment. It holds only the tiles that have users.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its byte length.
    pub len: u64,
    tiles: Vec<Numbered>,
}

/// The bytes of a tile without users.
const ZEROS: [u8; 8192] = [0; 8192];

impl Snapshot {
    /// Creates a bitmap of `len` bytes without users.
    pub fn of_zeros(len: u64) -> Self {
        Snapshot {
            len,
            tiles: Vec::new(),
        }
    }

    /// Adds bytes starting at `at`, which must be a whole number of tiles and lie after everything
    /// added before.
    pub fn fill(&mut self, at: u64, bytes: &[u8]) {
        for (number, bytes) in (at / TILE_BYTES..).zip(bytes.chunks(ZEROS.len())) {
            let tile = Tile::of_bytes(bytes).compact();
            // No Redis string has more tiles than there are tile numbers.
            if let (false, Ok(number)) = (tile.is_empty(), u16::try_from(number)) {
                self.tiles.push((number, Arc::new(tile)));
            }
        }
    }

    /// Returns whether both have the same length and hold the same users.
    pub fn same(&self, other: &Snapshot) -> bool {
        let full = |snapshot: &Snapshot| -> Vec<Numbered> {
            snapshot
                .tiles
                .iter()
                .filter(|(_, tile)| !tile.is_empty())
                .cloned()
                .collect()
        };
        let (own, others) = (full(self), full(other));
        // The same users may be stored in different representations.
        let equal = |((a, own), (b, other)): (&Numbered, &Numbered)| {
            a == b && (Arc::ptr_eq(own, other) || own.xor(other).is_empty())
        };
        self.len == other.len && own.len() == others.len() && own.iter().zip(&others).all(equal)
    }

    /// Returns the bytes from `first` to `last`, both included, in one piece.
    pub fn piece(&self, first: u64, last: u64) -> Vec<u8> {
        let mut piece = Vec::new();
        let taken: Result<(), std::convert::Infallible> = self.bytes(first, last, |bytes| {
            piece.extend_from_slice(bytes);
            Ok(())
        });
        match taken {
            Ok(()) => piece,
            Err(never) => match never {},
        }
    }

    /// Returns all bytes of the bitmap.
    pub fn whole(&self) -> Vec<u8> {
        if self.len == 0 {
            Vec::new()
        } else {
            self.piece(0, self.len - 1)
        }
    }

    /// Passes the bytes from `first` to `last`, both included, to `each`, piece by piece, until it
    /// fails.
    ///
    /// # Errors
    /// Returns the errors of `each`.
    pub fn bytes<E>(
        &self,
        first: u64,
        last: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut tiles = self.tiles.iter().peekable();
        let mut at = first;
        while at <= last {
            let number = at / TILE_BYTES;
            while tiles
                .next_if(|(tile, _)| u64::from(*tile) < number)
                .is_some()
            {}
            let bytes = tiles
                .next_if(|(tile, _)| u64::from(*tile) == number)
                .map(|(_, tile)| tile.bytes());
            let end = last.min(number * TILE_BYTES + TILE_BYTES - 1);
            // The offset is below the length of a tile.
            let place = |byte: u64| usize::try_from(byte % TILE_BYTES).unwrap_or(0);
            each(&bytes.as_deref().unwrap_or(&ZEROS)[place(at)..=place(end)])?;
            at = end + 1;
        }
        Ok(())
    }
}

/// The state of a key before it was changed.
struct Before {
    overlay: Option<Arc<Overlay>>,
    until: Option<u64>,
}

/// What is needed to undo changes.
pub(super) struct Undo {
    keys: HashMap<Box<str>, Before>,
    dirty_bytes: usize,
    /// The string ids, if they were deleted.
    rolls: Option<(IdMaps, BTreeSet<Box<str>>)>,
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
        if let Some((rolls, enrolled)) = undo.rolls {
            (self.rolls, self.enrolled) = (rolls, enrolled);
        }
        if undo.keys.is_empty() {
            return;
        }
        for (text, before) in undo.keys {
            self.lifetimes.set(&text, before.until);
            match before.overlay {
                Some(overlay) => {
                    if !overlay.unread.is_empty() {
                        self.unread.insert(text.clone());
                    }
                    self.dirty.insert(text, overlay);
                }
                None => drop(self.dirty.remove(&text)),
            }
        }
        self.dirty_bytes = undo.dirty_bytes;
        // No reader can have listed keys in the meantime, because the layers were locked. The
        // version only ever increases.
        self.keys_version += 1;
        self.index.take();
    }
}

/// Bitmaps being changed. Only this value sees the changes made so far.
pub struct WriteTxn<'a> {
    layers: &'a mut Memtables,
    reader: Option<&'a Reader<'a>>,
    changes: Vec<Change>,
    undo: Undo,
    /// The engine to ask which keys may be written by clients that know nothing of string ids.
    guard: Option<&'a Engine>,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(
        layers: &'a mut Memtables,
        reader: Option<&'a Reader<'a>>,
        guard: Option<&'a Engine>,
    ) -> Self {
        let undo = Undo {
            keys: HashMap::new(),
            dirty_bytes: layers.dirty_bytes,
            rolls: None,
        };
        WriteTxn {
            layers,
            reader,
            changes: Vec::new(),
            undo,
            guard,
        }
    }

    pub(super) fn end(self) -> (Vec<Change>, Undo) {
        (self.changes, self.undo)
    }

    /// Returns the bitmaps as they are now.
    pub fn look(&self) -> ReadTxn<'_> {
        ReadTxn {
            layers: self.layers,
            reader: self.reader,
        }
    }

    fn may_write(&self, key: &str) -> Result<()> {
        self.guard
            .map_or(Ok(()), |engine| engine.guard(self.layers, key))
    }

    fn remember(&mut self, key: &str) {
        if let Entry::Vacant(entry) = self.undo.keys.entry(key.into()) {
            let overlay = self.layers.dirty.get(key).cloned();
            entry.insert(Before {
                overlay,
                until: self.layers.lifetimes.of(key),
            });
        }
    }

    /// Like [`Keyspace::set_bits`].
    ///
    /// # Errors
    /// Like all methods here, returns an error if the store cannot be read.
    pub fn set_bits(&mut self, keys: Vec<String>, bits: Vec<(u32, UserId)>) -> Result<Vec<bool>> {
        keys.iter().try_for_each(|key| self.may_write(key))?;
        let mut before = vec![false; bits.len()];
        let prepared = self
            .layers
            .prepare(&keys, &bits, self.reader, Some(&mut before))?;
        keys.iter().for_each(|key| self.remember(key));
        self.layers.apply(prepared);
        self.changes.push(Change::Bits { keys, bits });
        Ok(before)
    }

    /// Creates a bitmap that does not expire, replacing any bitmap of that name. A bitmap without
    /// bytes exists all the same.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn put(&mut self, key: &str, len: u64, tiles: Vec<(u16, Arc<Tile>)>) -> Result<()> {
        self.may_write(key)?;
        let len = if len == 0 { EMPTY } else { len };
        self.remember(key);
        let packed = tiles
            .iter()
            .map(|(number, tile)| (*number, Packed(Arc::clone(tile))))
            .collect();
        self.changes.push(Change::Put {
            key: key.to_owned(),
            len,
            tiles: packed,
        });
        self.layers.put(key, len, tiles);
        Ok(())
    }

    /// Like [`put`](Self::put), with the contents of a snapshot. The bitmap expires at `until`, in
    /// milliseconds since 1970, or never.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn put_snapshot(
        &mut self,
        key: &str,
        snapshot: &Snapshot,
        until: Option<u64>,
    ) -> Result<()> {
        let tiles = snapshot
            .tiles
            .iter()
            .filter(|(_, tile)| !tile.is_empty())
            .cloned()
            .collect();
        self.put(key, snapshot.len, tiles)?;
        self.set_until(key, until)?;
        Ok(())
    }

    /// Deletes bitmaps. Returns how many of them existed.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn delete(&mut self, keys: &[String]) -> Result<u64> {
        let existing = self.layers.existing(keys, self.reader)?;
        if existing.is_empty() {
            return Ok(0);
        }
        existing.iter().for_each(|key| self.remember(key));
        self.changes.push(Change::Delete {
            keys: existing.iter().map(|key| key.to_string()).collect(),
        });
        let deleted = existing.len() as u64;
        self.layers.delete(existing);
        Ok(deleted)
    }

    /// Deletes the string ids of users under every prefix, for when every bitmap is deleted.
    pub fn forget_texts(&mut self) {
        if self.layers.enrolled.is_empty() {
            return;
        }
        let before = (self.layers.rolls.clone(), self.layers.enrolled.clone());
        for prefix in &before.1 {
            self.changes.push(Change::Forget {
                prefix: prefix.to_string(),
            });
            self.layers.forget(prefix);
        }
        self.undo.rolls.get_or_insert(before);
    }

    /// Stores the result of the operation on `sources` in `target`. Returns its byte length. An
    /// empty result leaves no bitmap.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn combine(
        &mut self,
        operation: Operation,
        target: &str,
        sources: &[String],
    ) -> Result<u64> {
        let (len, tiles) = self.layers.combine(operation, sources, self.reader)?;
        if len == 0 {
            self.delete(&[target.to_owned()])?;
            return Ok(0);
        }
        self.may_write(target)?;
        self.remember(target);
        self.changes.push(Change::Combine {
            operation,
            target: target.to_owned(),
            sources: sources.to_vec(),
        });
        self.layers.put(target, len, tiles);
        Ok(len)
    }

    /// Sets when a bitmap expires, in milliseconds since 1970, or that it never expires. Returns
    /// whether the bitmap exists. A bitmap whose expiry time has already passed is deleted before
    /// the next read.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn set_until(&mut self, key: &str, until: Option<u64>) -> Result<bool> {
        if !self.look().exists(key)? {
            return Ok(false);
        }
        if self.layers.lifetimes.of(key) != until {
            self.remember(key);
            self.layers.lifetimes.set(key, until);
            self.changes.push(Change::Lifetime {
                key: key.to_owned(),
                until,
            });
        }
        Ok(true)
    }

    /// Renames a bitmap, replacing any bitmap of the new name. Its expiry moves with it. Returns
    /// `false` if there is no bitmap to rename.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<bool> {
        let Some(Snapshot { len, tiles }) = self.look().snapshot(from)? else {
            return Ok(false);
        };
        if from != to {
            let until = self.layers.lifetimes.of(from);
            self.put(to, len, tiles)?;
            self.set_until(to, until)?;
            self.delete(&[from.to_owned()])?;
        }
        Ok(true)
    }
}
