//! What has changed since the last checkpoint, laid over what that checkpoint wrote.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Bound, Deref};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;

use crate::bitmap::{self, Operation, Source, Tile, split};
use crate::sets::UserId;
use crate::store::embedded::idmap::{AssignedIds, IdMaps};
use crate::store::embedded::record::Record;
use crate::store::embedded::table::packed;
use crate::store::embedded::table_cache::Reader;
use crate::store::embedded::wal::{Change, Frame, Log, LogFile, Packed};
use crate::store::{Cancel, Result, StoreError};

/// The length that says "there, and empty": 0 says "gone". Only Redis' SET makes such a key.
pub const EMPTY: u64 = u64::MAX;

/// The changes of one key since the layer below.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// What the layers below hold for the key.
    pub below: Below,
    /// The byte length of the whole bitmap, layers below included; 0 for a key that is gone,
    /// [`EMPTY`] for one without a byte.
    pub len: u64,
    /// What changed of its tiles.
    pub tiles: ByTile<TileChange>,
    /// Users added by a log to tiles that were not read when the store was opened. They apply on
    /// top of `tiles`, and may be in the tiles already.
    pub unread: ByTile<Tile>,
}

impl Overlay {
    /// Returns the overlay with its unread users resolved against a bitmap of the table.
    pub fn resolved(&self, base: Option<&Record>, reader: &Reader<'_>) -> Result<Overlay> {
        let mut tiles = self.tiles.clone();
        for (number, users) in self.unread.iter() {
            let below = match base {
                Some(record) if record.users_in(number) > 0 => Some(reader.tile(record, number)?),
                _ => None,
            };
            let now = tiles.get(number).cloned().unwrap_or_default().over(below);
            let new = users.diff(&now).compact();
            if !new.is_empty() {
                tiles
                    .get_or_insert_with(number, TileChange::default)
                    .take_in(&new);
            }
        }
        Ok(Overlay {
            tiles,
            unread: ByTile::default(),
            ..*self
        })
    }
}

/// What the layers below an overlay hold for its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Below {
    /// Either a bitmap, which the overlay changes, or nothing.
    #[default]
    Changed,
    /// Either a bitmap that was deleted or replaced, or nothing.
    Replaced,
    /// Nothing.
    Nothing,
}

/// A sorted map from tile numbers. Most bitmaps have one tile or a few.
#[derive(Debug, Clone)]
pub struct ByTile<T>(Vec<(u16, T)>);

impl<T> ByTile<T> {
    fn find(&self, number: u16) -> std::result::Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(number, _)| *number)
    }

    pub fn get(&self, number: u16) -> Option<&T> {
        self.find(number).ok().map(|at| &self.0[at].1)
    }

    /// Returns the entry of a tile. Inserts the result of `new` if there is none.
    pub fn get_or_insert_with(&mut self, number: u16, new: impl FnOnce() -> T) -> &mut T {
        let at = self.find(number).unwrap_or_else(|at| {
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            self.0.insert(at, (number, new()));
            at
        });
        &mut self.0[at].1
    }

    /// Iterates over all entries in ascending order of tile numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        self.0.iter().map(|(number, change)| (*number, change))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for ByTile<T> {
    fn default() -> Self {
        ByTile(Vec::new())
    }
}

impl<T> FromIterator<(u16, T)> for ByTile<T> {
    /// Collects entries, which must ascend by tile number.
    fn from_iter<I: IntoIterator<Item = (u16, T)>>(tiles: I) -> Self {
        let tiles: Vec<_> = tiles.into_iter().collect();
        assert!(tiles.is_sorted_by(|(a, _), (b, _)| a < b), "tiles ascend");
        ByTile(tiles)
    }
}

/// The changes of one tile since the layer below: users added who were not in it, and users removed
/// who were.
#[derive(Debug, Clone, Default)]
pub struct TileChange {
    /// Those added.
    pub added: Arc<Tile>,
    /// Those removed, if there are any. Mostly there are none, and there may be millions of tiles
    /// with a user or two.
    removed: Option<Arc<Tile>>,
}

impl TileChange {
    /// The tile, laid over what the layer below has.
    pub fn over(&self, below: Option<Arc<Tile>>) -> Arc<Tile> {
        let Some(below) = below.filter(|below| !below.is_empty()) else {
            return Arc::clone(&self.added);
        };
        match &self.removed {
            None if self.added.is_empty() => below,
            None => Arc::new(below.or(&self.added)),
            Some(removed) => Arc::new(below.diff(removed).or(&self.added)),
        }
    }

