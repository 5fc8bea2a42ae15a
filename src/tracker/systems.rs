//! Several trackers.

use std::collections::BTreeMap;

use crate::tracker::base::Tracker;

/// Several trackers side by side, by name: bitmapist's "systems".
#[derive(Debug, Clone, Default)]
pub struct Systems(BTreeMap<String, Tracker>);

impl Systems {
    /// No systems yet.
    pub fn new() -> Self {
        Systems::default()
    }

    /// Adds a tracker under a name; one that had the name before is returned.
    pub fn insert(&mut self, name: impl Into<String>, tracker: Tracker) -> Option<Tracker> {
        self.0.insert(name.into(), tracker)
    }

    /// The tracker of that name.
    pub fn get(&self, name: &str) -> Option<&Tracker> {
        self.0.get(name)
    }

    /// Names and trackers, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tracker)> {
        self.0
            .iter()
            .map(|(name, tracker)| (name.as_str(), tracker))
    }
}
