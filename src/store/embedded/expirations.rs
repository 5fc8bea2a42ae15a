//! When bitmaps expire.

use std::collections::BTreeSet;

use hashbrown::HashMap;

/// The expiry times of all bitmaps that have one, in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expirations {
    by_key: HashMap<Box<str>, u64>,
    by_time: BTreeSet<(u64, Box<str>)>,
}

impl Expirations {
    /// Returns when a bitmap expires, or `None` if it never does.
    pub fn of(&self, key: &str) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// Sets when a bitmap expires. `None` means never.
    pub fn set(&mut self, key: &str, expires_at: Option<u64>) {
        if let Some((key, before)) = self.by_key.remove_entry(key) {
            self.by_time.remove(&(before, key));
        }
        if let Some(expires_at) = expires_at {
            self.by_key.insert(key.into(), expires_at);
            self.by_time.insert((expires_at, key.into()));
        }
    }

    /// Returns the earliest expiry time.
    pub fn next(&self) -> Option<u64> {
        self.by_time.first().map(|(expires_at, _)| *expires_at)
    }

    /// Returns the keys of the bitmaps that have expired by `now`.
    pub fn due(&self, now: u64) -> Vec<String> {
        self.by_time
            .iter()
            .take_while(|(expires_at, _)| *expires_at <= now)
            .map(|(_, key)| key.to_string())
            .collect()
    }

    /// Returns how many bitmaps have an expiry time.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Iterates over the keys and their expiry times, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_key
            .iter()
            .map(|(key, expires_at)| (&**key, *expires_at))
    }
}
