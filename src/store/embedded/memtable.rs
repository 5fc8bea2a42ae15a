//! The memtables: the changes since the last checkpoint, which take precedence over the table.

use crate::bitmap::{self, Operation, Source, Tile, split};
use crate::sets::UserId;
use crate::store::embedded::expirations::Expirations;
use crate::store::embedded::id_entries;
use crate::store::embedded::key_index::KeyIndex;
use crate::store::embedded::overlay::{EMPTY, Memtable, Older, Overlay, TileChange, TileMap};
use crate::store::embedded::prefix_ids::{IdFilter, IdMaps};
use crate::store::embedded::record::Record;
use crate::store::embedded::table::packed;
use crate::store::embedded::table_cache::{Reader, TableCache};
use crate::store::embedded::wal::{Change, Log, LogFile, Packed};
use crate::store::{Cancel, Result, StoreError};
use hashbrown::HashMap;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::{Bound, Deref};
use std::sync::{Arc, OnceLock, PoisonError};

/// All changes that are not in the table yet, and other state that changes with them.
#[derive(Debug, Default)]
pub struct Memtables {
    /// The changes since the last checkpoint began.
    pub active: Memtable,
    /// The changes that the current checkpoint writes, or that the last one failed to write.
    pub immutable: Option<Arc<Memtable>>,
    /// The keys in `active` that have unresolved users.
    pub unresolved: BTreeSet<Box<str>>,
    /// The string ids assigned since the last checkpoint began.
    pub id_maps: IdMaps,
    /// The string ids that belong to `immutable`.
    pub immutable_id_maps: Option<Arc<IdMaps>>,
    /// For some prefixes, a filter of all string ids that have numbers, here or in the table.
    pub id_filters: HashMap<Box<str>, IdFilter>,
    /// The prefixes whose users have string ids.
    pub string_id_prefixes: BTreeSet<Box<str>>,
    /// Whether a part of the log was lost, which may have assigned string ids.
    pub has_gap: bool,
    /// The approximate memory of `active` and `id_maps`, in bytes.
    pub active_bytes: usize,
    /// The same of `immutable` and `immutable_id_maps`.
    pub immutable_bytes: usize,
    /// Whether a bitmap that a segment may contain was deleted since the last checkpoint began.
    pub has_deletions: bool,
    /// The sequence number of the last change.
    pub sequence: u64,
    /// Increases whenever a bitmap is created or deleted.
    pub keys_version: u64,
    /// When bitmaps expire.
    pub expirations: Expirations,
    /// All keys, once they were listed.
    pub index: OnceLock<KeyIndex>,
    /// The log that changes are written to, or `None` for a store in memory.
    pub log: Option<Log>,
    /// The older logs, which the current checkpoint makes superfluous.
    pub closed_logs: Vec<Arc<LogFile>>,
}

/// Changes of bits, grouped by key and tile. They are prepared before anything is written, so that
/// a failed read leaves everything unchanged.
pub struct PreparedBits {
    keys: Vec<PreparedKey>,
}

struct PreparedKey {
    key: Box<str>,
    /// Whether the bitmap does not exist yet.
    is_new: bool,
    /// The length of the bitmap in bytes after the change.
    len: u64,
    tiles: Vec<PreparedTile>,
}

struct PreparedTile {
    number: u16,
    /// The places that change, in order, and their new values.
    flips: Vec<(u16, bool)>,
}

/// Sorts bits, given as in [`Change::Bits`], by key, user and order of arrival. Returns for each
/// bit its index, and the index of its key and its user packed into one number.
pub fn sort_bits(bits: &[(u32, u32)]) -> Vec<(u64, u32)> {
    let key_and_user =
        |(key_and_value, user): &(u32, u32)| u64::from(key_and_value / 2) << 32 | u64::from(*user);
    let mut order: Vec<(u64, u32)> = bits.iter().map(key_and_user).zip(0..).collect();
    order.sort_unstable();
    order
}

