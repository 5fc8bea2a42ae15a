//! [`Tracker`] itself, its settings, and counts of sets.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::tracker::remembered::{Covered, KeptIn, Listing};

use crate::calendar::Zone;
use crate::clock::Clock;
use crate::sets::{Plan, Segments, Set, UserId};
use crate::store::{
    CacheOptions, CacheStats, CachedStore, Counted, Freshness, Health, Store, StoreError, StoreInfo,
};
use crate::tracker::error::Result;
use crate::tracker::extent::Extent;
use crate::tracker::ids::Ids;

/// Records events of users and answers questions about them, in one store.
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
    /// Where everything is read and written: the cache, if there is one.
    pub(super) store: Arc<dyn Store>,
    pub(super) cache: Option<Arc<CachedStore>>,
    pub(super) extent: Extent,
    pub(super) list: Arc<Mutex<Option<Listing>>>,
    pub(super) covered: Arc<Mutex<Vec<Covered>>>,
    pub(super) segments: Arc<Segments>,
    pub(super) ids: Option<Ids>,
    /// The zone in which the store shall be kept.
    pub(super) wanted_zone: Option<Zone>,
    /// Whether the store remembers it.
    pub(super) is_zone_settled: Arc<AtomicBool>,
    /// The zone in which it is.
    pub(super) zone: Arc<Mutex<KeptIn>>,
}

impl Tracker {
    /// Creates a tracker that marks days, weeks and months, and counts everything anew.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Tracker {
            store,
            cache: None,
            extent: Extent::default(),
            list: Arc::default(),
            covered: Arc::default(),
            segments: Arc::default(),
            ids: None,
            wanted_zone: None,
            is_zone_settled: Arc::default(),
            zone: Arc::default(),
        }
    }

    /// Adds a cache of counts, so that [`counted`](Self::counted) can answer without the store.
    /// `clock` tells which periods have ended.
    ///
    /// ```
    /// use cohortist::store::{self, CacheOptions, Freshness};
    /// use cohortist::{Tracker, clock::Clock, sets::{EventName, Plan, Set}};
    /// let store = store::open("memory:", &store::Options::default())?;
    /// let tracker = Tracker::new(store).with_cache(CacheOptions::default(), Clock::System);
    /// let (a, b) = (EventName::new("a")?, EventName::new("b")?);
    /// tracker.mark_ever(&a, 1)?;
    /// let mut plan = Plan::new();
    /// plan.count_set(&(Set::ever(&a) | Set::ever(&b)))?;
    /// for _ in 0..3 {
    ///     assert_eq!(tracker.counted(&plan, Freshness::Cached)?.counts.as_slice(), [1]);
    /// }
    /// let stats = tracker.cache_stats().unwrap();
    /// assert_eq!((stats.computed, stats.remembered), (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_cache(self, options: CacheOptions, clock: Clock) -> Self {
        let cache = Arc::new(CachedStore::new(self.store, options, clock));
        Tracker {
            store: Arc::clone(&cache) as Arc<dyn Store>,
            cache: Some(cache),
            ..self
        }
    }

    /// Sets the saved segments: names that [`retention`](Self::retention) replaces with their
    /// expressions.
    pub fn with_segments(mut self, segments: Segments) -> Self {
        self.segments = Arc::new(segments);
        self
    }

    /// The saved segments; none unless [`with_segments`](Self::with_segments) set them.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Sets which bitmaps [`mark`](Self::mark) and [`unmark`](Self::unmark) change.
    pub fn with_extent(mut self, extent: Extent) -> Self {
        self.extent = extent;
        self
    }

    /// The store itself, to copy it.
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// How many users are in the set.
    ///
    /// # Errors
    /// If the store could not count them.
    pub fn count(&self, set: &Set) -> Result<u64> {
        let mut plan = Plan::new();
        let count = plan.count_set(set).map_err(StoreError::from)?;
        Ok(self.counted(&plan, Freshness::Checked)?.counts[count])
    }

    /// The counts of many sets, answered together. They are current, also with a cache.
    ///
    /// # Errors
    /// If the sets are [too large](StoreError::TooLarge) together, or the store could not count
    /// them.
    pub fn counts<'a>(&self, sets: impl IntoIterator<Item = &'a Set>) -> Result<Vec<u64>> {
        let mut plan = Plan::new();
        for set in sets {
            plan.count_set(set).map_err(StoreError::from)?;
        }
        Ok(self.counted(&plan, Freshness::Checked)?.counts.into())
    }

    /// The counts of a plan, and how old they are. Without a cache they are always counted now.
    ///
    /// # Errors
    /// If any of them could not be counted.
    pub fn counted(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        Ok(match &self.cache {
            Some(cache) => cache.counted(plan, freshness)?,
            None => Counted {
                counts: self.store.counts(plan)?,
                age: Duration::ZERO,
            },
        })
    }

    /// How often the cache had an answer; `None` without a cache.
    pub fn cache_stats(&self) -> Option<CacheStats> {
        self.cache.as_ref().map(|cache| cache.stats())
    }

    /// Whether the set is empty.
    ///
    /// # Errors
    /// If the store could not count it.
    pub fn is_empty(&self, set: &Set) -> Result<bool> {
        Ok(self.count(set)? == 0)
    }

    /// Whether both sets hold the same users.
    ///
    /// # Errors
    /// If the store could not compare them.
    pub fn same(&self, a: &Set, b: &Set) -> Result<bool> {
        self.is_empty(&(a.clone() ^ b.clone()))
    }

    /// Whether `user` is in the set.
    ///
    /// # Errors
    /// If the store could not be read.
    pub fn contains(&self, set: &Set, user: UserId) -> Result<bool> {
        if let Set::Key(key) = set {
            let found = self.store.contains(std::slice::from_ref(key), user)?;
            return Ok(found == [true]);
        }
        let found = self.store.members(set, user.checked_sub(1), 1)?;
        Ok(found.first() == Some(&user))
    }

    /// The store's description of itself, and a test that it answers.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn describe(&self) -> Result<StoreInfo> {
        Ok(self.store.describe()?)
    }

    /// Whether the store can be written, and the state of its files. Does not wait for the store.
    pub fn health(&self) -> Health {
        self.store.health()
    }

    /// Whether this process holds the bitmaps itself; `false` for Redis.
    pub fn is_local(&self) -> bool {
        self.store.is_local()
    }
}