    /// The users removed.
    pub fn removed(&self) -> Cow<'_, Tile> {
        self.removed
            .as_deref()
            .map_or_else(Cow::default, Cow::Borrowed)
    }

    /// How many users there are where there are so many below.
    pub fn users(&self, below: u64) -> u64 {
        below + self.added.len() - self.removed_len()
    }

    /// How many users were removed.
    pub fn removed_len(&self) -> u64 {
        self.removed.as_ref().map_or(0, |removed| removed.len())
    }

    /// Whether the user at a place is in the tile, if it was changed.
    fn says(&self, place: u16) -> Option<bool> {
        if self.added.contains(place) {
            Some(true)
        } else if self
            .removed
            .as_ref()
            .is_some_and(|removed| removed.contains(place))
        {
            Some(false)
        } else {
            None
        }
    }

    /// Changes the user at a place, who must not be as wanted already.
    fn flip(&mut self, place: u16, value: bool) {
        // Back to what the layer below has, or away from it.
        if value {
            let is_back = self
                .removed
                .as_mut()
                .is_some_and(|removed| Arc::make_mut(removed).set(place, false));
            if !is_back {
                Arc::make_mut(&mut self.added).set(place, true);
            }
            self.removed = self.removed.take().filter(|removed| !removed.is_empty());
        } else if self.added.is_empty() || !Arc::make_mut(&mut self.added).set(place, false) {
            Arc::make_mut(self.removed.get_or_insert_default()).set(place, true);
        }
    }

    /// Adds users, ascending, none of whom may be there already.
    pub fn add(&mut self, users: &[UserId]) {
        if self.removed.is_none() {
            Arc::make_mut(&mut self.added).add(users);
        } else {
            users
                .iter()
                .for_each(|user| self.flip(split(*user).1, true));
        }
    }

    /// Adds users. None of them may be in the tile already.
    fn take_in(&mut self, users: &Tile) {
        match self.removed.take() {
            None => self.added = Arc::new(self.added.or(users)),
            Some(removed) => {
                self.added = Arc::new(self.added.or(&users.diff(&removed)));
                self.removed =
                    Some(Arc::new(removed.diff(users))).filter(|removed| !removed.is_empty());
            }
        }
    }

    /// About how much memory it takes.
    pub fn memory(&self) -> usize {
        // Its place in the map, and the counters of what is shared.
        64 + self.added.memory() + self.removed.as_ref().map_or(0, |removed| removed.memory())
    }
}

/// Changes by the text of their key. Readers share them: a writer copies the overlays, and of these
/// the tiles, that a reader still holds.
pub type Overlays = HashMap<Box<str>, Arc<Overlay>>;

/// Everything that is not in the file yet.
#[derive(Debug, Default)]
pub struct Memtables {
    /// What changed since the last checkpoint began.
    pub dirty: Overlays,
    /// What the checkpoint under way, or the one that failed, is writing.
    pub frozen: Option<Arc<Overlays>>,
    /// The keys in `dirty` with unread users.
    pub unread: BTreeSet<Box<str>>,
    /// The text ids that are new since the last checkpoint began, and what the checkpoint is
    /// writing of them.
    pub rolls: IdMaps,
    /// As `frozen`.
    pub frozen_rolls: Option<Arc<IdMaps>>,
    /// Filters of the string ids that have numbers, in all layers and the table, for some prefixes.
    pub given: HashMap<Box<str>, AssignedIds>,
    /// The prefixes whose users are called by texts.
    pub enrolled: BTreeSet<Box<str>>,
    /// A part of the log was lost: what it said of text ids is not known.
    pub lost: bool,
    /// About how much memory `dirty` and `rolls` take.
    pub dirty_bytes: usize,
    /// Whether a bitmap was deleted that may be in a segment, since the last checkpoint began.
    pub deleted: bool,
    /// The sequence of the last change.
    pub sequence: u64,
    /// How often keys were made or deleted since the store was opened.
    pub keys_version: u64,
    /// When keys go by themselves.
    pub lifetimes: Expirations,
    /// All keys, once somebody walked through them.
    pub index: OnceLock<Index>,
    /// Where changes are logged; in memory, nowhere.
    pub log: Option<Log>,
    /// The logs before, which the checkpoint under way makes superfluous.
    pub closed: Vec<Arc<LogFile>>,
}

/// When keys go by themselves, in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expirations {
    ends: HashMap<Box<str>, u64>,
    in_order: BTreeSet<(u64, Box<str>)>,
}

impl Expirations {
    /// When a key goes; `None` when it stays.
    pub fn of(&self, text: &str) -> Option<u64> {
        self.ends.get(text).copied()
    }

    /// Lets a key go at that time, or stay.
    pub fn set(&mut self, text: &str, until: Option<u64>) {
        if let Some((text, before)) = self.ends.remove_entry(text) {
            self.in_order.remove(&(before, text));
        }
        if let Some(until) = until {
            self.ends.insert(text.into(), until);
            self.in_order.insert((until, text.into()));
        }
    }

    /// When the next key goes.
    pub fn next(&self) -> Option<u64> {
        self.in_order.first().map(|(until, _)| *until)
    }

