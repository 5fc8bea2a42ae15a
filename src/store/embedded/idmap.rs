//! String ids: for each prefix the roll of its users, in memory since the last checkpoint and in
//! the file before.
//!
//! Numbers are given under the lock of the layers and logged before anybody hears of them, like
//! marks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use fastbloom::BloomFilter;
use hashbrown::DefaultHashBuilder;

use crate::sets::{Key, Prefix, SCRATCH, Texts, UserId};
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::table::{
    Entry, ID, Input, PRESENT, ROLL, TEXT, Version, put_varint, text_key,
};
use crate::store::embedded::wal::Change;
use crate::store::embedded::{EmbeddedStore, Engine};
use crate::store::{IdMap, Result, StoreError};

/// How many numbers there are.
const NUMBERS_IN_ALL: u64 = 1 << 32;

/// The number of string ids that get numbers under one lock. Other writers wait for the lock.
const ENROLLED_AT_ONCE: usize = 1 << 14;

/// The smallest batch of string ids for which a filter is built.
const WORTH_A_FILTER: usize = 1 << 12;

/// A filter that rules out most string ids without a number. An import adds many new ones, and a
/// lookup of each would read the table again and again. Implemented as a list of Bloom filters,
/// each twice as large as the previous one.
#[derive(Debug, Default)]
pub struct AssignedIds {
    filters: Vec<BloomFilter<DefaultHashBuilder>>,
    /// The remaining capacity of the last filter.
    room: usize,
}

impl AssignedIds {
    /// The capacity of the first filter, which takes 1.2 MB: about 20 bits per string id.
    const FIRST: usize = 1 << 19;
    /// The share of new string ids that are looked up in the table in vain.
    const FALSE_POSITIVES: f64 = 1e-4;

    fn add(&mut self, text: &str) {
        if self.room == 0 {
            self.room = Self::FIRST << self.filters.len();
            let filter = BloomFilter::with_false_pos(Self::FALSE_POSITIVES)
                .hasher(DefaultHashBuilder::default());
            self.filters.push(filter.expected_items(self.room));
        }
        self.filters
            .last_mut()
            .expect("there is room in one")
            .insert(text);
        self.room -= 1;
    }

    /// Returns whether a string id may have a number. Never returns `false` for one that has.
    fn may_have(&self, text: &str) -> bool {
        self.filters.iter().any(|filter| filter.contains(text))
    }
}

/// What became of the roll of one prefix since the layer below.
#[derive(Debug, Clone, Default)]
pub struct PrefixIds {
    /// What lies below does not count.
    fresh: bool,
    /// The number the next new text gets; 0 when there is no roll any more.
    next: u64,
    texts: Texts,
    /// The number of each string id, in ascending order.
    numbers: Vec<UserId>,
}

/// IdMaps by their prefix.
pub type IdMaps = BTreeMap<Box<str>, PrefixIds>;

impl PrefixIds {
    /// The texts from the number `first` on; says about how much memory they take.
    fn assign<'t>(&mut self, first: u64, texts: impl IntoIterator<Item = &'t str>) -> usize {
        let before = self.memory();
        for (number, text) in (first..).zip(texts) {
            let Ok(number) = UserId::try_from(number) else {
                break;
            };
            if self.texts.insert(text) as usize == self.numbers.len() {
                debug_assert!(
                    self.numbers.last().is_none_or(|last| *last < number),
                    "numbers are given in order"
                );
                self.numbers.push(number);
            }
            self.next = self.next.max(u64::from(number) + 1);
        }
        self.memory() - before
    }

    fn memory(&self) -> usize {
        // A checkpoint writes two entries for each string id.
        2 * self.texts.memory()
    }

    fn number(&self, text: &str) -> Option<UserId> {
        self.texts
            .place(text)
            .map(|place| self.numbers[place as usize])
    }

    fn text(&self, user: UserId) -> Option<&str> {
        self.numbers
            .binary_search(&user)
            .ok()
            .map(|place| self.texts.get(place))
    }

    fn iter(&self) -> impl Iterator<Item = (UserId, &str)> {
        self.numbers.iter().copied().zip(self.texts.iter())
    }
}

/// Puts places of texts in the order of these texts. The first bytes of a text decide mostly, and
/// are beside its place.
fn sort_by_text<'t>(places: &mut [(u128, u32)], text: impl Fn(u32) -> &'t str) {
    places.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| text(a.1).cmp(text(b.1))));
}