impl Memtables {
    /// Prepares a change of bits, given as in [`Change::Bits`], for [`apply`](Self::apply). Stores
    /// the previous value of each bit in `before`, which must be as long as `bits`. The bits apply
    /// in order, so the previous value of a bit includes the bits before it.
    pub fn prepare(
        &mut self,
        keys: &[String],
        bits: &[(u32, u32)],
        reader: Option<&Reader<'_>>,
        mut before: Option<&mut [bool]>,
    ) -> Result<PreparedBits> {
        let order = sort_bits(bits);
        let mut prepared: Vec<PreparedKey> = Vec::with_capacity(keys.len());
        for bits_of_key in order.chunk_by(|(a, _), (b, _)| a >> 32 == b >> 32) {
            let (_, first) = bits_of_key[0];
            // A bit whose index is out of range changes nothing.
            if let Some(key) = keys.get(bits[first as usize].0 as usize / 2) {
                prepared.push(self.prepare_key(
                    key,
                    bits,
                    bits_of_key,
                    reader,
                    before.as_deref_mut(),
                )?);
            }
        }
        Ok(PreparedBits { keys: prepared })
    }

    /// Prepares the bits of one key. `bits_of_key` is a part of the result of [`sort_bits`].
    fn prepare_key(
        &mut self,
        key: &str,
        bits: &[(u32, u32)],
        bits_of_key: &[(u64, u32)],
        reader: Option<&Reader<'_>>,
        mut before: Option<&mut [bool]>,
    ) -> Result<PreparedKey> {
        self.resolve(key, reader)?;
        let view = self.view(key, reader)?;
        let user = |(_, i): &(u64, u32)| bits[*i as usize].1;
        let mut tiles = Vec::new();
        for bits_of_tile in bits_of_key.chunk_by(|a, b| split(user(a)).0 == split(user(b)).0) {
            let (number, _) = split(user(&bits_of_tile[0]));
            let probe = view.probe(number, reader);
            let mut flips = Vec::new();
            let mut previous = None;
            for (_, i) in bits_of_tile {
                let i = *i as usize;
                let (_, place) = split(bits[i].1);
                let value = bits[i].0 % 2 == 1;
                let was = match previous {
                    Some((last, value)) if last == place => value,
                    _ => probe.contains(place)?,
                };
                if let Some(before) = &mut before {
                    before[i] = was;
                }
                if was != value {
                    flips.push((place, value));
                }
                previous = Some((place, value));
            }
            if !flips.is_empty() {
                tiles.push(PreparedTile { number, flips });
            }
        }
        let last = user(bits_of_key.last().expect("a chunk is not empty"));
        Ok(PreparedKey {
            key: key.into(),
            is_new: !view.exists,
            len: view.len.max(u64::from(last) / 8 + 1),
            tiles,
        })
    }

    /// Resolves the unresolved users of a bitmap.
    pub fn resolve(&mut self, key: &str, reader: Option<&Reader<'_>>) -> Result<()> {
        let Some(reader) = reader.filter(|_| self.unresolved.contains(key)) else {
            return Ok(());
        };
        let overlay = self
            .active
            .get(key)
            .expect("a key with unresolved users has an overlay");
        if !overlay.unresolved.is_empty() {
            let resolved = overlay.resolved(reader.record(key)?.as_deref(), reader)?;
            self.set_overlay(key.into(), resolved);
        }
        self.unresolved.remove(key);
        Ok(())
    }

    /// Returns the first key after `after` that has unresolved users, and its overlay.
    pub fn next_unresolved(&self, after: &str) -> Option<(Box<str>, Arc<Overlay>)> {
        let key = self
            .unresolved
            .range::<str, _>((Bound::Excluded(after), Bound::Unbounded))
            .next()?;
        let overlay = self
            .active
            .get(key)
            .expect("a key with unresolved users has an overlay");
        Some((key.clone(), Arc::clone(overlay)))
    }

    /// Replaces an overlay by its [resolved](Overlay::resolved) form, unless the bitmap was changed
    /// in the meantime.
    pub fn put_resolved(&mut self, key: Box<str>, overlay: &Arc<Overlay>, resolved: Overlay) {
        self.unresolved.remove(&key);
        if self
            .active
            .get(&key)
            .is_some_and(|current| Arc::ptr_eq(current, overlay))
        {
            self.set_overlay(key, resolved);
        }
    }

    /// Resolves the unresolved users of all bitmaps.
    pub fn resolve_all(&mut self, reader: &Reader<'_>) -> Result<()> {
        while let Some(key) = self.unresolved.first().cloned() {
            self.resolve(&key, Some(reader))?;
        }
        Ok(())
    }

