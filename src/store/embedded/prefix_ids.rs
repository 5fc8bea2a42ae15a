//! The changes of string ids in one memtable, and the entries that a checkpoint writes for them.

use std::collections::{BTreeMap, BTreeSet};

use fastbloom::BloomFilter;
use hashbrown::DefaultHashBuilder;

use crate::sets::{Interner, UserId};
use crate::store::Result;
use crate::store::embedded::id_entries::next_entry;
use crate::store::embedded::id_entries::{id_key, id_value, key_of, number_key, number_value};
use crate::store::embedded::table::{Entry, ID, NEXT_NUMBER, NUMBER, Version, entry_key};

/// A filter that rules out most string ids without a number. An import adds many new ones, and a
/// lookup of each would read the table again and again. Implemented as a list of Bloom filters,
/// each twice as large as the previous one.
#[derive(Debug, Default)]
pub struct IdFilter {
    pub(super) filters: Vec<BloomFilter<DefaultHashBuilder>>,
    /// The remaining capacity of the last filter.
    pub(super) room: usize,
}

impl IdFilter {
    /// The capacity of the first filter, which takes 1.2 MB: about 20 bits per string id.
    pub(super) const FIRST: usize = 1 << 19;
    /// The share of new string ids that are looked up in the table in vain.
    const FALSE_POSITIVES: f64 = 1e-4;

    pub(super) fn add(&mut self, id: &str) {
        if self.room == 0 {
            self.room = Self::FIRST << self.filters.len();
            let filter = BloomFilter::with_false_pos(Self::FALSE_POSITIVES)
                .hasher(DefaultHashBuilder::default());
            self.filters.push(filter.expected_items(self.room));
        }
        self.filters
            .last_mut()
            .expect("a filter with room exists")
            .insert(id);
        self.room -= 1;
    }

    /// Returns whether a string id may have a number. Never returns `false` for one that has.
    pub(super) fn may_have(&self, id: &str) -> bool {
        self.filters.iter().any(|filter| filter.contains(id))
    }
}

/// The changes of the string ids of one prefix in one memtable.
#[derive(Debug, Clone, Default)]
pub struct PrefixIds {
    /// Whether all older string ids of the prefix were deleted.
    pub(super) hides_older: bool,
    /// String ids that were removed. One that has got a new number since is in `ids` too.
    pub(super) removed: BTreeSet<Box<str>>,
    /// The numbers of removed string ids, which never have a string id again.
    pub(super) removed_numbers: BTreeSet<UserId>,
    /// The number of the next new string id. 0 if the prefix no longer has string ids.
    pub(super) next: u64,
    /// The new string ids.
    pub(super) ids: Interner,
    /// The numbers of `ids`, ascending.
    pub(super) numbers: Vec<UserId>,
}

/// The changes of string ids in one memtable, by prefix.
pub type IdMaps = BTreeMap<Box<str>, PrefixIds>;

impl PrefixIds {
    /// Assigns consecutive numbers, from `first` on. Returns how many bytes of memory this takes,
    /// approximately.
    pub(super) fn assign<'i>(
        &mut self,
        first: u64,
        ids: impl IntoIterator<Item = &'i str>,
    ) -> usize {
        let before = self.memory();
        for (number, id) in (first..).zip(ids) {
            // Only a damaged log assigns more numbers than there are.
            let Ok(number) = UserId::try_from(number) else {
                break;
            };
            if self.ids.insert(id) as usize == self.numbers.len() {
                debug_assert!(
                    self.numbers.last().is_none_or(|last| *last < number),
                    "numbers are assigned in ascending order"
                );
                self.numbers.push(number);
            }
            self.next = self.next.max(u64::from(number) + 1);
        }
        self.memory() - before
    }

    /// Removes string ids, given with their numbers. `next` is the next number of the prefix, which
    /// stays the same.
    pub(super) fn remove(&mut self, next: u64, removed: Vec<(String, UserId)>) {
        self.next = self.next.max(next);
        for (id, user) in removed {
            self.removed.insert(id.into());
            self.removed_numbers.insert(user);
        }
        let is_kept = |user: UserId| !self.removed_numbers.contains(&user);
        if self.numbers.iter().copied().all(is_kept) {
            return;
        }
        let mut kept = Interner::default();
        let mut numbers = Vec::new();
        for (user, id) in self.iter().filter(|(user, _)| is_kept(*user)) {
            kept.insert(id);
            numbers.push(user);
        }
        self.ids = kept;
        self.numbers = numbers;
    }

    pub(super) fn memory(&self) -> usize {
        // A checkpoint writes two entries for each string id.
        2 * self.ids.memory()
    }

    pub(super) fn number(&self, id: &str) -> Option<UserId> {
        self.ids
            .index_of(id)
            .map(|index| self.numbers[index as usize])
    }

    pub(super) fn id(&self, user: UserId) -> Option<&str> {
        self.numbers
            .binary_search(&user)
            .ok()
            .map(|index| self.ids.get(index))
    }

    /// Returns the removals that a checkpoint writes: of string ids, and of numbers. Entries that
    /// are written again need no removal.
    fn removals(&self, table: &Version, prefix: &str) -> Result<(Vec<Entry>, Vec<Entry>)> {
        if self.hides_older {
            let ids = removals(table, ID, prefix, |id| {
                std::str::from_utf8(id).is_ok_and(|id| self.number(id).is_some())
            })?;
            let numbers = removals(table, NUMBER, prefix, |number| {
                number
                    .try_into()
                    .is_ok_and(|number| self.id(UserId::from_be_bytes(number)).is_some())
            })?;
            return Ok((ids, numbers));
        }
        let ids = self.removed.iter().filter(|id| self.number(id).is_none());
        let numbers = self.removed_numbers.iter();
        Ok((
            ids.map(|id| (id_key(prefix, id), None)).collect(),
            numbers
                .map(|user| (number_key(prefix, *user), None))
                .collect(),
        ))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (UserId, &str)> {
        self.numbers.iter().copied().zip(self.ids.iter())
    }
}