/// The first 16 bytes of a text as a number that orders them.
fn first_bytes(text: &str) -> u128 {
    let mut bytes = [0; 16];
    let len = text.len().min(16);
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    u128::from_be_bytes(bytes)
}

/// A text is not known above the table.
struct NotAbove;

impl Memtables {
    fn rolls_of(&self, prefix: &str) -> impl Iterator<Item = &PrefixIds> {
        let frozen = self
            .frozen_rolls
            .as_ref()
            .and_then(|rolls| rolls.get(prefix));
        [self.rolls.get(prefix), frozen].into_iter().flatten()
    }

    /// The number the next new text gets, if there is a roll.
    pub fn next_number(&self, prefix: &str, file: Option<&Version>) -> Result<Option<u64>> {
        match (self.rolls_of(prefix).next(), file) {
            (Some(roll), _) => Ok((roll.next > 0).then_some(roll.next)),
            (None, Some(file)) => next_in(file, prefix),
            (None, None) => Ok(None),
        }
    }

    /// The number of a text as far as it is known above the table; `Err` where the table has to be
    /// asked.
    fn number_above(&self, prefix: &str, text: &str) -> Result<Option<UserId>, NotAbove> {
        for roll in self.rolls_of(prefix) {
            if let Some(number) = roll.number(text) {
                return Ok(Some(number));
            }
            if roll.fresh {
                return Ok(None);
            }
        }
        Err(NotAbove)
    }

    /// The numbers of texts, in their order.
    fn numbers(
        &self,
        prefix: &str,
        texts: &[&str],
        table: Option<&Version>,
    ) -> Result<Vec<Option<UserId>>> {
        let mut numbers: Vec<Option<UserId>> = vec![None; texts.len()];
        let mut below = Vec::new();
        let given = self.given.get(prefix);
        for (place, text) in texts.iter().enumerate() {
            match self.number_above(prefix, text) {
                Ok(number) => numbers[place] = number,
                Err(NotAbove) if given.is_some_and(|given| !given.may_have(text)) => {}
                Err(NotAbove) => below.push((
                    first_bytes(text),
                    u32::try_from(place).expect("a batch is smaller"),
                )),
            }
        }
        if let Some(table) = table {
            // Neighbours are in the same block.
            sort_by_text(&mut below, |place| texts[place as usize]);
            let mut lookup = table.lookup();
            for (_, place) in below {
                let place = place as usize;
                numbers[place] = lookup.get(&id_key(prefix, texts[place]), |value| {
                    UserId::try_from(read_number(value)?).ok()
                })?;
            }
        }
        Ok(numbers)
    }

    fn text(&self, prefix: &str, user: UserId, file: Option<&Version>) -> Result<Option<String>> {
        for roll in self.rolls_of(prefix) {
            if let Some(text) = roll.text(user) {
                return Ok(Some(text.to_string()));
            }
            if roll.fresh {
                return Ok(None);
            }
        }
        file.map_or(Ok(None), |file| text_in(file, prefix, user))
    }

    /// Gives texts the numbers from `first` on, in memory. Cannot fail.
    pub fn assign<'t>(
        &mut self,
        prefix: &str,
        first: u64,
        texts: impl IntoIterator<Item = &'t str>,
    ) {
        self.enrolled.insert(prefix.into());
        let mut given = self.given.get_mut(prefix);
        let texts = texts.into_iter().inspect(|text| {
            if let Some(given) = &mut given {
                given.add(text);
            }
        });
        self.dirty_bytes += self
            .rolls
            .entry(prefix.into())
            .or_default()
            .assign(first, texts);
    }

    /// Forgets a roll, in memory. Cannot fail.
    pub fn forget(&mut self, prefix: &str) {
        self.enrolled.remove(prefix);
        self.given.remove(prefix);
        self.rolls.insert(
            prefix.into(),
            PrefixIds {
                fresh: true,
                ..PrefixIds::default()
            },
        );
    }

    /// No number of somebody whose text was lost with a part of the log is given to somebody else.
    pub fn pass_over(&mut self, key: &str, user: UserId, file: Option<&Version>) -> Result<()> {
        let prefixes: Vec<Box<str>> = self
            .enrolled
            .iter()
            .filter(|prefix| key.starts_with(&***prefix))
            .cloned()
            .collect();
        for prefix in prefixes {
            let next = u64::from(user) + 1;
            if self
                .next_number(&prefix, file)?
                .is_some_and(|given| given < next)
            {
                self.rolls.entry(prefix).or_default().next = next;
            }
        }
        Ok(())
    }
}

