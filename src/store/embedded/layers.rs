//! What has changed since the last checkpoint, laid over what that checkpoint wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::bitmap::{self, Operation, Source, Tile, split};
use crate::sets::UserId;
use crate::store::embedded::base::Reader;
use crate::store::embedded::log::{Change, Frame, Log, LogFile, Packed};
use crate::store::embedded::record::Record;
use crate::store::embedded::rolls::Rolls;
use crate::store::{Cancel, Result, StoreError};

/// The length that says "there, and empty": 0 says "gone". Only Redis' SET makes such a key.
pub const EMPTY: u64 = u64::MAX;

/// The changes of one key since the layer below.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// The key was deleted: what lies below does not count.
    pub fresh: bool,
    /// The byte length of the whole bitmap, layers below included; 0 for a key that is gone, [`EMPTY`] for one without
    /// a byte.
    pub len: u64,
    /// Tiles that changed, whole; an empty one hides the one below.
    pub tiles: BTreeMap<u16, Arc<Tile>>,
}

/// Changes by the text of their key. Readers share them: a writer copies the overlays, and of these the tiles, that a reader
/// still holds.
pub type Overlays = HashMap<Box<str>, Arc<Overlay>>;

/// Everything that is not in the file yet.
#[derive(Debug, Default)]
pub struct Layers {
    /// What changed since the last checkpoint began.
    pub dirty: Overlays,
    /// What the checkpoint under way, or the one that failed, is writing.
    pub frozen: Option<Arc<Overlays>>,
    /// The text ids that are new since the last checkpoint began, and what the checkpoint is writing of them.
    pub rolls: Rolls,
    /// As `frozen`.
    pub frozen_rolls: Option<Arc<Rolls>>,
    /// The prefixes whose users are called by texts.
    pub enrolled: BTreeSet<Box<str>>,
    /// A part of the log was lost: what it said of text ids is not known.
    pub lost: bool,
    /// About how much memory `dirty` and `rolls` take.
    pub dirty_bytes: usize,
    /// The sequence of the last change.
    pub sequence: u64,
    /// How often keys were made or deleted since the store was opened.
    pub keys_version: u64,
    /// When keys go by themselves.
    pub lifetimes: Lifetimes,
    /// All keys, once somebody walked through them.
    pub index: OnceLock<Index>,
    /// Where changes are logged; in memory, nowhere.
    pub log: Option<Log>,
    /// The logs before, which the checkpoint under way makes superfluous.
    pub closed: Vec<Arc<LogFile>>,
}

/// When keys go by themselves, in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifetimes {
    ends: HashMap<Box<str>, u64>,
    in_order: BTreeSet<(u64, Box<str>)>,
}

impl Lifetimes {
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
        self.in_order.iter().take_while(|(until, _)| *until <= now).map(|(_, text)| text.to_string()).collect()
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

/// All keys in an order that does not change while keys come and go: who walks through it in steps, keeping only a
/// number, meets every key that was there all the time.
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

    /// At least `count` keys from the place `cursor` on, if there are so many, and the place to go on from; 0 at the end.
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

/// Bits to change, sorted out by key and tile, with the tiles they change. Made before anything is written, so that a
/// failure to read leaves everything as it was.
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
    before: Arc<Tile>,
    /// Places and their new values, in order.
    places: Vec<(u16, bool)>,
}

impl Layers {
    /// Reads what a change of bits needs. `bits` are as in [`Change::Bits`]; `before` is told of each what it was, the
    /// changes in front of it included.
    pub fn prepare(
        &self,
        keys: &[String],
        bits: &[(u32, u32)],
        reader: Option<&Reader<'_>>,
        mut before: Option<&mut [bool]>,
    ) -> Result<Prepared> {
        let mut order: Vec<usize> = (0..bits.len()).collect();
        // Stable: of two changes of one bit the later one must win.
        order.sort_by_key(|i| (bits[*i].0 / 2, bits[*i].1));
        let mut prepared: Vec<PreparedKey> = Vec::with_capacity(keys.len());
        let mut previous = None;
        for i in order {
            let (key_and_value, user) = bits[i];
            let (key, value) = (key_and_value / 2, key_and_value % 2 == 1);
            let Some(text) = keys.get(key as usize) else { continue };
            let (number, place) = split(user);
            if previous != Some(key) {
                let view = self.view(text, reader)?;
                let (text, new) = (text.as_str().into(), !view.exists);
                prepared.push(PreparedKey { text, new, len: view.len, tiles: Vec::new() });
                previous = Some(key);
            }
            let Some(entry) = prepared.last_mut() else { continue };
            entry.len = entry.len.max(u64::from(user) / 8 + 1);
            if entry.tiles.last().is_none_or(|last| last.number != number) {
                let tile = match self.view(text, reader)? {
                    view if view.has(number) => view.tile(number, reader)?,
                    _ => Arc::default(),
                };
                entry.tiles.push(PreparedTile { number, before: tile, places: Vec::new() });
            }
            if let Some(tile) = entry.tiles.last_mut() {
                if let Some(before) = before.as_deref_mut().and_then(|before| before.get_mut(i)) {
                    *before = match tile.places.last() {
                        Some((last, value)) if *last == place => *value,
                        _ => tile.before.contains(place),
                    };
                }
                tile.places.push((place, value));
            }
        }
        Ok(Prepared { keys: prepared })
    }

