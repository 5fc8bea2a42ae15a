//! Stores many distinct strings in little memory.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Distinct strings, each with its index in order of insertion: 0 for the first, 1 for the second,
/// and so on.
///
/// All strings are stored in one buffer, so each takes its own bytes and about 20 more, and no
/// allocation.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    list: TextList,
    places: HashTable<Slot>,
    hasher: DefaultHashBuilder,
}

/// Strings stored one after the other, without a way to look one up.
#[derive(Debug, Clone, Default)]
pub struct TextList {
    text: String,
    /// Where each string ends.
    ends: Vec<usize>,
}

impl TextList {
    /// Returns the number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the total length of the strings, in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Appends a string.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// Removes all strings.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Returns the string at an index.
    ///
    /// # Panics
    /// Panics if there are not that many strings.
    pub fn get(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[place]]
    }

    /// Returns all strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|place| self.get(place))
    }
}

/// How many strings are looked up at the same time.
const AT_ONCE: usize = 32;

/// The index of a string, with half of its hash, so that a growing table does not need to read the
/// strings.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    place: u32,
}

impl Slot {
    fn hash(self) -> u64 {
        // The table uses the lowest and the highest bits.
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }
}

impl Texts {
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
    pub fn get(&self, place: usize) -> &str {
        self.list.get(place)
    }

    /// Returns all strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.list.iter()
    }

    /// Returns the strings from an index on.
    pub fn from(&self, place: usize) -> TextList {
        let TextList { text, ends } = &self.list;
        let start = place.checked_sub(1).map_or(0, |before| ends[before]);
        TextList {
            text: text[start..].to_owned(),
            ends: ends[place..].iter().map(|end| end - start).collect(),
        }
    }

    /// Returns the index of a string, if it is present.
    pub fn place(&self, text: &str) -> Option<u32> {
        let slot = self.slot(text);
        self.places
            .find(slot.hash(), |found| self.is_at(*found, slot, text))
            .map(|found| found.place)
    }

    /// Returns the index of a string, which is appended if it is not present.
    ///
    /// # Panics
    /// Panics if there are 2³² strings already.
    pub fn insert(&mut self, text: &str) -> u32 {
        let slot = self.slot(text);
        if let Some(found) = self
            .places
            .find(slot.hash(), |found| self.is_at(*found, slot, text))
        {
            return found.place;
        }
        self.list.push(text);
        self.places
            .insert_unique(slot.hash(), slot, |slot| slot.hash());
        slot.place
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
    pub fn insert_all<'t>(&mut self, texts: impl Iterator<Item = &'t str>) -> Vec<u32> {
        let mut texts = texts.peekable();
        let mut places = Vec::with_capacity(texts.size_hint().0);
        let mut few: Vec<(&str, Slot)> = Vec::with_capacity(AT_ONCE);
        let mut found: Vec<Option<Slot>> = Vec::with_capacity(AT_ONCE);
        while texts.peek().is_some() {
            few.clear();
            few.extend(
                texts
                    .by_ref()
                    .take(AT_ONCE)
                    .map(|text| (text, self.slot(text))),
            );
            found.clear();
            found.extend(few.iter().map(|(_, slot)| {
                self.places
                    .find(slot.hash(), |found| found.hash == slot.hash)
                    .copied()
            }));
            // Only to load them into the cache.
            let first_bytes = found
                .iter()
                .flatten()
                .filter_map(|slot| self.get(slot.place as usize).as_bytes().first());
            std::hint::black_box(first_bytes.fold(0, |all, byte| all ^ byte));
            for ((text, slot), found) in few.iter().zip(&found) {
                // Another string may have the same half of a hash, and the same string may just
                // have been inserted.
                places.push(match found {
                    Some(found) if self.is_at(*found, *slot, text) => found.place,
                    _ => self.insert(text),
                });
            }
        }
        places
    }

    /// Returns the slot that a string would have if it were inserted now.
    fn slot(&self, text: &str) -> Slot {
        let [a, b, c, d, ..] = self.hasher.hash_one(text).to_be_bytes();
        let place = u32::try_from(self.len()).expect("there are fewer than 4 billion texts");
        Slot {
            hash: u32::from_be_bytes([a, b, c, d]),
            place,
        }
    }

    fn is_at(&self, found: Slot, slot: Slot, text: &str) -> bool {
        found.hash == slot.hash && self.get(found.place as usize) == text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_text_has_the_place_of_its_first_arrival(came in prop::collection::vec("[ab]{0,3}|.{0,9}", 0..200), known in 0..90_usize) {
            let mut texts = Texts::default();
            let mut model: Vec<String> = Vec::new();
            for text in &came {
                prop_assert_eq!(texts.place(text).map(|place| place as usize), model.iter().position(|t| t == text));
                let place = texts.insert(text) as usize;
                if place == model.len() {
                    model.push(text.clone());
                }
                prop_assert_eq!(&model[place], text);
            }
            prop_assert_eq!(texts.iter().collect::<Vec<_>>(), model.iter().collect::<Vec<_>>());
            let mut at_once = Texts::default();
            at_once.insert_all(came.iter().take(known).map(String::as_str));
            let places = at_once.insert_all(came.iter().map(String::as_str));
            let expected: Vec<u32> = came.iter().filter_map(|text| texts.place(text)).collect();
            prop_assert_eq!(places, expected);
            prop_assert_eq!(at_once.iter().collect::<Vec<_>>(), model);
        }
    }
}