/// What a key begins with that is about the string ids of a prefix.
fn beginning(kind: u8, prefix: &str) -> Vec<u8> {
    key(kind, prefix, &[])
}

fn key(kind: u8, prefix: &str, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 10 + prefix.len() + rest.len());
    key.push(kind);
    put_varint(&mut key, prefix.len() as u64);
    key.extend_from_slice(prefix.as_bytes());
    key.extend_from_slice(rest);
    key
}

fn id_key(prefix: &str, text: &str) -> Vec<u8> {
    key(ID, prefix, text.as_bytes())
}

fn number_key(prefix: &str, user: UserId) -> Vec<u8> {
    key(TEXT, prefix, &user.to_be_bytes())
}

fn number_value(number: u64) -> Vec<u8> {
    let mut value = vec![PRESENT];
    put_varint(&mut value, number);
    value
}

fn read_number(value: &[u8]) -> Option<u64> {
    let mut input = Input(value);
    input.varint().filter(|_| input.is_empty())
}

fn next_in(table: &Version, prefix: &str) -> Result<Option<u64>> {
    table.get(&text_key(ROLL, prefix), read_number)
}

fn text_in(table: &Version, prefix: &str, user: UserId) -> Result<Option<String>> {
    table.get(&number_key(prefix, user), |value| {
        String::from_utf8(value.to_vec()).ok()
    })
}

/// The prefixes whose users are string ids.
pub fn prefixes(table: &Version) -> Result<BTreeSet<Box<str>>> {
    let mut found = BTreeSet::new();
    table.visit(&[ROLL], |prefix, _| {
        found.insert(String::from_utf8_lossy(prefix).into());
        Ok(true)
    })?;
    Ok(found)
}

/// Both entries of a string id.
pub fn id_entries(prefix: &str, text: &str, user: UserId) -> [(Vec<u8>, Vec<u8>); 2] {
    [
        (id_key(prefix, text), number_value(user.into())),
        (number_key(prefix, user), text_value(text)),
    ]
}

fn text_value(text: &str) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + text.len());
    value.push(PRESENT);
    value.extend_from_slice(text.as_bytes());
    value
}

/// What an entry of the table says of string ids.
pub enum IdEntry {
    ByText(String, UserId),
    ByNumber(UserId, String),
    Next(u64),
}

/// Reads an entry about string ids, with its prefix; `None` for any other.
pub fn read_entry(key: &[u8], value: &[u8]) -> Option<(String, IdEntry)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (kind, rest) = key.split_first()?;
    if *kind == ROLL {
        return Some((text(rest)?, IdEntry::Next(read_number(value)?)));
    }
    if ![ID, TEXT].contains(kind) {
        return None;
    }
    let mut input = Input(rest);
    let len = input.len()?;
    let prefix = text(input.take(len)?)?;
    Some(match *kind {
        ID => (
            prefix,
            IdEntry::ByText(text(input.0)?, UserId::try_from(read_number(value)?).ok()?),
        ),
        _ => (
            prefix,
            IdEntry::ByNumber(
                UserId::from_be_bytes(input.0.try_into().ok()?),
                text(value)?,
            ),
        ),
    })
}

/// The entry that says which number the next new string id gets.
pub fn next_entry(prefix: &str, next: u64) -> Entry {
    (text_key(ROLL, prefix), Some(number_value(next)))
}

/// The entries of string ids that a checkpoint writes, in ascending order of keys.
pub struct IdEntries<'a> {
    /// Text → number.
    pub ids: Box<dyn Iterator<Item = Entry> + 'a>,
    /// Number → text.
    pub texts: Box<dyn Iterator<Item = Entry> + 'a>,
    /// The next number of each prefix.
    pub rolls: Vec<Entry>,
}

/// Merges removals into entries that are in ascending order. There are seldom any removals.
fn with_removed<'a>(
    entries: impl Iterator<Item = Entry> + 'a,
    removed: Vec<Entry>,
) -> Box<dyn Iterator<Item = Entry> + 'a> {
    if removed.is_empty() {
        return Box::new(entries);
    }
    let mut all: Vec<Entry> = entries.chain(removed).collect();
    all.sort_unstable();
    Box::new(all.into_iter())
}

