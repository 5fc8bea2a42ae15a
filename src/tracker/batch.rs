//! Marks that are written together.

use chrono::{DateTime, Utc};

use crate::sets::{EventName, Key, UserId};
use crate::store::{Mark, StoreError};
use crate::tracker::base::Tracker;
use crate::tracker::error::Result;
use crate::tracker::extent::Extent;

impl Tracker {
    /// Starts a batch of marks. [`Batch::commit`] writes them together.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            tracker: self,
            marks: Vec::new(),
        }
    }

    /// Marks that `user` did `event` at `at`.
    ///
    /// # Errors
    /// If nothing was recorded.
    pub fn mark(&self, event: &EventName, user: UserId, at: DateTime<Utc>) -> Result<()> {
        let mut batch = self.batch();
        batch.mark(event, user, at)?;
        batch.commit()
    }

    /// Removes the mark that `user` did `event` at `at`: clears the bits of that day, week and
    /// month, and of the hour if this tracker marks hours.
    ///
    /// # Errors
    /// If nothing was changed.
    pub fn unmark(&self, event: &EventName, user: UserId, at: DateTime<Utc>) -> Result<()> {
        let mut batch = self.batch();
        batch.unmark(event, user, at)?;
        batch.commit()
    }

    /// Marks `user` in the undated bitmap of `event`.
    ///
    /// # Errors
    /// If nothing was recorded.
    pub fn mark_ever(&self, event: &EventName, user: UserId) -> Result<()> {
        self.batch().mark_ever(event, user).commit()
    }

    /// Removes `user` from the undated bitmap of `event`.
    ///
    /// # Errors
    /// If nothing was changed.
    pub fn unmark_ever(&self, event: &EventName, user: UserId) -> Result<()> {
        self.batch().unmark_ever(event, user).commit()
    }

    /// The bitmaps that a mark sets.
    fn marked(&self, event: &EventName, at: DateTime<Utc>, extent: Extent) -> Result<Vec<Key>> {
        let mut keys: Vec<Key> =
            Key::of_mark_in(self.settle_zone()?, event, at, extent.hourly)?.collect();
        if extent.ever {
            keys.push(Key::ever(event.clone()));
        }
        Ok(keys)
    }
}

/// Marks that are written together, all of them or none.
///
/// ```
/// use cohortist::{Tracker, calendar::parse_moment, sets::{EventName, Set}, store};
/// let tracker = Tracker::new(store::open("memory:", &store::Options::default())?);
/// let active = EventName::new("active")?;
/// let mut batch = tracker.batch();
/// for (user, day) in [(1, "2026-11-21"), (2, "2026-11-21"), (1, "2026-11-22")] {
///     batch.mark(&active, user, parse_moment(day)?)?;
///     // A batch is in memory until it is committed.
///     if batch.len() > 100_000 {
///         batch.commit()?;
///     }
/// }
/// batch.commit()?;
/// assert_eq!(tracker.count(&Set::event_in(&active, "2026-11-21".parse()?))?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a batch does nothing until `commit`"]
pub struct Batch<'a> {
    tracker: &'a Tracker,
    marks: Vec<Mark>,
}

impl Batch<'_> {
    /// Adds a mark with the tracker's [extent](Extent).
    ///
    /// # Errors
    /// If the moment is outside the supported years.
    pub fn mark(
        &mut self,
        event: &EventName,
        user: UserId,
        at: DateTime<Utc>,
    ) -> Result<&mut Self> {
        self.mark_to(event, user, at, self.tracker.extent)
    }

    /// Adds a mark with this extent.
    ///
    /// # Errors
    /// If the moment is outside the supported years.
    pub fn mark_to(
        &mut self,
        event: &EventName,
        user: UserId,
        at: DateTime<Utc>,
        extent: Extent,
    ) -> Result<&mut Self> {
        self.put(event, user, at, extent, true)
    }

    /// Removes a mark with the tracker's [extent](Extent).
    ///
    /// # Errors
    /// If the moment is outside the supported years.
    pub fn unmark(
        &mut self,
        event: &EventName,
        user: UserId,
        at: DateTime<Utc>,
    ) -> Result<&mut Self> {
        self.unmark_to(event, user, at, self.tracker.extent)
    }

    /// Removes a mark with this extent.
    ///
    /// # Errors
    /// If the moment is outside the supported years.
    pub fn unmark_to(
        &mut self,
        event: &EventName,
        user: UserId,
        at: DateTime<Utc>,
        extent: Extent,
    ) -> Result<&mut Self> {
        self.put(event, user, at, extent, false)
    }

    /// Adds `user` to the undated bitmap of `event`.
    pub fn mark_ever(&mut self, event: &EventName, user: UserId) -> &mut Self {
        self.marks.push(Mark {
            key: Key::ever(event.clone()),
            user,
            value: true,
        });
        self
    }

    /// Removes `user` from the undated bitmap of `event`.
    pub fn unmark_ever(&mut self, event: &EventName, user: UserId) -> &mut Self {
        self.marks.push(Mark {
            key: Key::ever(event.clone()),
            user,
            value: false,
        });
        self
    }

    fn put(
        &mut self,
        event: &EventName,
        user: UserId,
        at: DateTime<Utc>,
        extent: Extent,
        value: bool,
    ) -> Result<&mut Self> {
        let keys = self.tracker.marked(event, at, extent)?;
        self.marks
            .extend(keys.into_iter().map(|key| Mark { key, user, value }));
        Ok(self)
    }

    /// How many bits the batch sets or clears.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Writes the batch and empties it. After an error the batch is kept, to try again.
    ///
    /// # Errors
    /// If nothing was written. [`StoreError::Unsynced`] is the exception: the batch was written and
    /// is emptied, but an embedded store that syncs each batch could not force it to disk, so a
    /// power cut may lose it.
    pub fn commit(&mut self) -> Result<()> {
        if self.marks.is_empty() {
            return Ok(());
        }
        let result = self.tracker.store.apply(&self.marks);
        if matches!(result, Ok(()) | Err(StoreError::Unsynced { .. })) {
            self.marks.clear();
        }
        Ok(result?)
    }
}
