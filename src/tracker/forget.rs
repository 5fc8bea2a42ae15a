//! Erases people: every bit of a user, and the user's string id.

use std::collections::BTreeSet;

use crate::sets::{EventName, Key, UserId};
use crate::store::{Mark, StoreError};
use crate::tracker::base::Tracker;
use crate::tracker::error::{Error, Result};

/// What the store had of a user that was [forgotten](Tracker::forget).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The events with a bitmap that the user was in.
    pub events: BTreeSet<EventName>,
    /// The number of bitmaps that the user was in.
    pub bitmaps: usize,
    /// Whether the user had a string id.
    pub string_id: bool,
}

impl Tracker {
    /// The bitmaps that a user is in: of every event, of all grains and undated.
    ///
    /// # Errors
    /// If the store could not be read.
    pub fn bitmaps_of(&self, user: UserId) -> Result<Vec<Key>> {
        let keys = self.keys("")?;
        let found = self.store.contains(&keys, user)?;
        let with = keys.into_iter().zip(found);
        Ok(with
            .filter_map(|(key, is_in)| is_in.then_some(key))
            .collect())
    }

    /// Erases a user: clears the user's bit in every bitmap under this prefix and deletes the
    /// user's string id, whose number is never assigned again. Returns what was there, and `None`
    /// if no user has this string id. Forgetting a user twice does no harm. A mark of the same
    /// string id that is recorded afterwards is that of a new user.
    ///
    /// Backups keep the user. The files of an embedded store keep what was erased until the store
    /// was compacted.
    ///
    /// ```
    /// use cohortist::{Ids, Tracker, sets::{EventName, Set}, store};
    /// let tracker = Tracker::new(store::open("memory:", &store::Options::default())?).with_ids(Ids::Strings);
    /// let pro = EventName::new("plan:pro")?;
    /// for user in tracker.assign(&["ann@example.com", "bob@example.com"])? {
    ///     tracker.mark_ever(&pro, user)?;
    /// }
    /// let forgotten = tracker.forget("ann@example.com")?.expect("she is known");
    /// assert_eq!((forgotten.bitmaps, forgotten.string_id), (1, true));
    /// assert_eq!((tracker.user("ann@example.com")?, tracker.count(&Set::ever(&pro))?), (None, 1));
    /// assert_eq!(tracker.forget("ann@example.com")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If `called` is not a valid user id of this store, or something of the user may still be
    /// there: forget the user again. After [`StoreError::Unsynced`] everything was erased, and a
    /// power cut may bring it back.
    pub fn forget(&self, called: &str) -> Result<Option<Forgotten>> {
        let Some(user) = self.user(called)? else {
            return Ok(None);
        };
        let mut unsynced = None;
        let mut written = |result: Result<(), StoreError>| match result {
            Err(error @ StoreError::Unsynced { .. }) => {
                unsynced = Some(error);
                Ok(())
            }
            other => other,
        };
        let mut erased = self.bitmaps_of(user)?;
        written(self.clear(&erased, user))?;
        let ids = self.store.string_ids();
        // As it is stored, which may differ from how it was typed.
        let text = ids
            .texts(&[user])?
            .and_then(|texts| texts.into_iter().next());
        let text = text.flatten();
        if let Some(text) = &text {
            written(ids.remove(&[text]))?;
            // Marks that were in progress had looked the number up before.
            let late = self.bitmaps_of(user)?;
            written(self.clear(&late, user))?;
            erased.extend(late);
            erased.sort_unstable();
            erased.dedup();
        }
        match unsynced {
            Some(error) => Err(Error::Store(error)),
            None => Ok(Some(Forgotten {
                events: erased.iter().map(|key| key.event().clone()).collect(),
                bitmaps: erased.len(),
                string_id: text.is_some(),
            })),
        }
    }

    fn clear(&self, keys: &[Key], user: UserId) -> Result<(), StoreError> {
        let marks: Vec<Mark> = keys
            .iter()
            .map(|key| Mark {
                key: key.clone(),
                user,
                value: false,
            })
            .collect();
        if marks.is_empty() {
            return Ok(());
        }
        self.store.apply(&marks)
    }
}