/// Returns the entries that a checkpoint writes for rolls. There may be millions of string ids, so
/// entries are created lazily.
pub fn entries<'a>(table: Option<&Version>, rolls: &'a IdMaps) -> Result<IdEntries<'a>> {
    let mut entries = IdEntries {
        ids: Box::new(std::iter::empty()),
        texts: Box::new(std::iter::empty()),
        rolls: Vec::new(),
    };
    let mut in_order: Vec<_> = rolls.iter().collect();
    in_order.sort_by_key(|(prefix, _)| beginning(ID, prefix));
    for (prefix, roll) in in_order {
        let (mut no_ids, mut no_texts) = (Vec::new(), Vec::new());
        if let Some(table) = table.filter(|_| roll.fresh) {
            // What came back is written anew.
            let beginning_of = |kind| beginning(kind, prefix);
            table.visit(&beginning_of(ID), |rest, _| {
                let is_back =
                    std::str::from_utf8(rest).is_ok_and(|text| roll.number(text).is_some());
                no_ids.extend((!is_back).then(|| ([&beginning_of(ID)[..], rest].concat(), None)));
                Ok(true)
            })?;
            table.visit(&beginning_of(TEXT), |rest, _| {
                let is_back = rest
                    .try_into()
                    .is_ok_and(|user| roll.text(UserId::from_be_bytes(user)).is_some());
                no_texts
                    .extend((!is_back).then(|| ([&beginning_of(TEXT)[..], rest].concat(), None)));
                Ok(true)
            })?;
        }
        let mut places: Vec<(u128, u32)> = (0..)
            .zip(roll.texts.iter())
            .map(|(place, text)| (first_bytes(text), place))
            .collect();
        sort_by_text(&mut places, |place| roll.texts.get(place as usize));
        let ids = places.into_iter().map(move |(_, place)| {
            let text = roll.texts.get(place as usize);
            (
                id_key(prefix, text),
                Some(number_value(roll.numbers[place as usize].into())),
            )
        });
        let texts = roll
            .iter()
            .map(move |(user, text)| (number_key(prefix, user), Some(text_value(text))));
        entries.ids = Box::new(entries.ids.chain(with_removed(ids, no_ids)));
        entries.texts = Box::new(entries.texts.chain(with_removed(texts, no_texts)));
        if roll.next > 0 {
            entries
                .rolls
                .push((text_key(ROLL, prefix), Some(number_value(roll.next))));
        } else if roll.fresh {
            entries.rolls.push((text_key(ROLL, prefix), None));
        }
    }
    entries.rolls.sort_unstable();
    Ok(entries)
}

impl Engine {
    pub(super) fn table(&self) -> Option<Arc<Version>> {
        self.disk.as_ref().map(|disk| disk.base.table().version())
    }

    fn location(&self) -> String {
        self.disk.as_ref().map_or("memory:".to_owned(), |disk| {
            disk.directory.display().to_string()
        })
    }

    /// Refuses what would put a number among text ids that no text has: it would come to be
    /// somebody else's. Temporary keys are nobody's event.
    pub(super) fn guard(&self, layers: &Memtables, key: &str) -> Result<()> {
        let behind = layers
            .enrolled
            .iter()
            .find_map(|prefix| key.strip_prefix(&**prefix));
        if behind.is_none_or(|rest| rest.starts_with(SCRATCH)) {
            return Ok(());
        }
        let reason = format!(
            "`{key}` belongs to a store with string ids, so a numeric id could refer to the wrong user. Mark over HTTP, with `cohortist mark` or with `import`"
        );
        Err(StoreError::Refused {
            location: self.location(),
            reason,
        })
    }
}

impl EmbeddedStore {
    /// What is found in the roll as it is now, where there is one.
    fn looked_up<T>(
        &self,
        find: impl FnOnce(&Memtables, Option<&Version>) -> Result<T>,
    ) -> Result<Option<T>> {
        let layers = self.engine.read();
        let table = self.engine.table();
        match layers.next_number(self.prefix.as_str(), table.as_deref())? {
            None => Ok(None),
            Some(_) => find(&layers, table.as_deref()).map(Some),
        }
    }
}

impl IdMap for EmbeddedStore {
    fn next(&self) -> Result<Option<u64>> {
        let layers = self.engine.read();
        layers.next_number(self.prefix.as_str(), self.engine.table().as_deref())
    }

    fn numbers(&self, texts: &[&str]) -> Result<Option<Vec<Option<UserId>>>> {
        self.looked_up(|layers, table| layers.numbers(self.prefix.as_str(), texts, table))
    }