    /// The keys whose time has come.
    pub fn over(&self, now: u64) -> Vec<String> {
        self.in_order
            .iter()
            .take_while(|(until, _)| *until <= now)
            .map(|(_, text)| text.to_string())
            .collect()
    }

    /// How many keys will go.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Each key with its time.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.ends.iter().map(|(text, until)| (&**text, *until))
    }
}

/// All keys in an order that does not change while keys come and go: who walks through it in steps,
/// keeping only a number, meets every key that was there all the time.
#[derive(Debug, Default)]
pub struct Index {
    places: BTreeMap<u64, Vec<Box<str>>>,
    len: usize,
}

/// Where a key stands: from 1 to 2⁵³, which every client's numbers can hold.
fn place_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    (hasher.finish() >> 11) + 1
}

impl Index {
    fn insert(&mut self, text: &str) {
        let texts = self.places.entry(place_of(text)).or_default();
        if texts.iter().all(|there| **there != *text) {
            texts.push(text.into());
            self.len += 1;
        }
    }

    fn remove(&mut self, text: &str) {
        let place = place_of(text);
        if let Some(texts) = self.places.get_mut(&place) {
            let before = texts.len();
            texts.retain(|there| **there != *text);
            self.len -= before - texts.len();
            if texts.is_empty() {
                self.places.remove(&place);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.values().flatten().map(|text| &**text)
    }

    /// At least `count` keys from the place `cursor` on, if there are so many, and the place to go
    /// on from; 0 at the end.
    pub fn walk(&self, cursor: u64, count: usize) -> (u64, Vec<&str>) {
        let mut found = Vec::new();
        for (place, texts) in self.places.range(cursor..) {
            if found.len() >= count {
                return (*place, found);
            }
            found.extend(texts.iter().map(|text| &**text));
        }
        (0, found)
    }
}

/// Bits to change, sorted out by key and tile, with the tiles they change. Made before anything is
/// written, so that a failure to read leaves everything as it was.
pub struct Prepared {
    keys: Vec<PreparedKey>,
}

struct PreparedKey {
    text: Box<str>,
    /// There is no such key yet.
    new: bool,
    len: u64,
    tiles: Vec<PreparedTile>,
}

struct PreparedTile {
    number: u16,
    /// Places that change, in order, and their new values.
    flips: Vec<(u16, bool)>,
}

/// Sorts bits, given as in [`Change::Bits`], by key, user and order of arrival. Returns key and
/// user of each bit, packed into one number, and its index.
fn in_order(bits: &[(u32, u32)]) -> Vec<(u64, u32)> {
    let at =
        |(key_and_value, user): &(u32, u32)| u64::from(key_and_value / 2) << 32 | u64::from(*user);
    let mut order: Vec<(u64, u32)> = bits.iter().map(at).zip(0..).collect();
    order.sort_unstable();
    order
}

impl Memtables {
    /// Reads what a change of bits needs. `bits` are as in [`Change::Bits`]; `before` is told of
    /// each what it was, the changes in front of it included.
    pub fn prepare(
        &mut self,
        keys: &[String],
        bits: &[(u32, u32)],
        reader: Option<&Reader<'_>>,
        mut before: Option<&mut [bool]>,
    ) -> Result<Prepared> {
        let order = in_order(bits);
        let mut prepared: Vec<PreparedKey> = Vec::with_capacity(keys.len());
        for bits_of_key in order.chunk_by(|(a, _), (b, _)| a >> 32 == b >> 32) {
            let Some(text) = bits_of_key
                .first()
                .and_then(|(at, _)| keys.get(usize::try_from(at >> 32).ok()?))
            else {
                continue;
            };
            self.resolve(text, reader)?;
            let view = self.view(text, reader)?;
            let user = |(_, i): &(u64, u32)| bits[*i as usize].1;
            let last = bits_of_key.last().map_or(0, user);
            let mut tiles = Vec::new();
            for bits_of_tile in bits_of_key.chunk_by(|a, b| split(user(a)).0 == split(user(b)).0) {
                let Some(number) = bits_of_tile.first().map(|bit| split(user(bit)).0) else {
                    continue;
                };
                let probe = view.probe(number, reader);
                let (mut flips, mut previous) = (Vec::new(), None);
                for (_, i) in bits_of_tile {
                    let i = *i as usize;
                    let (place, value) = (split(bits[i].1).1, bits[i].0 % 2 == 1);
                    let was = match previous {
                        Some((last, value)) if last == place => value,
                        _ => probe.contains(place)?,
                    };
                    if let Some(before) = before.as_deref_mut().and_then(|before| before.get_mut(i))
                    {
                        *before = was;
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
            let len = view.len.max(u64::from(last) / 8 + 1);
            prepared.push(PreparedKey {
                text: text.as_str().into(),
                new: !view.exists,
                len,
                tiles,
            });
        }
        Ok(Prepared { keys: prepared })
    }

    /// Resolves the unread users of a key.
    pub fn resolve(&mut self, text: &str, reader: Option<&Reader<'_>>) -> Result<()> {
        let Some(reader) = reader.filter(|_| self.unread.contains(text)) else {
            return Ok(());
        };
        if let Some(overlay) = self
            .dirty
            .get(text)
            .filter(|overlay| !overlay.unread.is_empty())
        {
            let resolved = overlay.resolved(reader.record(text)?.as_deref(), reader)?;
            self.replace(text.into(), resolved);
        }
        self.unread.remove(text);
        Ok(())
    }

    /// Returns the first key after `after` that has unread users, and its overlay.
    pub fn next_unread(&self, after: &str) -> Option<(Box<str>, Arc<Overlay>)> {
        let text = self
            .unread
            .range::<str, _>((Bound::Excluded(after), Bound::Unbounded))
            .next()?;
        Some((
            text.clone(),
            self.dirty.get(text).map(Arc::clone).unwrap_or_default(),
        ))
    }

    /// Replaces an overlay by its [resolved](Overlay::resolved) form, unless the key was changed in
    /// the meantime.
    pub fn put_resolved(&mut self, text: Box<str>, overlay: &Arc<Overlay>, resolved: Overlay) {
        self.unread.remove(&text);
        if self
            .dirty
            .get(&text)
            .is_some_and(|now| Arc::ptr_eq(now, overlay))
        {
            self.replace(text, resolved);
        }
    }

    /// Resolves the unread users of all keys.
    pub fn resolve_all(&mut self, reader: &Reader<'_>) -> Result<()> {
        while let Some(text) = self.unread.first().cloned() {
            self.resolve(&text, Some(reader))?;
        }
        Ok(())
    }

    /// Adds users of a log, in ascending order, to a bitmap. Reads no tile, because a log may
    /// change many and a start must be quick.
    fn put_unread(&mut self, text: &str, users: &[UserId], reader: &Reader<'_>) -> Result<()> {
        let Some(last) = users.last() else {
            return Ok(());
        };
        let overlay = self.dirty.get(text);
        let record = match overlay {
            Some(overlay) if overlay.below != Below::Changed => None,
            _ => reader.record(text)?,
        };
        let len = overlay.map_or_else(
            || record.as_ref().map_or(0, |record| record.len),
            |overlay| overlay.len,
        );
        let is_new = len == 0;
        let bytes = if len == EMPTY { 0 } else { len };
        let (mut known, mut unread) = (Vec::new(), Vec::new());
        for users in users.chunk_by(|a, b| split(*a).0 == split(*b).0) {
            let number = split(users[0]).0;
            if record
                .as_ref()
                .is_some_and(|record| record.users_in(number) > 0)
            {
                unread.push((number, users));
            } else {
                let change = overlay.and_then(|overlay| overlay.tiles.get(number));
                known.push((
                    number,
                    change.map_or_else(|| users.to_vec(), |change| change.added.missing(users)),
                ));
            }
        }
        if is_new {
            self.made(text);
        }
        let known = known.into_iter().filter(|(_, users)| !users.is_empty());
        self.change(
            text,
            is_new,
            bytes.max(u64::from(last / 8) + 1),
            known,
            |tile, users| tile.add(&users),
        );
        if !unread.is_empty() {
            let overlay = Arc::make_mut(self.dirty.get_mut(text).expect("it was put there"));
            for (number, users) in unread {
                let memory = overlay.unread.get(number).map_or(0, Tile::memory);
                let tile = overlay.unread.get_or_insert_with(number, Tile::default);
                tile.add(users);
                self.dirty_bytes = (self.dirty_bytes + tile.memory()).saturating_sub(memory);
            }
            self.unread.insert(text.into());
        }
        Ok(())
    }

    /// Changes bits in memory. Cannot fail.
    pub fn apply(&mut self, prepared: Prepared) {
        for key in prepared.keys {
            if key.new {
                self.made(&key.text);
            }
            let changes = key
                .tiles
                .into_iter()
                .map(|PreparedTile { number, flips }| (number, flips));
            self.change(&key.text, key.new, key.len, changes, |tile, flips| {
                flips
                    .into_iter()
                    .for_each(|(place, value)| tile.flip(place, value));
            });
        }
    }

    /// Changes tiles of a key, and extends its bitmap to at least `len` bytes. `new` means that the
    /// key does not exist yet.
    pub fn change<C>(
        &mut self,
        text: &str,
        new: bool,
        len: u64,
        changes: impl Iterator<Item = (u16, C)>,
        change: impl Fn(&mut TileChange, C),
    ) {
        if !self.dirty.contains_key(text) {
            let below = if new { Below::Nothing } else { Below::Changed };
            self.dirty.insert(
                text.into(),
                Arc::new(Overlay {
                    below,
                    ..Overlay::default()
                }),
            );
        }
        let overlay = Arc::make_mut(self.dirty.get_mut(text).expect("it was put there"));
        // What was empty has a byte now.
        overlay.len = len.max(overlay.bytes());
        for (number, wanted) in changes {
            let tile = overlay.tiles.get_or_insert_with(number, || {
                let change = TileChange::default();
                self.dirty_bytes += change.memory();
                change
            });
            let memory = tile.memory();
            change(tile, wanted);
            self.dirty_bytes = (self.dirty_bytes + tile.memory()).saturating_sub(memory);
        }
    }

    /// Those of the keys that exist, each once.
    pub fn existing(
        &self,
        keys: &[String],
        reader: Option<&Reader<'_>>,
    ) -> Result<BTreeSet<Box<str>>> {
        let mut there = BTreeSet::new();
        for text in keys {
            if self.view(text, reader)?.exists {
                there.insert(text.as_str().into());
            }
        }
        Ok(there)
    }

    /// Deletes [`existing`](Self::existing) keys in memory. Cannot fail.
    pub fn delete(&mut self, existing: BTreeSet<Box<str>>) {
        for text in existing {
            self.keys_version += 1;
            if let Some(index) = self.index.get_mut() {
                index.remove(&text);
            }
            self.lifetimes.set(&text, None);
            // One that was made since needs no entry that it is gone.
            self.deleted |= self
                .dirty
                .get(&text)
                .is_none_or(|overlay| overlay.below == Below::Changed);
            self.replace(
                text,
                Overlay {
                    below: Below::Replaced,
                    ..Overlay::default()
                },
            );
        }
    }

    /// Makes a bitmap in memory, in place of what there is of that name. Cannot fail.
    pub fn put(&mut self, text: &str, len: u64, tiles: impl IntoIterator<Item = (u16, Arc<Tile>)>) {
        let whole = |added| TileChange {
            added,
            ..TileChange::default()
        };
        let tiles = tiles
            .into_iter()
            .map(|(number, tile)| (number, whole(tile)))
            .collect();
        self.made(text);
        self.lifetimes.set(text, None);
        self.replace(
            text.into(),
            Overlay {
                below: Below::Replaced,
                len,
                tiles,
                ..Overlay::default()
            },
        );
    }

    fn replace(&mut self, text: Box<str>, overlay: Overlay) {
        self.dirty_bytes += overlay.memory();
        if let Some(before) = self.dirty.insert(text, Arc::new(overlay)) {
            self.dirty_bytes = self.dirty_bytes.saturating_sub(before.memory());
        }
    }

    /// Takes note of a new key.
    pub fn made(&mut self, text: &str) {
        self.keys_version += 1;
        if let Some(index) = self.index.get_mut() {
            index.insert(text);
        }
    }

    /// What an operation on bitmaps comes to. Those that are not there are empty.
    pub fn combine(
        &self,
        operation: Operation,
        sources: &[String],
        reader: Option<&Reader<'_>>,
    ) -> Result<bitmap::Combined> {
        let texts = sources.iter().map(|text| Some(text.as_str()));
        bitmap::combine(operation, sources.len(), &Leaves::of(texts, self, reader)?)
    }

    /// Carries out what a frame says, as it was carried out when it was written. The order of
    /// frames is that of changes, so what one of them computed is computed again.
    pub fn replay(&mut self, change: Change, reader: &Reader<'_>) -> Result<()> {
        match change {
            Change::Bits { keys, bits } => {
                let prepared = self.prepare(&keys, &bits, Some(reader), None)?;
                self.apply(prepared);
            }
            Change::Runs { runs } => {
                for (text, run) in runs {
                    self.put_unread(&text, &run.users().unwrap_or_default(), reader)?;
                }
            }
            Change::Delete { keys } => {
                let existing = self.existing(&keys, Some(reader))?;
                self.delete(existing);
            }
            Change::Put { key, len, tiles } => {
                self.put(
                    &key,
                    len,
                    tiles
                        .into_iter()
                        .map(|(number, Packed(tile))| (number, tile)),
                );
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
            Change::Lifetime { key, until } => self.lifetimes.set(&key, until),
            Change::Enroll {
                prefix,
                first,
                texts,
            } => {
                // Numbers ascend until they are forgotten. If this one does not, the record that
                // forgot them was lost.
                if self
                    .next_number(&prefix, Some(reader.version()))?
                    .is_some_and(|next| first < next)
                {
                    self.forget(&prefix);
                }
                self.assign(&prefix, first, texts.iter().map(String::as_str));
            }
            Change::Forget { prefix } => self.forget(&prefix),
            Change::All(changes) => changes
                .into_iter()
                .try_for_each(|change| self.replay(change, reader))?,
        }
        Ok(())
    }

    /// These layers as they are now, of some keys: enough to read these, and to see when they go.
    /// It shares its memory with the layers and takes none but for the keys that have changed since
    /// the last checkpoint.
    pub fn part<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Memtables {
        let mut part = Memtables {
            frozen: self.frozen.clone(),
            ..Memtables::default()
        };
        for text in keys {
            if let Some(overlay) = self.dirty.get(text) {
                part.dirty.insert(text.into(), Arc::clone(overlay));
            }
            if let Some(until) = self.lifetimes.of(text) {
                part.lifetimes.set(text, Some(until));
            }
        }
        part
    }

    /// The same of all keys that begin so, to list them.
    pub fn part_beginning(&self, beginning: &str) -> Memtables {
        let dirty = self
            .dirty
            .iter()
            .filter(|(text, _)| text.starts_with(beginning));
        let dirty = dirty
            .map(|(text, overlay)| (text.clone(), Arc::clone(overlay)))
            .collect();
        Memtables {
            dirty,
            frozen: self.frozen.clone(),
            ..Memtables::default()
        }
    }

    /// One key through all layers.
    pub fn view(&self, text: &str, reader: Option<&Reader<'_>>) -> Result<View<'_>> {
        let frozen = self.frozen.as_ref().and_then(|frozen| frozen.get(text));
        let mut overlays = [self.dirty.get(text), frozen]
            .map(|overlay| overlay.map(|overlay| Cow::Borrowed(&**overlay)));
        if overlays[0]
            .as_ref()
            .is_some_and(|overlay| overlay.below != Below::Changed)
        {
            overlays[1] = None;
        }
        let hidden = overlays
            .iter()
            .flatten()
            .any(|overlay| overlay.below != Below::Changed);
        let base = match reader {
            Some(reader) if !hidden => reader.record(text)?,
            _ => None,
        };
        if let (Some(overlay), Some(reader)) = (&overlays[0], reader)
            && !overlay.unread.is_empty()
        {
            overlays[0] = Some(Cow::Owned(overlay.resolved(base.as_deref(), reader)?));
        }
        let len = match overlays.iter().flatten().next() {
            Some(overlay) => overlay.len,
            None => base.as_ref().map_or(0, |record| record.len),
        };
        Ok(View {
            overlays,
            base,
            exists: len > 0,
            len: if len == EMPTY { 0 } else { len },
        })
    }

    /// All keys there are, in the order of [`place_of`].
    pub fn index(&self, reader: Option<&Reader<'_>>) -> Result<&Index> {
        if self.index.get().is_none() {
            let mut index = Index::default();
            self.visit_keys("", reader, |text| {
                index.insert(text);
                true
            })?;
            // Whoever was quicker found the same keys: nothing changes while layers are read.
            let _ = self.index.set(index);
        }
        Ok(self.index.get_or_init(Index::default))
    }

    /// Gives the texts of all keys that begin so, in no particular order, until `each` answers
    /// `false`.
    pub fn visit_keys(
        &self,
        beginning: &str,
        reader: Option<&Reader<'_>>,
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<()> {
        // The newer layer over the older.
        let mut changed: HashMap<&str, bool> = HashMap::new();
        for overlays in self.frozen.as_deref().into_iter().chain([&self.dirty]) {
            let begins_so = overlays
                .iter()
                .filter(|(text, _)| text.starts_with(beginning));
            changed.extend(begins_so.map(|(text, overlay)| (&**text, overlay.exists())));
        }
        let mut goes_on = true;
        if let Some(reader) = reader {
            reader.visit_keys(beginning, |text| {
                goes_on = changed.contains_key(text) || each(text);
                goes_on
            })?;
        }
        if goes_on {
            let _ = changed
                .into_iter()
                .filter(|(_, exists)| *exists)
                .all(|(text, _)| each(text));
        }
        Ok(())
    }
}

/// Frames of the log on their way back into the layers: bits are gathered over many frames and put
/// in together, as each key and tile is then looked up once and not once a frame.
pub struct Gathered<'a> {
    layers: &'a mut Memtables,
    reader: &'a Reader<'a>,
    /// By the place of a key in the log, its place here.
    places: Vec<Option<u32>>,
    keys: Vec<String>,
    bits: Vec<(u32, u32)>,
}

/// How many bits are gathered before they are put in: 32 MiB of them.
const GATHERED: usize = 4 << 20;

impl<'a> Gathered<'a> {
    /// Nothing yet.
    pub fn new(layers: &'a mut Memtables, reader: &'a Reader<'a>) -> Self {
        Gathered {
            layers,
            reader,
            places: Vec::new(),
            keys: Vec::new(),
            bits: Vec::new(),
        }
    }

    /// Takes in the next frame of the log at `path`, which names these keys.
    pub fn take(
        &mut self,
        frame: Frame<u32>,
        names: &[Option<Arc<str>>],
        accepts_loss: bool,
        path: &Path,
    ) -> Result<()> {
        let damaged = |reason: String| StoreError::damaged(path, reason);
        if frame.sequence > self.layers.sequence + 1 {
            if !accepts_loss {
                return Err(damaged(format!(
                    "the changes {} to {} are missing before it",
                    self.layers.sequence + 1,
                    frame.sequence - 1
                )));
            }
            self.layers.lost = true;
        }
        let named = |place: u32| names.get(place as usize)?.as_ref().map(ToString::to_string);
        match frame.change {
            Change::Bits { keys, bits } => {
                let mut places = Vec::with_capacity(keys.len());
                for key in keys {
                    let at = key as usize;
                    if self.places.len() <= at {
                        self.places.resize(at + 1, None);
                    }
                    if self.places[at].is_none() {
                        let next = u32::try_from(self.keys.len()).ok();
                        let name = named(key)
                            .ok_or_else(|| damaged(format!("it does not name key {key}")));
                        match name {
                            Ok(name) => self.keys.push(name),
                            Err(_) if accepts_loss => {
                                places.push(None);
                                continue;
                            }
                            Err(error) => return Err(error),
                        }
                        self.places[at] = next;
                    }
                    places.push(self.places[at]);
                }
                self.bits
                    .extend(bits.into_iter().filter_map(|(key_and_value, user)| {
                        let place = (*places.get(key_and_value as usize / 2)?)?;
                        Some((place * 2 + key_and_value % 2, user))
                    }));
                if self.bits.len() > GATHERED {
                    self.put_in()?;
                }
            }
            change => {
                self.put_in()?;
                match change.renamed(&mut |place| named(place)) {
                    Some(change) => {
                        if let (true, Change::Runs { runs }) = (self.layers.lost, &change) {
                            let named = runs
                                .iter()
                                .filter_map(|(text, run)| Some((text, *run.users()?.last()?)));
                            self.reader.pass_over(self.layers, named)?;
                        }
                        self.layers.replay(change, self.reader)?;
                    }
                    None if accepts_loss => {}
                    None => {
                        return Err(damaged("it does not name a key that it changes".to_owned()));
                    }
                }
            }
        }
        self.layers.sequence = self.layers.sequence.max(frame.sequence);
        Ok(())
    }

    /// Puts in what was gathered.
    pub fn put_in(&mut self) -> Result<()> {
        self.places.clear();
        let keys = std::mem::take(&mut self.keys);
        if self.layers.lost {
            self.pass_over(&keys)?;
        }
        let bits = std::mem::take(&mut self.bits);
        let mut cleared = Vec::new();
        for bits_of_key in in_order(&bits).chunk_by(|(a, _), (b, _)| a >> 32 == b >> 32) {
            let bit = |(_, i): &(u64, u32)| bits[*i as usize];
            if bits_of_key.iter().all(|at| bit(at).0 % 2 == 1) {
                let mut users: Vec<UserId> = bits_of_key.iter().map(|at| bit(at).1).collect();
                users.dedup();
                self.layers.put_unread(
                    &keys[bit(&bits_of_key[0]).0 as usize / 2],
                    &users,
                    self.reader,
                )?;
            } else {
                cleared.extend(bits_of_key.iter().map(bit));
            }
        }
        let prepared = self
            .layers
            .prepare(&keys, &cleared, Some(self.reader), None)?;
        self.layers.apply(prepared);
        Ok(())
    }
}

impl Gathered<'_> {
    fn pass_over(&mut self, keys: &[String]) -> Result<()> {
        let mut greatest: HashMap<u32, UserId> = HashMap::new();
        for (key_and_value, user) in &self.bits {
            let user = (*user).max(greatest.get(&(key_and_value / 2)).copied().unwrap_or(0));
            greatest.insert(key_and_value / 2, user);
        }
        let named = greatest
            .into_iter()
            .filter_map(|(place, user)| Some((keys.get(place as usize)?, user)));
        self.reader.pass_over(self.layers, named)
    }
}

/// One key through all layers.
pub struct View<'a> {
    overlays: [Option<Cow<'a, Overlay>>; 2],
    base: Option<Arc<Record>>,
    /// Whether there is such a key.
    pub exists: bool,
    /// The byte length of the bitmap.
    pub len: u64,
}

impl View<'_> {
    /// What changed of a tile, from the older to the newer layer.
    fn changes(&self, number: u16) -> impl Iterator<Item = &TileChange> {
        self.overlays
            .iter()
            .rev()
            .flatten()
            .filter_map(move |overlay| overlay.tiles.get(number))
    }

    /// How many users are in a tile.
    fn users_in(&self, number: u16) -> u64 {
        let below = self
            .base
            .as_ref()
            .map_or(0, |record| record.users_in(number));
        self.changes(number)
            .fold(below, |below, change| change.users(below))
    }

    /// Whether there are users in a tile.
    pub fn has(&self, number: u16) -> bool {
        self.users_in(number) > 0
    }

    /// How many users there are.
    fn users(&self) -> u64 {
        let below = self.base.as_ref().map_or(0, |record| record.users());
        let changes = self
            .overlays
            .iter()
            .rev()
            .flatten()
            .flat_map(|overlay| overlay.tiles.iter());
        changes.fold(below, |below, (_, change)| change.users(below))
    }

    /// About how many bytes it takes on the disk: what the table has of it, and what the next
    /// checkpoint adds.
    pub fn stored(&self, text: &str, reader: Option<&Reader<'_>>) -> Result<u64> {
        let mut bytes = match (&self.base, reader) {
            (Some(record), Some(reader)) => reader.stored(text, record)?,
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

    /// The numbers of the tiles that hold users, ascending.
    pub fn tiles(&self) -> Tiles {
        let base = self.base.as_ref();
        if self
            .overlays
            .iter()
            .flatten()
            .all(|overlay| overlay.tiles.is_empty())
        {
            return base.map_or(Tiles::Own(Vec::new()), |record| {
                Tiles::Recorded(Arc::clone(record))
            });
        }
        let changed = self
            .overlays
            .iter()
            .flatten()
            .flat_map(|overlay| overlay.tiles.iter());
        let recorded = base.iter().flat_map(|record| &record.tiles).copied();
        let mut numbers: Vec<u16> = recorded.chain(changed.map(|(number, _)| number)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| self.has(*number));
        Tiles::Own(numbers)
    }

    /// A tile, which is empty where it has no users.
    pub fn tile(&self, number: u16, reader: Option<&Reader<'_>>) -> Result<Arc<Tile>> {
        let below = self.below(number, reader)?;
        Ok(self
            .changes(number)
            .fold(below, |below, change| Some(change.over(below)))
            .unwrap_or_default())
    }

    /// What the table has of a tile, if it has it.
    fn below(&self, number: u16, reader: Option<&Reader<'_>>) -> Result<Option<Arc<Tile>>> {
        match (&self.base, reader) {
            (Some(record), Some(reader)) if record.users_in(number) > 0 => {
                reader.tile(record, number).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Those of some users of a tile, ascending, who are not in it.
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
            .below(number, reader)?
            .map_or_else(|| users.to_vec(), |tile| tile.missing(users));
        for change in self.changes(number) {
            missing = change.added.missing(&missing);
        }
        Ok(missing)
    }

    /// To ask for single users of a tile.
    pub fn probe<'a>(&'a self, number: u16, reader: Option<&'a Reader<'a>>) -> Probe<'a> {
        Probe {
            view: self,
            number,
            reader,
            below: OnceCell::new(),
        }
    }
}

/// Single users of a tile. The table is only read when no layer above says of a user.
pub struct Probe<'a> {
    view: &'a View<'a>,
    number: u16,
    reader: Option<&'a Reader<'a>>,
    below: OnceCell<Option<Arc<Tile>>>,
}

impl Probe<'_> {
    /// Whether the user at a place is in the tile.
    pub fn contains(&self, place: u16) -> Result<bool> {
        let overlays = self.view.overlays.iter().flatten();
        let mut said = overlays.filter_map(|overlay| overlay.tiles.get(self.number)?.says(place));
        if let Some(said) = said.next() {
            return Ok(said);
        }
        let below = match self.below.get() {
            Some(below) => below,
            None => {
                let below = self.view.below(self.number, self.reader)?;
                self.below.get_or_init(|| below)
            }
        };
        Ok(below.as_ref().is_some_and(|tile| tile.contains(place)))
    }
}

/// Numbers of tiles: as recorded, or put together from layers.
pub enum Tiles {
    /// As the record has them.
    Recorded(Arc<Record>),
    /// Put together.
    Own(Vec<u16>),
}

impl Deref for Tiles {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        match self {
            Tiles::Recorded(record) => &record.tiles,
            Tiles::Own(numbers) => numbers,
        }
    }
}

/// The keys of a plan as the evaluator wants them.
pub struct Leaves<'a> {
    views: Vec<Option<(View<'a>, OnceLock<Tiles>)>>,
    cancel: Cancel,
    reader: Option<&'a Reader<'a>>,
}

impl<'a> Leaves<'a> {
    /// Finds keys by their text. A leaf without one is empty.
    pub fn of<'t>(
        texts: impl IntoIterator<Item = Option<&'t str>>,
        layers: &'a Memtables,
        reader: Option<&'a Reader<'a>>,
    ) -> Result<Self> {
        let view = |text: &str| Ok((layers.view(text, reader)?, OnceLock::new()));
        let views = texts.into_iter().map(|text| text.map(view).transpose());
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

/// Whether a view holds a user.
pub fn contains(view: &View<'_>, user: UserId, reader: Option<&Reader<'_>>) -> Result<bool> {
    let (number, place) = split(user);
    view.probe(number, reader).contains(place)
}
