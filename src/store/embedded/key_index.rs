//! A list of all keys that can be scanned in steps.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// All keys, in an order that stays the same while keys are added and removed. A client that scans
/// it step by step, and remembers only a number between the steps, sees every key that existed the
/// whole time.
#[derive(Debug, Default)]
pub struct KeyIndex {
    by_position: BTreeMap<u64, Vec<Box<str>>>,
    len: usize,
}

/// Returns the position of a key in a scan: from 1 to 2⁵³, a range that every client's numbers can
/// hold.
fn scan_position(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() >> 11) + 1
}

impl KeyIndex {
    /// Adds a key, unless it is present.
    pub fn insert(&mut self, key: &str) {
        let keys = self.by_position.entry(scan_position(key)).or_default();
        if keys.iter().all(|present| **present != *key) {
            keys.push(key.into());
            self.len += 1;
        }
    }

    /// Removes a key, if it is present.
    pub fn remove(&mut self, key: &str) {
        let position = scan_position(key);
        if let Some(keys) = self.by_position.get_mut(&position) {
            let before = keys.len();
            keys.retain(|present| **present != *key);
            self.len -= before - keys.len();
            if keys.is_empty() {
                self.by_position.remove(&position);
            }
        }
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Iterates over all keys, in the order of a scan.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.by_position.values().flatten().map(|key| &**key)
    }

    /// Returns at least `count` keys from the position `cursor` on, or all that are left, and the
    /// position at which the next step continues. That is 0 after the last key.
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<&str>) {
        let mut found = Vec::new();
        for (position, keys) in self.by_position.range(cursor..) {
            if found.len() >= count {
                return (*position, found);
            }
            found.extend(keys.iter().map(|key| &**key));
        }
        (0, found)
    }
}
