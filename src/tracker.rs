//! The library's front door: mark what users did, and ask who did it.

mod ids;
mod run;
mod systems;
mod written;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};

use crate::calendar::{CalendarError, Period};
use crate::reports::QueryError;
use crate::reports::expiry::ExpiryPolicy;
use crate::sets::{Catalogue, Counts, EventName, Key, Plan, Segments, Set, UserId};
use crate::store::{Freshness, Mark, Saved, Store, StoreError, StoreInfo};
pub use ids::{Ids, IdsError};
use run::Covered;
pub use run::{Answered, Asked, Run};
pub use systems::Systems;
pub use written::Written;

/// How long a list of the keys is used before it is read again.
const LIST_FRESH_FOR: Duration = Duration::from_secs(5);

/// How long it is believed that an event was never recorded.
const UNKNOWN_FRESH_FOR: Duration = Duration::from_secs(1);

/// How many members [`Members`] fetches at a time.
const MEMBERS_AT_ONCE: usize = 65_536;

/// What can go wrong between a question and its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A date outside the supported years.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// A retention query that cannot be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A user who cannot be called so.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// Bitmaps as new as the newest would be deleted.
    #[error(
        "nothing was deleted: even the newest bitmap, of {newest}, is old enough to go. Is the clock right? It says {}",
        now.format("%Y-%m-%d %H:%M UTC")
    )]
    NewestIsOver {
        /// What the newest bitmap is of.
        newest: Period,
        /// The time that was taken for now.
        now: DateTime<Utc>,
    },
}

/// A result of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which bitmaps a mark sets beyond day, week and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Also the bitmap of the hour.
    pub hourly: bool,
    /// Also the undated bitmap.
    pub ever: bool,
}

/// Marks events of users and answers questions about them, in one store.
///
/// ```
/// use cohortist::{Tracker, calendar::parse_moment, sets::{EventName, Set}, store};
/// let tracker = Tracker::new(store::open("memory:", &store::Options::default())?);
/// let (active, noon) = (EventName::new("active")?, parse_moment("2026-11-23T12:00:00Z")?);
/// tracker.mark(&active, 123, noon)?;
/// let today = Set::event_in(&active, "2026-11-23".parse()?);
/// let this_year = Set::event_in(&active, "2026".parse()?);
/// assert_eq!(tracker.count(&today)?, 1);
/// assert!(tracker.contains(&this_year, 123)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tracker {
    store: Arc<dyn Store>,
    extent: Extent,
    list: Arc<Mutex<Option<Listing>>>,
    covered: Arc<Mutex<Option<Covered>>>,
    segments: Arc<Segments>,
    ids: Option<Ids>,
}

/// The counts of a plan, and how old they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// One for each root of the plan.
    pub counts: Counts,
    /// How long ago the store was asked. What others marked since then may be missing.
    pub age: Duration,
}

/// What came of listing the keys, and when.
#[derive(Debug)]
struct Listing {
    began: Instant,
    ended: Instant,
    /// The store's [`keys_version`](Store::keys_version) before it began.
    version: Option<u64>,
    keys: Result<Arc<Catalogue>, StoreError>,
}