    /// Adds users of a log, in ascending order, to a bitmap. Reads no tile, because a log may
    /// change many tiles and a store must open quickly.
    pub fn add_unresolved(
        &mut self,
        key: &str,
        users: &[UserId],
        reader: &Reader<'_>,
    ) -> Result<()> {
        let Some(last) = users.last() else {
            return Ok(());
        };
        let overlay = self.active.get(key);
        let record = match overlay {
            Some(overlay) if overlay.older != Older::Visible => None,
            _ => reader.record(key)?,
        };
        let len = overlay.map_or_else(
            || record.as_ref().map_or(0, |record| record.len),
            |overlay| overlay.len,
        );
        let is_new = len == 0;
        let bytes = if len == EMPTY { 0 } else { len };
        let mut resolved = Vec::new();
        let mut unresolved = Vec::new();
        for users in users.chunk_by(|a, b| split(*a).0 == split(*b).0) {
            let (number, _) = split(users[0]);
            if record
                .as_ref()
                .is_some_and(|record| record.users_in(number) > 0)
            {
                unresolved.push((number, users));
                continue;
            }
            let new = match overlay.and_then(|overlay| overlay.tiles.get(number)) {
                Some(change) => change.added.missing(users),
                None => users.to_vec(),
            };
            if !new.is_empty() {
                resolved.push((number, new));
            }
        }
        if is_new {
            self.key_created(key);
        }
        self.change_tiles(
            key,
            is_new,
            bytes.max(u64::from(last / 8) + 1),
            resolved.into_iter(),
            |tile, users| tile.add(&users),
        );
        if !unresolved.is_empty() {
            let overlay = Arc::make_mut(self.active.get_mut(key).expect("it was inserted above"));
            for (number, users) in unresolved {
                let memory = overlay.unresolved.get(number).map_or(0, Tile::memory);
                let tile = overlay.unresolved.get_or_insert_with(number, Tile::default);
                tile.add(users);
                self.active_bytes = (self.active_bytes + tile.memory()).saturating_sub(memory);
            }
            self.unresolved.insert(key.into());
        }
        Ok(())
    }

    /// Changes bits in memory. Cannot fail.
    pub fn apply(&mut self, prepared: PreparedBits) {
        for PreparedKey {
            key,
            is_new,
            len,
            tiles,
        } in prepared.keys
        {
            if is_new {
                self.key_created(&key);
            }
            let changes = tiles
                .into_iter()
                .map(|PreparedTile { number, flips }| (number, flips));
            self.change_tiles(&key, is_new, len, changes, |tile, flips| {
                for (place, value) in flips {
                    tile.flip(place, value);
                }
            });
        }
    }

    /// Changes tiles of a bitmap, and extends the bitmap to at least `len` bytes. `is_new` says
    /// that the bitmap does not exist yet.
    pub fn change_tiles<C>(
        &mut self,
        key: &str,
        is_new: bool,
        len: u64,
        changes: impl Iterator<Item = (u16, C)>,
        change: impl Fn(&mut TileChange, C),
    ) {
        if !self.active.contains_key(key) {
            let older = if is_new {
                Older::Absent
            } else {
                Older::Visible
            };
            self.active.insert(
                key.into(),
                Arc::new(Overlay {
                    older,
                    ..Overlay::default()
                }),
            );
        }
        let overlay = Arc::make_mut(self.active.get_mut(key).expect("it was inserted above"));
        // A bitmap without bytes has at least one byte now.
        overlay.len = len.max(overlay.bytes());
        for (number, wanted) in changes {
            let tile = overlay.tiles.get_or_insert_with(number, || {
                let change = TileChange::default();
                self.active_bytes += change.memory();
                change
            });
            let memory = tile.memory();
            change(tile, wanted);
            self.active_bytes = (self.active_bytes + tile.memory()).saturating_sub(memory);
        }
    }

    /// Returns the keys that exist, without duplicates.
    pub fn existing(
        &self,
        keys: &[String],
        reader: Option<&Reader<'_>>,
    ) -> Result<BTreeSet<Box<str>>> {
        let mut existing = BTreeSet::new();
        for key in keys {
            if self.view(key, reader)?.exists {
                existing.insert(key.as_str().into());
            }
        }
        Ok(existing)
    }

