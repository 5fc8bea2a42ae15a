//! Stores many distinct strings in little memory.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Distinct strings, each with its index in order of insertion: 0 for the first, 1 for the second,
/// and so on.
///
/// All strings are stored in one buffer, so each takes its own bytes and about 20 more, and no
/// allocation.
#[derive(Debug, Clone, Default)]
pub struct Interner {
    list: StringList,
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
}

/// Strings stored one after the other, without a way to look one up.
#[derive(Debug, Clone, Default)]
pub struct StringList {
    string: String,
    /// Where each string ends.
    ends: Vec<usize>,
}

impl StringList {
    /// Returns the number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the total length of the strings, in bytes.
    pub fn bytes(&self) -> usize {
        self.string.len()
    }

    /// Appends a string.
    pub fn push(&mut self, string: &str) {
        self.string.push_str(string);
        self.ends.push(self.string.len());
    }

    /// Removes all strings.
    pub fn clear(&mut self) {
        self.string.clear();
        self.ends.clear();
    }

    /// Returns the string at an index.
    ///
    /// # Panics
    /// Panics if there are not that many strings.
    pub fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.string[start..self.ends[index]]
    }

    /// Returns all strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// How many strings are looked up at the same time.
const AT_ONCE: usize = 32;

/// The index of a string, with half of its hash, so that a growing table does not need to read the
/// strings.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    index: u32,
}

impl Slot {
    fn hash(self) -> u64 {
        // The table uses the lowest and the highest bits.
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }
}

impl Interner {
    /// Returns the number of strings.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns approximately how much memory the strings take, in bytes.
    pub fn memory(&self) -> usize {
        self.list.bytes() + self.len() * (size_of::<usize>() + 2 * size_of::<Slot>())
    }

    /// Returns the string at an index.
    ///
    /// # Panics
    /// Panics if there are not that many strings.
    pub fn get(&self, index: usize) -> &str {
        self.list.get(index)
    }

    /// Returns all strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.list.iter()
    }

    /// Returns the strings from an index on.
    pub fn from(&self, index: usize) -> StringList {
        let StringList { string, ends } = &self.list;
        let start = index.checked_sub(1).map_or(0, |before| ends[before]);
        StringList {
            string: string[start..].to_owned(),
            ends: ends[index..].iter().map(|end| end - start).collect(),
        }
    }

    /// Returns the index of a string, if it is present.
    pub fn index_of(&self, string: &str) -> Option<u32> {
        let slot = self.slot(string);
        self.slots
            .find(slot.hash(), |found| self.is_at(*found, slot, string))
            .map(|found| found.index)
    }

    /// Returns the index of a string, which is appended if it is not present.
    ///
    /// # Panics
    /// Panics if there are 2³² strings already.
    pub fn insert(&mut self, string: &str) -> u32 {
        let slot = self.slot(string);
        if let Some(found) = self
            .slots
            .find(slot.hash(), |found| self.is_at(*found, slot, string))
        {
            return found.index;
        }
        self.list.push(string);
        self.slots
            .insert_unique(slot.hash(), slot, |slot| slot.hash());
        slot.index
    }

    /// Returns the indexes of strings, in the order given. Strings that are not present are
    /// appended.
    ///
    /// If there are many strings, they are spread over memory, and most of the time is spent
    /// waiting for memory. Here a processor waits for several strings at once: first for their
    /// slots, then for the strings.
    ///
    /// # Panics
    /// Panics if there would be more than 2³² strings.
    pub fn insert_all<'t>(&mut self, strings: impl Iterator<Item = &'t str>) -> Vec<u32> {
        let mut strings = strings.peekable();
        let mut indexes = Vec::with_capacity(strings.size_hint().0);
        let mut few: Vec<(&str, Slot)> = Vec::with_capacity(AT_ONCE);
        let mut found: Vec<Option<Slot>> = Vec::with_capacity(AT_ONCE);
        while strings.peek().is_some() {
            few.clear();
            few.extend(
                strings
                    .by_ref()
                    .take(AT_ONCE)
                    .map(|string| (string, self.slot(string))),
            );
            found.clear();
            found.extend(few.iter().map(|(_, slot)| {
                self.slots
                    .find(slot.hash(), |found| found.hash == slot.hash)
                    .copied()
            }));
            // Reads a byte of each string, only to load the strings into the processor's cache.
            let first_bytes = found
                .iter()
                .flatten()
                .filter_map(|slot| self.get(slot.index as usize).as_bytes().first());
            std::hint::black_box(first_bytes.fold(0, |all, byte| all ^ byte));
            for ((string, slot), found) in few.iter().zip(&found) {
                // A different string may have the same half of its hash, and this string may have
                // been inserted a moment ago.
                indexes.push(match found {
                    Some(found) if self.is_at(*found, *slot, string) => found.index,
                    _ => self.insert(string),
                });
            }
        }
        indexes
    }

    /// Returns the slot that a string would have if it were inserted now.
    fn slot(&self, string: &str) -> Slot {
        let [a, b, c, d, ..] = self.hasher.hash_one(string).to_be_bytes();
        let index = u32::try_from(self.len()).expect("there are at most 4 billion strings");
        Slot {
            hash: u32::from_be_bytes([a, b, c, d]),
            index,
        }
    }

    /// Returns whether the string at a slot of the table is the string that `slot` was made for.
    fn is_at(&self, found: Slot, slot: Slot, string: &str) -> bool {
        found.hash == slot.hash && self.get(found.index as usize) == string
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_numbered_in_order_of_first_insertion(inserted in prop::collection::vec("[ab]{0,3}|.{0,9}", 0..200), known in 0..90_usize) {
            let mut strings = Interner::default();
            let mut model: Vec<String> = Vec::new();
            for string in &inserted {
                prop_assert_eq!(strings.index_of(string).map(|index| index as usize), model.iter().position(|t| t == string));
                let index = strings.insert(string) as usize;
                if index == model.len() {
                    model.push(string.clone());
                }
                prop_assert_eq!(&model[index], string);
            }
            prop_assert_eq!(strings.iter().collect::<Vec<_>>(), model.iter().collect::<Vec<_>>());
            let mut at_once = Interner::default();
            at_once.insert_all(inserted.iter().take(known).map(String::as_str));
            let indexes = at_once.insert_all(inserted.iter().map(String::as_str));
            let expected: Vec<u32> = inserted.iter().filter_map(|string| strings.index_of(string)).collect();
            prop_assert_eq!(indexes, expected);
            prop_assert_eq!(at_once.iter().collect::<Vec<_>>(), model);
        }
    }
}