impl Tracker {
    /// A tracker that marks days, weeks and months.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Tracker {
            store,
            extent: Extent::default(),
            list: Arc::default(),
            covered: Arc::default(),
            segments: Arc::default(),
            ids: None,
        }
    }

    /// The same tracker with saved segments: names that [`retention`](Self::retention) takes for
    /// their expression.
    pub fn with_segments(mut self, segments: Segments) -> Self {
        self.segments = Arc::new(segments);
        self
    }

    /// The same tracker in front of another store, such as one that
    /// [remembers](crate::store::CachedStore) what this one counted.
    pub fn on(self, store: Arc<dyn Store>) -> Self {
        Tracker {
            store,
            list: Arc::default(),
            covered: Arc::default(),
            ..self
        }
    }

    /// The saved segments; none unless [`with_segments`](Self::with_segments) gave any.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// The same tracker with other defaults for [`mark`](Self::mark) and [`unmark`](Self::unmark).
    pub fn with_extent(mut self, extent: Extent) -> Self {
        self.extent = extent;
        self
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A batch of marks, written together by [`Batch::commit`].
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            tracker: self,
            marks: Vec::new(),
        }
    }

    /// Marks that `user` did `event` at `at`.
    ///
    /// # Errors
    /// When nothing was recorded.
    pub fn mark(&self, event: &EventName, user: UserId, at: DateTime<Utc>) -> Result<()> {
        let mut batch = self.batch();
        batch.mark(event, user, at)?;
        batch.commit()
    }

    /// Takes back that `user` did `event` at `at`: clears the bits of that hour (if asked), day,
    /// week and month.
    ///
    /// # Errors
    /// When nothing was changed.
    pub fn unmark(&self, event: &EventName, user: UserId, at: DateTime<Utc>) -> Result<()> {
        let mut batch = self.batch();
        batch.unmark(event, user, at)?;
        batch.commit()
    }

    /// Marks `user` in the undated bitmap of `event`.
    ///
    /// # Errors
    /// When nothing was recorded.
    pub fn mark_ever(&self, event: &EventName, user: UserId) -> Result<()> {
        self.batch().mark_ever(event, user).commit()
    }

    /// Takes `user` out of the undated bitmap of `event`.
    ///
    /// # Errors
    /// When nothing was changed.
    pub fn unmark_ever(&self, event: &EventName, user: UserId) -> Result<()> {
        self.batch().unmark_ever(event, user).commit()
    }

    /// How many users are in the set.
    ///
    /// # Errors
    /// When the store could not say.
    pub fn count(&self, set: &Set) -> Result<u64> {
        Ok(self.counts([set])?.first().copied().unwrap_or(0))
    }

    /// The counts of many sets, answered together, as they are now also where the store remembers
    /// counts.
    ///
    /// # Errors
    /// When the sets are [too large](StoreError::TooLarge) together, or the store could not say.
    pub fn counts<'a>(&self, sets: impl IntoIterator<Item = &'a Set>) -> Result<Vec<u64>> {
        let mut plan = Plan::new();
        for set in sets {
            plan.count_set(set).map_err(StoreError::from)?;
        }
        let counted = self.counted(&plan, Freshness::Checked)?;
        Ok(counted.counts.as_slice().to_vec())
    }

    /// The counts of a plan, and how old they are.
    ///
    /// # Errors
    /// If any of them could not be counted.
    pub fn counted(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        let counted = self.store.counted(plan, freshness)?;
        Ok(Counted {
            counts: Counts::new(plan, counted.counts),
            age: counted.age,
        })
    }

    /// Whether nobody is in the set.
    ///
    /// # Errors
    /// When the store could not say.
    pub fn is_empty(&self, set: &Set) -> Result<bool> {
        Ok(self.count(set)? == 0)
    }

    /// Whether both sets hold the same users.
    ///
    /// # Errors
    /// When the store could not say.
    pub fn same(&self, a: &Set, b: &Set) -> Result<bool> {
        self.is_empty(&(a.clone() ^ b.clone()))
    }

    /// Whether `user` is in the set.
    ///
    /// # Errors
    /// When the store could not say.
    pub fn contains(&self, set: &Set, user: UserId) -> Result<bool> {
        if let Set::Key(key) = set {
            return Ok(self
                .store
                .contains(std::slice::from_ref(key), user)?
                .first()
                .copied()
                .unwrap_or(false));
        }
        let found = match user.checked_sub(1) {
            None => self.store.members(set, None, 1)?,
            Some(before) => self.store.members(set, Some(before), 1)?,
        };
        Ok(found.first() == Some(&user))
    }

    /// The users of the set in ascending order, fetched piece by piece: never all of them in
    /// memory.
    pub fn members(&self, set: &Set) -> Members {
        Members {
            store: Arc::clone(&self.store),
            set: set.clone(),
            piece: Vec::new().into_iter(),
            after: None,
            done: false,
        }
    }

    /// The names of all events that begin with `starting_with`, sorted. Read from the store at most
    /// every few seconds, so a new event may take that long to appear.
    ///
    /// # Errors
    /// When they could not all be listed.
    pub fn events(&self, starting_with: &str) -> Result<Vec<EventName>> {
        let list = self.listing(LIST_FRESH_FOR)?;
        let names = list.events().map(|known| &known.event);
        Ok(names
            .filter(|name| name.as_str().starts_with(starting_with))
            .cloned()
            .collect())
    }

    /// Those of the names that have no bitmap at all, each once, in order. An event that is news to
    /// [`events`](Self::events) is looked for in a list that is a second old at most.
    ///
    /// # Errors
    /// When the store could not say.
    pub fn never_recorded<'a>(
        &self,
        names: impl IntoIterator<Item = &'a EventName>,
    ) -> Result<Vec<&'a EventName>> {
        let mut seen = HashSet::new();
        let mut unknown: Vec<&EventName> = names
            .into_iter()
            .filter(|name| seen.insert(*name))
            .collect();
        for fresh_for in [LIST_FRESH_FOR, UNKNOWN_FRESH_FOR] {
            if !unknown.is_empty() {
                let list = self.listing(fresh_for)?;
                unknown.retain(|name| list.event(name).is_none());
            }
        }
        Ok(unknown)
    }

    /// Whether an event is only known without dates: marked ever, and in no period.
    ///
    /// # Errors
    /// When the store could not say.
    pub fn is_undated(&self, event: &EventName) -> Result<bool> {
        Ok(self
            .listing(LIST_FRESH_FOR)?
            .event(event)
            .is_some_and(|known| known.last.is_none()))
    }

    /// The last date an event was recorded on, by its bitmaps; `None` when it never was, or only
    /// without dates.
    ///
    /// # Errors
    /// When the store could not say.
    pub fn last_recorded(&self, event: &EventName) -> Result<Option<NaiveDate>> {
        Ok(self
            .listing(LIST_FRESH_FOR)?
            .event(event)
            .and_then(|known| known.last))
    }

    /// Every bitmap there is, by event. Read from the store at most every few seconds, unless the
    /// store can tell that nothing came or went: then it is as of now, at no cost. A new bitmap may
    /// take that long to appear, but for the first ones of all, which appear at once.
    ///
    /// # Errors
    /// When they could not all be listed.
    pub fn catalogue(&self) -> Result<Arc<Catalogue>> {
        self.listing(LIST_FRESH_FOR)
    }

    /// The bitmaps of one event. When there are none to the knowledge of
    /// [`catalogue`](Self::catalogue), they are looked for in a list that is a second old at most.
    ///
    /// # Errors
    /// When they could not all be listed.
    pub fn keys_of(&self, event: &EventName) -> Result<Vec<Key>> {
        let known = self.listing(LIST_FRESH_FOR)?.of(event).to_vec();
        if known.is_empty() {
            Ok(self.listing(UNKNOWN_FRESH_FOR)?.of(event).to_vec())
        } else {
            Ok(known)
        }
    }

    /// All keys, read at most `fresh_for` ago. Whoever asks while the store is being read gets what
    /// comes of it, also when that is an error: a store that hangs holds up all of them once, and
    /// not one after the other.
    fn listing(&self, fresh_for: Duration) -> Result<Arc<Catalogue>> {
        let asked = Instant::now();
        let mut last = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are listed: what comes in meanwhile makes it another one.
        let version = self.store.keys_version();
        match &*last {
            Some(Listing {
                began,
                keys: Ok(keys),
                version: then,
                ..
            }) if (version.is_some() && version == *then)
                || *began >= asked
                || (!keys.is_empty() && asked.duration_since(*began) < fresh_for) =>
            {
                return Ok(Arc::clone(keys));
            }
            Some(Listing {
                ended,
                keys: Err(error),
                ..
            }) if *ended >= asked => return Err(error.clone().into()),
            _ => {}
        }
        let began = Instant::now();
        let keys = self
            .store
            .keys("")
            .map(|keys| Arc::new(Catalogue::new(keys)));
        // Where nothing came or went it stays the same list, by which others know that.
        let keys = match (&*last, keys) {
            (
                Some(Listing {
                    keys: Ok(before), ..
                }),
                Ok(keys),
            ) if *before == keys => Ok(Arc::clone(before)),
            (_, keys) => keys,
        };
        *last = Some(Listing {
            began,
            ended: Instant::now(),
            version,
            keys: keys.clone(),
        });
        Ok(keys?)
    }

    /// Deletes one bitmap; says whether there was one.
    ///
    /// # Errors
    /// When it may still be there.
    pub fn delete(&self, key: &Key) -> Result<bool> {
        Ok(self.delete_keys(std::slice::from_ref(key))? > 0)
    }

    /// Deletes all bitmaps of one event; returns how many there were.
    ///
    /// # Errors
    /// When some may still be there.
    pub fn delete_event(&self, event: &EventName) -> Result<u64> {
        let mut keys = self.store.keys(event.as_str())?;
        keys.retain(|key| key.event() == event);
        self.delete_keys(&keys)
    }

    /// Deletes every bitmap of every event under this prefix, and the text ids of their users, and
    /// nothing else in the store; returns how many bitmaps there were.
    ///
    /// # Errors
    /// When some may still be there.
    pub fn delete_all(&self) -> Result<u64> {
        let keys = self.store.keys("")?;
        let deleted = self.delete_keys(&keys);
        // What a power cut may bring back is deleted none the less.
        if let Err(error) = &deleted
            && !matches!(error, Error::Store(StoreError::Unsynced { .. }))
        {
            return deleted;
        }
        self.store.string_ids().forget()?;
        deleted
    }

    /// The bitmaps that have been kept long enough by then, in the order of their names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn over(&self, keeping: &ExpiryPolicy, now: DateTime<Utc>) -> Result<Vec<Key>> {
        let mut keys = self.store.keys("")?;
        keys.retain(|key| keeping.is_over(key, now));
        keys.sort_unstable();
        Ok(keys)
    }

    /// The same, for deleting them without anybody looking on: refused when even the newest bitmap
    /// is so old that it could go, because then the clock may well be wrong.
    ///
    /// # Errors
    /// [`Error::NewestIsOver`], or when the store cannot be read.
    pub fn due(&self, keeping: &ExpiryPolicy, now: DateTime<Utc>) -> Result<Vec<Key>> {
        let mut keys = self.store.keys("")?;
        let newest = keeping.newest_if_over(&keys, now);
        keys.retain(|key| keeping.is_over(key, now));
        keys.sort_unstable();
        match newest {
            Some(newest) if !keys.is_empty() => Err(Error::NewestIsOver { newest, now }),
            _ => Ok(keys),
        }
    }

    /// Deletes the bitmaps that are [`due`](Self::due); returns how many there were.
    ///
    /// # Errors
    /// As there, or when some may not have been deleted.
    pub fn expire(&self, keeping: &ExpiryPolicy, now: DateTime<Utc>) -> Result<u64> {
        let keys = self.due(keeping, now)?;
        if keys.is_empty() {
            Ok(0)
        } else {
            self.delete_keys(&keys)
        }
    }

    /// Deletes several bitmaps; returns how many there were.
    ///
    /// # Errors
    /// When some may not have been deleted.
    pub fn delete_keys(&self, keys: &[Key]) -> Result<u64> {
        let deleted = self.store.delete(keys);
        self.forget_list();
        Ok(deleted?)
    }

    fn forget_list(&self) {
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Saves the members of `set`, as they are now, as the undated bitmap of a new event: the
    /// segment `name@ever` from then on. Refused, by [`Saved::Taken`], when the event has any
    /// bitmap at all, dated or not; and, by
    /// [`Saved::Nobody`], when there is nobody to save.
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
    /// When it was not saved, as [`Store::save`] has it.
    pub fn save_ever(&self, set: &Set, name: &EventName) -> Result<Saved> {
        if self
            .store
            .keys(name.as_str())?
            .iter()
            .any(|key| key.event() == name)
        {
            return Ok(Saved::Taken);
        }
        let saved = self.store.save(set, &Key::ever(name.clone()));
        // Also after an error, which may hide that it was made.
        self.forget_list();
        Ok(saved?)
    }

    /// Deletes temporary keys left behind by interrupted requests; returns how many there were.
    ///
    /// # Errors
    /// When some may still be there.
    pub fn sweep(&self) -> Result<u64> {
        Ok(self.store.sweep()?)
    }

    /// What the store says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn describe(&self) -> Result<StoreInfo> {
        Ok(self.store.describe()?)
    }

    /// The bitmaps that a mark by this tracker sets.
    fn marked(&self, event: &EventName, at: DateTime<Utc>, extent: Extent) -> Result<Vec<Key>> {
        let mut keys: Vec<Key> = Key::of_mark(event, at, extent.hourly)?.collect();
        if extent.ever {
            keys.push(Key::ever(event.clone()));
        }
        Ok(keys)
    }
}