    /// Deletes bitmaps, which must [exist](Self::existing), in memory. Cannot fail.
    pub fn delete(&mut self, existing: BTreeSet<Box<str>>) {
        for key in existing {
            self.keys_version += 1;
            if let Some(index) = self.index.get_mut() {
                index.remove(&key);
            }
            self.expirations.set(&key, None);
            // The table does not contain a bitmap that was created since the last checkpoint.
            self.has_deletions |= self
                .active
                .get(&key)
                .is_none_or(|overlay| overlay.older == Older::Visible);
            self.set_overlay(
                key,
                Overlay {
                    older: Older::Hidden,
                    ..Overlay::default()
                },
            );
        }
    }

    /// Creates a bitmap that does not expire, in memory. Replaces any bitmap of that name. Cannot
    /// fail.
    pub fn put(&mut self, key: &str, len: u64, tiles: impl IntoIterator<Item = (u16, Arc<Tile>)>) {
        let tiles = tiles.into_iter().map(|(number, added)| {
            let change = TileChange {
                added,
                ..TileChange::default()
            };
            (number, change)
        });
        let tiles = tiles.collect();
        self.key_created(key);
        self.expirations.set(key, None);
        self.set_overlay(
            key.into(),
            Overlay {
                older: Older::Hidden,
                len,
                tiles,
                ..Overlay::default()
            },
        );
    }

    fn set_overlay(&mut self, key: Box<str>, overlay: Overlay) {
        self.active_bytes += overlay.memory();
        if let Some(before) = self.active.insert(key, Arc::new(overlay)) {
            self.active_bytes = self.active_bytes.saturating_sub(before.memory());
        }
    }

    /// Records that a bitmap is being created.
    pub fn key_created(&mut self, key: &str) {
        self.keys_version += 1;
        if let Some(index) = self.index.get_mut() {
            index.insert(key);
        }
    }

    /// Returns the result of an operation on bitmaps. A bitmap that does not exist counts as empty.
    pub fn combine(
        &self,
        operation: Operation,
        sources: &[String],
        reader: Option<&Reader<'_>>,
    ) -> Result<bitmap::Combined> {
        let keys = sources.iter().map(|key| Some(key.as_str()));
        bitmap::combine(operation, sources.len(), &Leaves::of(keys, self, reader)?)
    }

    /// Applies a change from the log. Frames are replayed in the order in which they were written,
    /// so a result that was computed then is computed again from the same operands.
    pub fn replay(&mut self, change: Change, reader: &Reader<'_>) -> Result<()> {
        match change {
            Change::Bits { keys, bits } => {
                let prepared = self.prepare(&keys, &bits, Some(reader), None)?;
                self.apply(prepared);
            }
            Change::Add { batches } => {
                for (key, batch) in batches {
                    self.add_unresolved(&key, &batch.users(), reader)?;
                }
            }
            Change::Delete { keys } => {
                let existing = self.existing(&keys, Some(reader))?;
                self.delete(existing);
            }
            Change::Put { key, len, tiles } => {
                let tiles = tiles
                    .into_iter()
                    .map(|(number, Packed(tile))| (number, tile));
                self.put(&key, len, tiles);
            }
            Change::Combine {
                operation,
                target,
                sources,
            } => {
                let (len, tiles) = self.combine(operation, &sources, Some(reader))?;
                if len > 0 {
                    self.put(&target, len, tiles);
                } else {
                    let existing = self.existing(&[target], Some(reader))?;
                    self.delete(existing);
                }
            }
            Change::Expire { key, expires_at } => self.expirations.set(&key, expires_at),
            Change::AssignIds { prefix, first, ids } => {
                // Numbers ascend until the string ids are deleted. If this number does not, the
                // record of that deletion was lost.
                if self
                    .next_number(&prefix, Some(reader.version()))?
                    .is_some_and(|next| first < next)
                {
                    self.delete_ids(&prefix);
                }
                self.assign_ids(&prefix, first, ids.iter().map(String::as_str));
            }
            Change::DeleteIds { prefix } => self.delete_ids(&prefix),
            Change::RemoveIds { prefix, ids } => {
                let next = self
                    .next_number(&prefix, Some(reader.version()))?
                    .unwrap_or(0);
                self.remove_ids(&prefix, next, ids);
            }
            Change::All(changes) => changes
                .into_iter()
                .try_for_each(|change| self.replay(change, reader))?,
        }
        Ok(())
    }