    /// Changes bits in memory. Cannot fail.
    pub fn apply(&mut self, prepared: Prepared) {
        for key in prepared.keys {
            if key.new {
                self.made(&key.text);
            }
            let overlay = Arc::make_mut(self.dirty.entry(key.text).or_default());
            // What was empty has a byte now.
            overlay.len = key.len.max(overlay.bytes());
            for PreparedTile { number, before, places } in key.tiles {
                let tile = overlay.tiles.entry(number).or_insert_with(|| {
                    self.dirty_bytes += 96 + before.memory();
                    before
                });
                let memory = tile.memory();
                let tile = Arc::make_mut(tile);
                for (place, value) in places {
                    tile.set(place, value);
                }
                self.dirty_bytes += tile.memory().saturating_sub(memory);
            }
        }
    }

    /// Those of the keys that exist, each once.
    pub fn existing(&self, keys: &[String], reader: Option<&Reader<'_>>) -> Result<BTreeSet<Box<str>>> {
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
            self.replace(text, Overlay { fresh: true, ..Overlay::default() });
        }
    }

    /// Makes a bitmap in memory, in place of what there is of that name. Cannot fail.
    pub fn put(&mut self, text: &str, len: u64, tiles: impl IntoIterator<Item = (u16, Arc<Tile>)>) {
        let tiles: BTreeMap<u16, Arc<Tile>> = tiles.into_iter().collect();
        self.made(text);
        self.lifetimes.set(text, None);
        self.replace(text.into(), Overlay { fresh: true, len, tiles });
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

    /// Carries out what a frame says, as it was carried out when it was written. The order of frames is that of changes,
    /// so what one of them computed is computed again.
    pub fn replay(&mut self, change: Change, reader: Option<&Reader<'_>>) -> Result<()> {
        match change {
            Change::Bits { keys, bits } => {
                let prepared = self.prepare(&keys, &bits, reader, None)?;
                self.apply(prepared);
            }
            Change::Runs { runs } => {
                let runs: Vec<(String, Vec<UserId>)> =
                    runs.into_iter().map(|(text, run)| (text, run.users().unwrap_or_default())).collect();
                let runs = runs.iter().map(|(text, users)| (text.as_str(), users.as_slice()));
                let prepared = self.prepare_runs(runs, reader)?;
                self.apply_runs(prepared);
            }
            Change::Delete { keys } => {
                let existing = self.existing(&keys, reader)?;
                self.delete(existing);
            }
            Change::Put { key, len, tiles } => {
                self.put(&key, len, tiles.into_iter().map(|(number, Packed(tile))| (number, tile)));
            }
            Change::Combine { operation, target, sources } => {
                let (len, tiles) = self.combine(operation, &sources, reader)?;
                if len > 0 {
                    self.put(&target, len, tiles);
                } else {
                    let existing = self.existing(&[target], reader)?;
                    self.delete(existing);
                }
            }
            Change::Lifetime { key, until } => self.lifetimes.set(&key, until),
            Change::Enroll { prefix, first, texts } => self.enroll(&prefix, first, texts),
            Change::Forget { prefix } => self.forget(&prefix),
            Change::All(changes) => changes.into_iter().try_for_each(|change| self.replay(change, reader))?,
        }
        Ok(())
    }

    /// These layers as they are now, of some keys: enough to read these, and to see when they go. It shares its memory with
    /// the layers and takes none but for the keys that have changed since the last checkpoint.
    pub fn part<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Layers {
        let mut part = Layers { frozen: self.frozen.clone(), ..Layers::default() };
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
    pub fn part_beginning(&self, beginning: &str) -> Layers {
        let dirty = self.dirty.iter().filter(|(text, _)| text.starts_with(beginning));
        let dirty = dirty.map(|(text, overlay)| (text.clone(), Arc::clone(overlay))).collect();
        Layers { dirty, frozen: self.frozen.clone(), ..Layers::default() }
    }

    /// One key through all layers.
    pub fn view(&self, text: &str, reader: Option<&Reader<'_>>) -> Result<View<'_>> {
        let frozen = self.frozen.as_ref().and_then(|frozen| frozen.get(text));
        let mut overlays = [self.dirty.get(text), frozen].map(|overlay| overlay.map(|overlay| &**overlay));
        if overlays[0].is_some_and(|o| o.fresh) {
            overlays[1] = None;
        }
        let hidden = overlays.iter().flatten().any(|o| o.fresh);
        let base = match reader {
            Some(reader) if !hidden => reader.record(text)?,
            _ => None,
        };
        let len = match overlays.iter().flatten().next() {
            Some(overlay) => overlay.len,
            None => base.as_ref().map_or(0, |record| record.len),
        };
        Ok(View { overlays, base, exists: len > 0, len: if len == EMPTY { 0 } else { len } })
    }

    /// All keys there are, in the order of [`place_of`].
    pub fn index(&self, reader: Option<&Reader<'_>>) -> Result<&Index> {
        if self.index.get().is_none() {
            let mut index = Index::default();
            self.keys("", reader)?.iter().for_each(|text| index.insert(text));
            // Whoever was quicker found the same keys: nothing changes while layers are read.
            let _ = self.index.set(index);
        }
        Ok(self.index.get_or_init(Index::default))
    }

    /// The texts of all keys that begin so, in no particular order.
    pub fn keys(&self, beginning: &str, reader: Option<&Reader<'_>>) -> Result<Vec<String>> {
        let mut found = match reader {
            Some(reader) => reader.keys(beginning)?,
            None => Vec::new(),
        };
        let changed = [self.frozen.as_deref(), Some(&self.dirty)];
        let changed = || changed.iter().flatten().flat_map(|overlays| overlays.iter());
        if changed().next().is_some() {
            let mut there: HashSet<String> = found.drain(..).collect();
            for (text, overlay) in changed().filter(|(text, _)| text.starts_with(beginning)) {
                if overlay.exists() {
                    there.insert(text.to_string());
                } else {
                    there.remove(&**text);
                }
            }
            found.extend(there);
        }
        Ok(found)
    }
}

/// Frames of the log on their way back into the layers: bits are gathered over many frames and put in together, as
/// each key and tile is then looked up once and not once a frame.
pub struct Gathered<'a> {
    layers: &'a mut Layers,
    reader: &'a Reader<'a>,
    places: HashMap<String, u32>,
    bits: Vec<(u32, u32)>,
}

/// How many bits are gathered before they are put in: 32 MiB of them.
const GATHERED: usize = 4 << 20;

impl<'a> Gathered<'a> {
    /// Nothing yet.
    pub fn new(layers: &'a mut Layers, reader: &'a Reader<'a>) -> Self {
        Gathered { layers, reader, places: HashMap::new(), bits: Vec::new() }
    }

    /// Takes in the next frame.
    pub fn take(&mut self, frame: Frame) -> Result<()> {
        self.layers.lost |= frame.sequence > self.layers.sequence + 1;
        match frame.change {
            Change::Bits { keys, bits } => {
                let mut place = |text: String| {
                    let next = u32::try_from(self.places.len()).unwrap_or(u32::MAX / 2);
                    *self.places.entry(text).or_insert(next)
                };
                let places: Vec<u32> = keys.into_iter().map(&mut place).collect();
                self.bits.extend(bits.into_iter().filter_map(|(key_and_value, user)| {
                    let place = places.get(key_and_value as usize / 2)?;
                    Some((place * 2 + key_and_value % 2, user))
                }));
                if self.bits.len() > GATHERED {
                    self.put_in()?;
                }
            }
            change => {
                self.put_in()?;
                if let (true, Change::Runs { runs }) = (self.layers.lost, &change) {
                    let named = runs.iter().filter_map(|(text, run)| Some((text, *run.users()?.last()?)));
                    self.reader.pass_over(self.layers, named)?;
                }
                self.layers.replay(change, Some(self.reader))?;
            }
        }
        self.layers.sequence = self.layers.sequence.max(frame.sequence);
        Ok(())
    }

    /// Puts in what was gathered.
    pub fn put_in(&mut self) -> Result<()> {
        let mut keys = vec![String::new(); self.places.len()];
        for (text, place) in self.places.drain() {
            keys[place as usize] = text;
        }
        if self.layers.lost {
            self.pass_over(&keys)?;
        }
        let prepared = self.layers.prepare(&keys, &std::mem::take(&mut self.bits), Some(self.reader), None)?;
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
        let named = greatest.into_iter().filter_map(|(place, user)| Some((keys.get(place as usize)?, user)));
        self.reader.pass_over(self.layers, named)
    }
}

/// One key through all layers.
pub struct View<'a> {
    overlays: [Option<&'a Overlay>; 2],
    base: Option<Arc<Record>>,
    /// Whether there is such a key.
    pub exists: bool,
    /// The byte length of the bitmap.
    pub len: u64,
}

impl View<'_> {
    fn changed(&self, number: u16) -> Option<&Arc<Tile>> {
        self.overlays.iter().flatten().find_map(|overlay| overlay.tiles.get(&number))
    }

    /// Whether there may be users in a tile.
    pub fn has(&self, number: u16) -> bool {
        match self.changed(number) {
            Some(tile) => !tile.is_empty(),
            None => self.base.as_ref().is_some_and(|record| record.tiles.binary_search(&number).is_ok()),
        }
    }

    /// How many users there are: what the file knows, but for the tiles that changed. `None` when a record from before
    /// counts were kept does not say.
    fn users(&self) -> Option<u64> {
        let base = self.base.as_deref();
        let mut users = base.map_or(Some(0), Record::users)?;
        let mut above: Option<&Overlay> = None;
        for overlay in self.overlays.iter().flatten() {
            for (number, tile) in &overlay.tiles {
                if above.is_none_or(|above| !above.tiles.contains_key(number)) {
                    let before = base.map_or(Some(0), |record| record.users_in(*number))?;
                    users = users.checked_sub(before)? + tile.len();
                }
            }
            above = Some(overlay);
        }
        Some(users)
    }

    /// About how many bytes it takes on the disk, as far as that is known.
    pub fn stored(&self) -> Option<u64> {
        let users = |number: u16| match (self.changed(number), self.base.as_deref()) {
            (Some(tile), _) => Some(tile.len()),
            (None, Some(record)) => record.users_in(number),
            (None, None) => Some(0),
        };
        // Each tile has a place in the record and one in the table, a checksum among it.
        let tile = |number: u16| Some(bitmap::stored_bytes(users(number)?) + 24);
        self.tiles().iter().map(|number| tile(*number)).sum()
    }

    /// The numbers of the tiles that hold users, ascending.
    pub fn tiles(&self) -> Tiles {
        let base = self.base.as_ref();
        if self.overlays.iter().flatten().all(|overlay| overlay.tiles.is_empty()) {
            return base.map_or(Tiles::Own(Vec::new()), |record| Tiles::Recorded(Arc::clone(record)));
        }
        let changed = self.overlays.iter().flatten().flat_map(|overlay| overlay.tiles.keys());
        let mut numbers: Vec<u16> = base.iter().flat_map(|record| &record.tiles).chain(changed).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| self.has(*number));
        Tiles::Own(numbers)
    }

    /// A tile that [`has`](Self::has) users.
    pub fn tile(&self, number: u16, reader: Option<&Reader<'_>>) -> Result<Arc<Tile>> {
        if let Some(tile) = self.changed(number) {
            return Ok(Arc::clone(tile));
        }
        match (&self.base, reader) {
            (Some(record), Some(reader)) => reader.tile(record, number),
            _ => Ok(Arc::default()),
        }
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
        layers: &'a Layers,
        reader: Option<&'a Reader<'a>>,
    ) -> Result<Self> {
        let view = |text: &str| Ok((layers.view(text, reader)?, OnceLock::new()));
        let views = texts.into_iter().map(|text| text.map(view).transpose());
        Ok(Leaves { views: views.collect::<Result<_>>()?, cancel: Cancel::current(), reader })
    }
}

impl Source for Leaves<'_> {
    type Error = StoreError;

    fn byte_len(&self, leaf: usize) -> u64 {
        self.views[leaf].as_ref().map_or(0, |(view, _)| view.len)
    }

    fn users(&self, leaf: usize) -> Option<u64> {
        self.views[leaf].as_ref().map_or(Some(0), |(view, _)| view.users())
    }

    fn tiles(&self, leaf: usize) -> &[u16] {
        let Some((view, tiles)) = &self.views[leaf] else { return &[] };
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
    Ok(view.has(number) && view.tile(number, reader)?.contains(place))
}