/// Marks that are written together: all of them, or none.
#[derive(Debug)]
#[must_use = "a batch does nothing until `commit`"]
pub struct Batch<'a> {
    tracker: &'a Tracker,
    marks: Vec<Mark>,
}

impl Batch<'_> {
    /// Adds a mark, with the tracker's defaults.
    ///
    /// # Errors
    /// When the moment is outside the supported years.
    pub fn mark(
        &mut self,
        event: &EventName,
        user: UserId,
        at: DateTime<Utc>,
    ) -> Result<&mut Self> {
        self.mark_to(event, user, at, self.tracker.extent)
    }

    /// Adds a mark that also sets the bitmaps `extent` asks for.
    ///
    /// # Errors
    /// When the moment is outside the supported years.
    pub fn mark_to(
        &mut self,
        event: &EventName,
        user: UserId,
        at: DateTime<Utc>,
        extent: Extent,
    ) -> Result<&mut Self> {
        self.put(event, user, at, extent, true)
    }

    /// Adds the taking back of a mark, with the tracker's defaults.
    ///
    /// # Errors
    /// When the moment is outside the supported years.
    pub fn unmark(
        &mut self,
        event: &EventName,
        user: UserId,
        at: DateTime<Utc>,
    ) -> Result<&mut Self> {
        self.unmark_to(event, user, at, self.tracker.extent)
    }

    /// Adds the taking back of a mark from the bitmaps `extent` asks for as well.
    ///
    /// # Errors
    /// When the moment is outside the supported years.
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

    /// Takes `user` out of the undated bitmap of `event`.
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

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Writes the batch and empties it. On an error nothing was written and the batch is kept, to
    /// try again; only with
    /// [`StoreError::Unsynced`] it was written, and is emptied.
    ///
    /// # Errors
    /// When nothing was written. With [`StoreError::Unsynced`] all of it was, and a power cut may
    /// lose it: an embedded store that syncs each batch could not force it to disk.
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

/// The members of a set, in ascending order. See [`Tracker::members`].
#[derive(Debug, Clone)]
pub struct Members {
    store: Arc<dyn Store>,
    set: Set,
    piece: std::vec::IntoIter<UserId>,
    after: Option<UserId>,
    done: bool,
}

impl Members {
    /// Begins behind `user`.
    pub fn after(mut self, user: UserId) -> Self {
        self.after = Some(user);
        self
    }
}

impl Iterator for Members {
    type Item = Result<UserId>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(user) = self.piece.next() {
            return Some(Ok(user));
        }
        if self.done {
            return None;
        }
        match self.store.members(&self.set, self.after, MEMBERS_AT_ONCE) {
            Ok(piece) => {
                self.done = piece.len() < MEMBERS_AT_ONCE;
                self.after = piece.last().copied();
                self.piece = piece.into_iter();
                self.piece.next().map(Ok)
            }
            Err(error) => {
                self.done = true;
                Some(Err(error.into()))
            }
        }
    }
}
