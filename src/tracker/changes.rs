//! Changes other than marks: whole bitmaps are written, saved, deleted or expire.

use chrono::{DateTime, Utc};

use crate::reports::expiry::ExpiryPolicy;
use crate::sets::{EventName, Key, Set, UserId};
use crate::store::{Mark, Progress, Saved, StoreError};
use crate::tracker::base::Tracker;
use crate::tracker::error::{Error, Result};

impl Tracker {
    /// Sets and clears single bits, all of them or none. To mark events use
    /// [`batch`](Self::batch), which sets every bitmap of an event.
    ///
    /// # Errors
    /// If nothing was written. After [`StoreError::Unsynced`] the marks were written and a power
    /// cut may lose them.
    pub fn apply(&self, marks: &[Mark]) -> Result<()> {
        Ok(self.store.apply(marks)?)
    }

    /// Adds users to bitmaps, all of them or none. Fastest if each bitmap is listed once, with its
    /// users ascending and without duplicates.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply).
    pub fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        Ok(self.store.add(runs)?)
    }

    /// How much of what was written survives a power cut.
    pub fn progress(&self) -> Progress {
        self.store.progress()
    }

    /// Makes everything written so far survive a power cut, as far as this process can.
    ///
    /// # Errors
    /// If the disk could not be synced.
    pub fn flush(&self) -> Result<()> {
        Ok(self.store.flush()?)
    }

    /// Deletes one bitmap; returns whether it existed.
    ///
    /// # Errors
    /// If it may still exist.
    pub fn delete(&self, key: &Key) -> Result<bool> {
        Ok(self.delete_keys(std::slice::from_ref(key))? > 0)
    }

    /// Deletes all bitmaps of one event; returns how many existed.
    ///
    /// # Errors
    /// If some may still exist.
    pub fn delete_event(&self, event: &EventName) -> Result<u64> {
        self.of_listed(|| {
            let mut keys = self.keys(event.as_str())?;
            keys.retain(|key| key.event() == event);
            self.delete_keys(&keys)
        })
    }

    /// Deletes every bitmap of every event under this prefix and the string ids of their users, and
    /// nothing else in the store; returns how many bitmaps existed.
    ///
    /// # Errors
    /// If some may still exist.
    pub fn delete_all(&self) -> Result<u64> {
        let deleted = self.of_listed(|| self.delete_keys(&self.keys("")?));
        // After `Unsynced` the bitmaps are gone, even if a power cut may bring them back.
        if let Err(error) = &deleted
            && !matches!(error, Error::Store(StoreError::Unsynced { .. }))
        {
            return deleted;
        }
        self.store.string_ids().clear()?;
        deleted
    }

    /// The bitmaps that have expired at `now`, sorted by name.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn over(&self, keeping: &ExpiryPolicy, now: DateTime<Utc>) -> Result<Vec<Key>> {
        let mut keys = self.keys("")?;
        keys.retain(|key| keeping.is_over(key, now));
        keys.sort_unstable();
        Ok(keys)
    }

    /// Like [`over`](Self::over), for deletion without supervision: refused if even the newest
    /// bitmap has expired, or all but the newest after a long gap, because then the clock may well
    /// be wrong.
    ///
    /// # Errors
    /// [`Error::NewestIsOver`], or if the store cannot be read.
    pub fn due(&self, keeping: &ExpiryPolicy, now: DateTime<Utc>) -> Result<Vec<Key>> {
        let mut keys = self.keys("")?;
        let newest = keeping.newest_if_over(&keys, now);
        let gap = keeping.gap_before_newest(&keys, now);
        let doubt = match (newest, gap) {
            (Some(newest), _) => Some((newest, None)),
            (None, Some((before, next))) => Some((next, Some(before))),
            (None, None) => None,
        };
        keys.retain(|key| keeping.is_over(key, now));
        keys.sort_unstable();
        match doubt {
            Some((newest, gap_since)) if !keys.is_empty() => Err(Error::NewestIsOver {
                newest,
                gap_since,
                now,
            }),
            _ => Ok(keys),
        }
    }

    /// Deletes the bitmaps that are [`due`](Self::due); returns how many existed.
    ///
    /// # Errors
    /// Those of [`due`](Self::due), or if some may still exist.
    pub fn expire(&self, keeping: &ExpiryPolicy, now: DateTime<Utc>) -> Result<u64> {
        self.of_listed(|| {
            let keys = self.due(keeping, now)?;
            if keys.is_empty() {
                Ok(0)
            } else {
                self.delete_keys(&keys)
            }
        })
    }

    /// Deletes several bitmaps; returns how many existed.
    ///
    /// # Errors
    /// If some may still exist.
    pub fn delete_keys(&self, keys: &[Key]) -> Result<u64> {
        let deleted = self.store.delete(keys);
        self.forget_list();
        Ok(deleted?)
    }

    /// Saves the current members of `set` as the undated bitmap of a new event, which is the
    /// segment `name@ever` from then on. Returns [`Saved::Taken`] if the event has any bitmap,
    /// dated or not, and [`Saved::Nobody`] if the set is empty.
    ///
    /// ```
    /// use cohortist::{Tracker, sets::{EventName, Set}, store::{self, Saved}};
    /// let tracker = Tracker::new(store::open("memory:", &store::Options::default())?);
    /// let (a, b, both) = (EventName::new("a")?, EventName::new("b")?, EventName::new("both")?);
    /// for user in 1..5 {
    ///     tracker.mark_ever(&a, user)?;
    ///     tracker.mark_ever(&b, user + 2)?;
    /// }
    /// let set = Set::ever(&a) & Set::ever(&b);
    /// assert_eq!(tracker.save_ever(&set, &both)?, Saved::People(2));
    /// assert_eq!(tracker.save_ever(&set, &both)?, Saved::Taken);
    /// assert!(tracker.contains(&Set::ever(&both), 3)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Store::save`](crate::store::Store::save).
    pub fn save_ever(&self, set: &Set, name: &EventName) -> Result<Saved> {
        let keys = self.keys(name.as_str())?;
        if keys.iter().any(|key| key.event() == name) {
            return Ok(Saved::Taken);
        }
        let saved = self.store.save(set, &Key::ever(name.clone()));
        // Also after an error: the bitmap may have been made.
        self.forget_list();
        Ok(saved?)
    }

    /// Deletes temporary keys left behind by interrupted requests; returns how many existed.
    ///
    /// # Errors
    /// If some may still exist.
    pub fn sweep(&self) -> Result<u64> {
        Ok(self.store.sweep()?)
    }
}