/// Sorts strings, given as their first bytes and their index. In most cases the first bytes decide
/// and the string itself is not read.
pub(super) fn sort_by_string<'s>(strings: &mut [(u128, u32)], string: impl Fn(u32) -> &'s str) {
    strings.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| string(a.1).cmp(string(b.1))));
}

/// Returns the first 16 bytes of a string as a number with the same order.
pub(super) fn first_bytes(string: &str) -> u128 {
    let mut bytes = [0; 16];
    let len = string.len().min(16);
    bytes[..len].copy_from_slice(&string.as_bytes()[..len]);
    u128::from_be_bytes(bytes)
}

/// The entries of string ids that a checkpoint writes, in ascending order of keys.
pub struct IdEntries<'a> {
    /// String id → number.
    pub by_id: Box<dyn Iterator<Item = Entry> + 'a>,
    /// Number → string id.
    pub by_number: Box<dyn Iterator<Item = Entry> + 'a>,
    /// The next number of each prefix.
    pub next_numbers: Vec<Entry>,
}

/// Merges removals into entries that are in ascending order. There are seldom any removals.
pub(super) fn with_removed<'a>(
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

/// Returns removals of the entries of one kind under a prefix, except for those that `is_written`
/// returns `true` for. It receives the key after the prefix.
pub(super) fn removals(
    table: &Version,
    kind: u8,
    prefix: &str,
    is_written: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Entry>> {
    let mut removals = Vec::new();
    table.visit(&key_of(kind, prefix, &[]), |rest, _| {
        if !is_written(rest) {
            removals.push((key_of(kind, prefix, rest), None));
        }
        Ok(true)
    })?;
    Ok(removals)
}

/// Returns the entries that a checkpoint writes for the string ids of a memtable. There may be
/// millions of string ids, so the entries are created lazily.
pub fn entries<'a>(table: Option<&Version>, id_maps: &'a IdMaps) -> Result<IdEntries<'a>> {
    let mut entries = IdEntries {
        by_id: Box::new(std::iter::empty()),
        by_number: Box::new(std::iter::empty()),
        next_numbers: Vec::new(),
    };
    let mut in_order: Vec<_> = id_maps.iter().collect();
    in_order.sort_by_key(|(prefix, _)| key_of(ID, prefix, &[]));
    for (prefix, changes) in in_order {
        let (removed_ids, removed_numbers) = match table {
            Some(table) => changes.removals(table, prefix)?,
            None => (Vec::new(), Vec::new()),
        };
        let mut sorted: Vec<(u128, u32)> = (0..)
            .zip(changes.ids.iter())
            .map(|(index, id)| (first_bytes(id), index))
            .collect();
        sort_by_string(&mut sorted, |index| changes.ids.get(index as usize));
        let by_id = sorted.into_iter().map(move |(_, index)| {
            let index = index as usize;
            let value = number_value(changes.numbers[index].into());
            (id_key(prefix, changes.ids.get(index)), Some(value))
        });
        let by_number = changes
            .iter()
            .map(move |(user, id)| (number_key(prefix, user), Some(id_value(id))));
        entries.by_id = Box::new(entries.by_id.chain(with_removed(by_id, removed_ids)));
        entries.by_number = Box::new(
            entries
                .by_number
                .chain(with_removed(by_number, removed_numbers)),
        );
        if changes.next > 0 {
            entries.next_numbers.push(next_entry(prefix, changes.next));
        } else if changes.hides_older {
            entries
                .next_numbers
                .push((entry_key(NEXT_NUMBER, prefix), None));
        }
    }
    entries.next_numbers.sort_unstable();
    Ok(entries)
}