    fn settle_numbers(&self) -> Result<bool> {
        let prefix = self.prefix.as_str();
        let settled = || {
            self.engine
                .settled
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if settled().contains(prefix) {
            return Ok(true);
        }
        // Texts begin under this lock.
        let layers = self.engine.lock();
        let is_free = !layers.enrolled.contains(prefix);
        if is_free {
            settled().insert(prefix.into());
        }
        Ok(is_free)
    }

    fn begin(&self) -> Result<bool> {
        let layers = self.engine.lock();
        Ok(layers.enrolled.contains(self.prefix.as_str())
            || self.engine.may_begin(&layers, self.prefix.as_str())?)
    }

    fn withdraw(&self) -> Result<()> {
        // Nothing begins before the first text.
        Ok(())
    }

    fn assign(&self, texts: &[&str]) -> Result<Vec<UserId>> {
        if texts.len() >= WORTH_A_FILTER {
            self.engine.learn_given(self.prefix.as_str())?;
        }
        // Most are known, and finding them holds nobody up.
        let looked_in = self.engine.table();
        let known = self
            .numbers(texts)?
            .unwrap_or_else(|| vec![None; texts.len()]);
        let unknown: Vec<&str> = texts
            .iter()
            .zip(&known)
            .filter(|(_, n)| n.is_none())
            .map(|(text, _)| *text)
            .collect();
        if unknown.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        let mut given = Vec::with_capacity(unknown.len());
        for few in unknown.chunks(ENROLLED_AT_ONCE) {
            given.extend(
                self.engine
                    .assign(self.prefix.as_str(), few, looked_in.as_ref())?,
            );
        }
        let mut given = given.into_iter();
        Ok(known
            .into_iter()
            .filter_map(|number| number.or_else(|| given.next()))
            .collect())
    }

    fn texts(&self, users: &[UserId]) -> Result<Option<Vec<Option<String>>>> {
        self.looked_up(|layers, file| {
            users
                .iter()
                .map(|user| layers.text(self.prefix.as_str(), *user, file))
                .collect()
        })
    }

    fn forget(&self) -> Result<u64> {
        let settled = || {
            self.engine
                .settled
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let Some(given) = self.next()? else {
            settled().remove(self.prefix.as_str());
            return Ok(0);
        };
        let mut layers = self.engine.lock_with_room()?;
        self.engine.append(
            &mut layers,
            Change::Forget {
                prefix: self.prefix.to_string(),
            },
        )?;
        layers.forget(self.prefix.as_str());
        settled().remove(self.prefix.as_str());
        self.engine.written(layers)?;
        Ok(given)
    }
}

impl Engine {
    /// Whether the first text may come: not where users are numbers.
    fn may_begin(&self, layers: &Memtables, prefix: &str) -> Result<bool> {
        if self
            .settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(prefix)
        {
            return Ok(false);
        }
        let reader = self.reader();
        let whose = Prefix::new(prefix);
        let mut is_free = true;
        layers.visit_keys(prefix, reader.as_ref(), |text| {
            is_free = Key::parse(&whose, text).is_none();
            is_free
        })?;
        Ok(is_free)
    }

    /// Builds the filter of the string ids that have numbers. Gives up if the table changes twice
    /// in the meantime: the filter only saves time.
    fn learn_given(&self, prefix: &str) -> Result<()> {
        for _ in 0..2 {
            let Some(table) = self
                .table()
                .filter(|_| !self.read().given.contains_key(prefix))
            else {
                break;
            };
            let mut given = AssignedIds::default();
            table.visit(&beginning(ID, prefix), |text, _| {
                given.add(&String::from_utf8_lossy(text));
                Ok(true)
            })?;
            let mut layers = self.lock();
            // A checkpoint in the meantime would have moved string ids from the layers to a new
            // version of the table.
            if self.table().is_some_and(|now| Arc::ptr_eq(&now, &table)) {
                layers
                    .rolls_of(prefix)
                    .flat_map(|roll| roll.texts.iter())
                    .for_each(|text| given.add(text));
                layers.given.insert(prefix.into(), given);
            }
        }
        Ok(())
    }

    /// Gives numbers to texts that had none a moment ago, when the table was `looked_in`.
    fn assign(
        &self,
        prefix: &str,
        texts: &[&str],
        looked_in: Option<&Arc<Version>>,
    ) -> Result<Vec<UserId>> {
        let mut layers = self.lock_with_room()?;
        if !layers.enrolled.contains(prefix) && !self.may_begin(&layers, prefix)? {
            let reason =
                "its users are numbers already, and text ids cannot be mixed with them".to_owned();
            return Err(StoreError::Refused {
                location: self.location(),
                reason,
            });
        }
        let table = self.table();
        let is_same = match (&table, looked_in) {
            (Some(table), Some(before)) => Arc::ptr_eq(table, before),
            _ => false,
        };
        let first = layers.next_number(prefix, table.as_deref())?.unwrap_or(0);
        // What was not in the table is not there now, unless it is another one.
        let found = layers.numbers(prefix, texts, table.as_deref().filter(|_| !is_same))?;
        let mut new = Texts::default();
        let numbers: Vec<u64> = texts
            .iter()
            .zip(found)
            .map(|(text, found)| {
                found.map_or_else(|| first + u64::from(new.insert(text)), u64::from)
            })
            .collect();
        if first + new.len() as u64 > NUMBERS_IN_ALL {
            let reason = "it has no numbers left for text ids".to_owned();
            return Err(StoreError::Refused {
                location: self.location(),
                reason,
            });
        }
        if !new.is_empty() {
            let owned = new.iter().map(str::to_owned).collect();
            self.append(
                &mut layers,
                Change::Enroll {
                    prefix: prefix.to_owned(),
                    first,
                    texts: owned,
                },
            )?;
            layers.assign(prefix, first, new.iter());
            // To whoever asks for numbers, texts that may be lost are none: no mark is made with
            // them.
            self.written(layers).map_err(|error| match error {
                StoreError::Unsynced { path, reason } => StoreError::Write { path, reason },
                error => error,
            })?;
        }
        Ok(numbers
            .into_iter()
            .map(|number| UserId::try_from(number).expect("checked above"))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, Store};

    #[test]
    fn a_string_id_that_has_a_number_is_never_denied_and_others_mostly_are() {
        let mut given = AssignedIds::default();
        // More than the capacity of the first filter.
        let count = AssignedIds::FIRST + 1000;
        (0..count).for_each(|n| given.add(&format!("{n}@example.com")));
        assert_eq!(given.filters.len(), 2);
        assert!((0..count).all(|n| given.may_have(&format!("{n}@example.com"))));
        let taken_for_given = (0..100_000)
            .filter(|n| given.may_have(&format!("{n}@example.org")))
            .count();
        assert!(taken_for_given < 100, "{taken_for_given}");
    }

    /// Many at once or few, known or new, before and after checkpoints, forgotten and given again.
    #[test]
    fn a_string_id_keeps_its_number_however_it_is_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::default();
        let mut store = EmbeddedStore::open(directory.path(), &options).unwrap();
        let mut model: BTreeMap<String, UserId> = BTreeMap::new();
        let assign = |store: &EmbeddedStore,
                      model: &mut BTreeMap<String, UserId>,
                      numbers: std::ops::Range<usize>| {
            let texts: Vec<String> = numbers
                .map(|n| format!("user-{}", n * 7919 % 100_003))
                .collect();
            let given = store
                .string_ids()
                .assign(&texts.iter().map(String::as_str).collect::<Vec<_>>())
                .unwrap();
            for (text, number) in texts.into_iter().zip(given) {
                let next = UserId::try_from(model.len()).unwrap();
                assert_eq!(*model.entry(text).or_insert(next), number);
            }
        };
        for round in 0..3 {
            assign(&store, &mut model, 0..10);
            assign(&store, &mut model, 5..WORTH_A_FILTER + 10);
            store.checkpoint().unwrap();
            assign(&store, &mut model, 0..20);
            assign(&store, &mut model, 100..2 * WORTH_A_FILTER);
            assign(
                &store,
                &mut model,
                2 * WORTH_A_FILTER..2 * WORTH_A_FILTER + 3,
            );
            store.checkpoint().unwrap();
            assign(&store, &mut model, 0..3 * WORTH_A_FILTER);
            assert!(
                store
                    .engine
                    .read()
                    .given
                    .contains_key(store.prefix.as_str())
            );
            if round == 1 {
                assert_eq!(store.string_ids().forget().unwrap(), model.len() as u64);
                model.clear();
            }
            drop(store);
            store = EmbeddedStore::open(directory.path(), &options).unwrap();
        }
    }
}