    /// Returns a copy of what is needed to read some bitmaps and their expiry times as they are
    /// now. The copy shares its memory with these memtables, except for a few bytes per key that
    /// has changed since the last checkpoint.
    pub fn subset<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Memtables {
        let mut subset = Memtables {
            immutable: self.immutable.clone(),
            ..Memtables::default()
        };
        for key in keys {
            if let Some(overlay) = self.active.get(key) {
                subset.active.insert(key.into(), Arc::clone(overlay));
            }
            if let Some(expires_at) = self.expirations.of(key) {
                subset.expirations.set(key, Some(expires_at));
            }
        }
        subset
    }

    /// Returns a copy of what is needed to list the keys that start with `start` as they are now.
    pub fn subset_starting_with(&self, start: &str) -> Memtables {
        let active = self
            .active
            .iter()
            .filter(|(key, _)| key.starts_with(start))
            .map(|(key, overlay)| (key.clone(), Arc::clone(overlay)))
            .collect();
        Memtables {
            active,
            immutable: self.immutable.clone(),
            ..Memtables::default()
        }
    }

    /// Returns the current version of a bitmap: the table's version with the changes of both
    /// memtables.
    pub fn view(&self, key: &str, reader: Option<&Reader<'_>>) -> Result<View<'_>> {
        let immutable = self
            .immutable
            .as_ref()
            .and_then(|immutable| immutable.get(key));
        let mut overlays = [self.active.get(key), immutable]
            .map(|overlay| overlay.map(|overlay| Cow::Borrowed(&**overlay)));
        let hides_older = |overlay: &Option<Cow<'_, Overlay>>| {
            overlay
                .as_ref()
                .is_some_and(|overlay| overlay.older != Older::Visible)
        };
        if hides_older(&overlays[0]) {
            overlays[1] = None;
        }
        let record = match reader {
            Some(reader) if !overlays.iter().any(hides_older) => reader.record(key)?,
            _ => None,
        };
        if let (Some(overlay), Some(reader)) = (&overlays[0], reader)
            && !overlay.unresolved.is_empty()
        {
            overlays[0] = Some(Cow::Owned(overlay.resolved(record.as_deref(), reader)?));
        }
        let len = match overlays.iter().flatten().next() {
            Some(overlay) => overlay.len,
            None => record.as_ref().map_or(0, |record| record.len),
        };
        Ok(View {
            overlays,
            record,
            exists: len > 0,
            len: if len == EMPTY { 0 } else { len },
        })
    }

    /// Returns an index of all keys. It is built when it is first needed.
    pub fn index(&self, reader: Option<&Reader<'_>>) -> Result<&KeyIndex> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let mut index = KeyIndex::default();
        self.visit_keys("", reader, |key| {
            index.insert(key);
            true
        })?;
        // Another thread may have built the same index: nothing changes while memtables are read.
        Ok(self.index.get_or_init(|| index))
    }

    /// Passes all keys that start with `start` to `each`, in no particular order, until `each`
    /// returns `false`.
    pub fn visit_keys(
        &self,
        start: &str,
        reader: Option<&Reader<'_>>,
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<()> {
        let mut changed: HashMap<&str, bool> = HashMap::new();
        // The active memtable comes last, because it takes precedence.
        for memtable in self.immutable.as_deref().into_iter().chain([&self.active]) {
            let found = memtable.iter().filter(|(key, _)| key.starts_with(start));
            changed.extend(found.map(|(key, overlay)| (&**key, overlay.exists())));
        }
        let mut goes_on = true;
        if let Some(reader) = reader {
            reader.visit_keys(start, |key| {
                goes_on = changed.contains_key(key) || each(key);
                goes_on
            })?;
        }
        if goes_on {
            let _ = changed
                .into_iter()
                .filter(|(_, exists)| *exists)
                .all(|(key, _)| each(key));
        }
        Ok(())
    }
}

impl Overlay {
    /// Returns the overlay with its unresolved users added to `tiles`. `record` is the record of
    /// the bitmap in the table.
    pub fn resolved(&self, record: Option<&Record>, reader: &Reader<'_>) -> Result<Overlay> {
        let mut tiles = self.tiles.clone();
        for (number, users) in self.unresolved.iter() {
            let older = match record {
                Some(record) if record.users_in(number) > 0 => Some(reader.tile(record, number)?),
                _ => None,
            };
            let current = tiles.get(number).cloned().unwrap_or_default().over(older);
            let new = users.diff(&current).compact();
            if !new.is_empty() {
                tiles
                    .get_or_insert_with(number, TileChange::default)
                    .add_tile(&new);
            }
        }
        Ok(Overlay {
            tiles,
            unresolved: TileMap::default(),
            ..*self
        })
    }
}

impl TableCache {
    /// Returns memtables without changes, with the state that the table holds.
    pub fn memtables(&self) -> Result<Memtables> {
        Ok(Memtables {
            sequence: self.table.manifest().sequence,
            expirations: self
                .expirations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            string_id_prefixes: id_entries::prefixes(&self.table.version())?,
            ..Memtables::default()
        })
    }
}

/// The current version of one bitmap.
pub struct View<'a> {
    /// The overlays of the active and of the immutable memtable.
    overlays: [Option<Cow<'a, Overlay>>; 2],
    /// The record in the table, unless an overlay hides it.
    record: Option<Arc<Record>>,
    /// Whether the bitmap exists.
    pub exists: bool,
    /// The length of the bitmap in bytes.
    pub len: u64,
}

impl View<'_> {
    /// Iterates over the changes of a tile, oldest first.
    fn changes(&self, number: u16) -> impl Iterator<Item = &TileChange> {
        self.overlays
            .iter()
            .rev()
            .flatten()
            .filter_map(move |overlay| overlay.tiles.get(number))
    }

