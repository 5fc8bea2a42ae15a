//! Properties of which users have only the newest value: older values are taken away.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use crate::cli::import::seen::Seen;
use crate::cli::output::warn_if_unsynced;
use crate::ingest::Current;
use crate::sets::{EventName, Key, Set, UserId};
use crate::store::Mark;
use crate::tracker::{Result, Tracker};

/// The newest values that an import has read.
#[derive(Default)]
pub struct Newest {
    /// The time and the event of the newest value of each property and user.
    values: FxHashMap<(usize, UserId), (i64, u32)>,
    /// The values of each property that the store had before the import, and their users.
    before: HashMap<usize, Vec<(Key, Seen)>>,
}

impl Newest {
    /// Writes values, in the order of the lines: a user gets the bit of the newest value, and loses
    /// that of any other value of the property. Each batch has at most `batch_marks` marks, or those
    /// of one user, and is written as a whole: no user has several values or none in between.
    ///
    /// `name` returns the name of a property, and `event` the event with a number.
    pub fn write<'n>(
        &mut self,
        tracker: &Tracker,
        current: &[Current],
        batch_marks: usize,
        name: impl Fn(usize) -> &'n str,
        event: impl Fn(u32) -> &'n EventName,
    ) -> Result<()> {
        // The properties and users with new values, with the event that they had so far.
        let mut changed: FxHashMap<(usize, UserId), Option<u32>> = FxHashMap::default();
        for &Current {
            property,
            user,
            at,
            event,
        } in current
        {
            let known = self.values.get(&(property, user)).copied();
            if known.is_none_or(|(before, _)| before <= at) {
                changed
                    .entry((property, user))
                    .or_insert(known.map(|(_, event)| event));
                self.values.insert((property, user), (at, event));
            }
        }
        let mut changed: Vec<((usize, UserId), Option<u32>)> = changed.into_iter().collect();
        // Neighbours in a bitmap are written together.
        changed.sort_unstable();
        let mut marks: Vec<Mark> = Vec::new();
        for ((property, user), had) in changed {
            if marks.len() >= batch_marks {
                warn_if_unsynced(tracker.apply(&marks))?;
                marks.clear();
            }
            let (_, has) = self.values[&(property, user)];
            if had == Some(has) {
                continue;
            }
            let has = Key::ever(event(has).clone());
            match had {
                Some(had) => marks.push(mark(Key::ever(event(had).clone()), user, false)),
                None => {
                    let before = self.before(tracker, property, name(property))?;
                    let others = before
                        .iter()
                        .filter(|(key, users)| *key != has && users.contains(user));
                    marks.extend(others.map(|(key, _)| mark(key.clone(), user, false)));
                }
            }
            marks.push(mark(has, user, true));
        }
        warn_if_unsynced(tracker.apply(&marks)).map(drop)
    }

    /// Returns the values of a property that the store had before the import.
    fn before(&mut self, tracker: &Tracker, property: usize, name: &str) -> Result<&[(Key, Seen)]> {
        let found = match self.before.entry(property) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(values(tracker, name)?),
        };
        Ok(found)
    }
}

/// Returns the values of a property in a store, and their users.
fn values(tracker: &Tracker, name: &str) -> Result<Vec<(Key, Seen)>> {
    let with_users = |event| {
        let key = Key::ever(event);
        let mut users = Seen::default();
        for user in tracker.members(&Set::Key(key.clone())) {
            users.add(&[user?]);
        }
        Ok((key, users))
    };
    let events = tracker.events(&format!("{name}:"))?;
    events.into_iter().map(with_users).collect()
}

fn mark(key: Key, user: UserId, value: bool) -> Mark {
    Mark { key, user, value }
}