    /// Returns the number of users in a tile.
    fn users_in(&self, number: u16) -> u64 {
        let older = self
            .record
            .as_ref()
            .map_or(0, |record| record.users_in(number));
        self.changes(number)
            .fold(older, |older, change| change.users_over(older))
    }

    /// Returns whether a tile contains any users.
    pub fn has(&self, number: u16) -> bool {
        self.users_in(number) > 0
    }

    /// Returns the number of users in the bitmap.
    fn users(&self) -> u64 {
        let older = self.record.as_ref().map_or(0, |record| record.users());
        let changes = self
            .overlays
            .iter()
            .rev()
            .flatten()
            .flat_map(|overlay| overlay.tiles.iter());
        changes.fold(older, |older, (_, change)| change.users_over(older))
    }

    /// Returns approximately how many bytes the bitmap takes on disk, including what the next
    /// checkpoint adds.
    pub fn stored(&self, key: &str, reader: Option<&Reader<'_>>) -> Result<u64> {
        let mut bytes = match (&self.record, reader) {
            (Some(record), Some(reader)) => reader.stored(key, record)?,
            _ => 0,
        };
        let changed = self
            .overlays
            .iter()
            .flatten()
            .flat_map(|overlay| overlay.tiles.iter());
        bytes += changed
            .map(|(_, tile)| packed::pack(&tile.added).len() as u64 + 12)
            .sum::<u64>();
        Ok(bytes)
    }

    /// Returns the numbers of the tiles that contain users, in ascending order.
    pub fn tiles(&self) -> TileNumbers {
        let is_unchanged = self
            .overlays
            .iter()
            .flatten()
            .all(|overlay| overlay.tiles.is_empty());
        if is_unchanged {
            return match &self.record {
                Some(record) => TileNumbers::Recorded(Arc::clone(record)),
                None => TileNumbers::Merged(Vec::new()),
            };
        }
        let changed = self
            .overlays
            .iter()
            .flatten()
            .flat_map(|overlay| overlay.tiles.iter())
            .map(|(number, _)| number);
        let recorded = self.record.iter().flat_map(|record| &record.tiles).copied();
        let mut numbers: Vec<u16> = recorded.chain(changed).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| self.has(*number));
        TileNumbers::Merged(numbers)
    }

    /// Returns a tile. A tile without users is empty.
    pub fn tile(&self, number: u16, reader: Option<&Reader<'_>>) -> Result<Arc<Tile>> {
        let recorded = self.recorded(number, reader)?;
        Ok(self
            .changes(number)
            .fold(recorded, |older, change| Some(change.over(older)))
            .unwrap_or_default())
    }

    /// Returns the table's version of a tile, if there is one.
    fn recorded(&self, number: u16, reader: Option<&Reader<'_>>) -> Result<Option<Arc<Tile>>> {
        match (&self.record, reader) {
            (Some(record), Some(reader)) if record.users_in(number) > 0 => {
                reader.tile(record, number).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns those of `users` that a tile does not contain. They must be users of that tile, in
    /// ascending order.
    pub fn missing(
        &self,
        number: u16,
        users: &[UserId],
        reader: Option<&Reader<'_>>,
    ) -> Result<Vec<UserId>> {
        if self.changes(number).any(|change| change.removed.is_some()) {
            return Ok(self.tile(number, reader)?.missing(users));
        }
        let mut missing = self
            .recorded(number, reader)?
            .map_or_else(|| users.to_vec(), |tile| tile.missing(users));
        for change in self.changes(number) {
            missing = change.added.missing(&missing);
        }
        Ok(missing)
    }

    /// Returns whether the bitmap contains a user.
    pub fn contains(&self, user: UserId, reader: Option<&Reader<'_>>) -> Result<bool> {
        let (number, place) = split(user);
        self.probe(number, reader).contains(place)
    }

    /// Returns a lookup for several users of one tile.
    fn probe<'a>(&'a self, number: u16, reader: Option<&'a Reader<'a>>) -> Probe<'a> {
        Probe {
            view: self,
            number,
            reader,
            recorded: OnceCell::new(),
        }
    }
}

/// Looks up users of one tile. Reads the tile from the table at most once, and only if the
/// memtables do not change all of these users.
struct Probe<'a> {
    view: &'a View<'a>,
    number: u16,
    reader: Option<&'a Reader<'a>>,
    recorded: OnceCell<Option<Arc<Tile>>>,
}

impl Probe<'_> {
    /// Returns whether the tile contains the user at a place.
    fn contains(&self, place: u16) -> Result<bool> {
        let overlays = self.view.overlays.iter().flatten();
        let mut changed =
            overlays.filter_map(|overlay| overlay.tiles.get(self.number)?.contains(place));
        if let Some(contains) = changed.next() {
            return Ok(contains);
        }
        let recorded = match self.recorded.get() {
            Some(recorded) => recorded,
            None => {
                let recorded = self.view.recorded(self.number, self.reader)?;
                self.recorded.get_or_init(|| recorded)
            }
        };
        Ok(recorded.as_ref().is_some_and(|tile| tile.contains(place)))
    }
}

/// The numbers of the tiles of a bitmap.
pub enum TileNumbers {
    /// Those that a record in the table lists.
    Recorded(Arc<Record>),
    /// Those of the table and the memtables together.
    Merged(Vec<u16>),
}

impl Deref for TileNumbers {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        match self {
            TileNumbers::Recorded(record) => &record.tiles,
            TileNumbers::Merged(numbers) => numbers,
        }
    }
}

/// The bitmaps of a plan, as the source of an evaluation.
pub struct Leaves<'a> {
    views: Vec<Option<(View<'a>, OnceLock<TileNumbers>)>>,
    cancel: Cancel,
    reader: Option<&'a Reader<'a>>,
}

impl<'a> Leaves<'a> {
    /// Looks up one bitmap for each leaf. A leaf without a key is empty.
    pub fn of<'k>(
        keys: impl IntoIterator<Item = Option<&'k str>>,
        memtables: &'a Memtables,
        reader: Option<&'a Reader<'a>>,
    ) -> Result<Self> {
        let view = |key: &str| Ok((memtables.view(key, reader)?, OnceLock::new()));
        let views = keys.into_iter().map(|key| key.map(view).transpose());
        Ok(Leaves {
            views: views.collect::<Result<_>>()?,
            cancel: Cancel::current(),
            reader,
        })
    }
}

impl Source for Leaves<'_> {
    type Error = StoreError;

    fn byte_len(&self, leaf: usize) -> u64 {
        self.views[leaf].as_ref().map_or(0, |(view, _)| view.len)
    }

    fn users(&self, leaf: usize) -> Option<u64> {
        Some(
            self.views[leaf]
                .as_ref()
                .map_or(0, |(view, _)| view.users()),
        )
    }

    fn tiles(&self, leaf: usize) -> &[u16] {
        let Some((view, tiles)) = &self.views[leaf] else {
            return &[];
        };
        tiles.get_or_init(|| view.tiles())
    }

    fn tile(&self, leaf: usize, number: u16) -> Result<Arc<Tile>> {
        match &self.views[leaf] {
            Some((view, _)) => view.tile(number, self.reader),
            None => Ok(Arc::default()),
        }
    }

    fn go_on(&self) -> Result<()> {
        self.cancel.check()
    }
}
