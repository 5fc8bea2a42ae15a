//! Which bitmaps exist.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};

use crate::calendar::{Grain, Period};
use crate::sets::{Catalogue, EventName, Key, Prefix, Set};
use crate::store::{OtherPrefixes, StoreError, UnparsedKeys};
use crate::tracker::base::Tracker;
use crate::tracker::error::{Error, Result};
use crate::tracker::remembered::Listing;

/// How long a list of the keys is used before it is read again.
const LIST_FRESH_FOR: Duration = Duration::from_secs(5);

/// How long an event that is not in the list is assumed not to exist.
const UNKNOWN_FRESH_FOR: Duration = Duration::from_secs(1);

impl Tracker {
    /// The names of all events that begin with `starting_with`, sorted. The store is read at most
    /// every few seconds, so a new event may take that long to appear.
    ///
    /// # Errors
    /// If the list would be incomplete.
    pub fn events(&self, starting_with: &str) -> Result<Vec<EventName>> {
        let list = self.listing(LIST_FRESH_FOR)?;
        let names = list.events().map(|known| &known.event);
        Ok(names
            .filter(|name| name.as_str().starts_with(starting_with))
            .cloned()
            .collect())
    }

    /// Those of the names that have no bitmap at all, each once, in order. An event that is not in
    /// the cached list is looked for in a list that is at most a second old.
    ///
    /// # Errors
    /// If the store could not be read.
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
                let is_known = |name: &EventName| list.event(name).is_some();
                unknown.retain(|name| {
                    !is_known(name) && !name.composed().is_some_and(|name| is_known(&name))
                });
            }
        }
        Ok(unknown)
    }

    /// Whether an event has only an undated bitmap.
    ///
    /// # Errors
    /// If the store could not be read.
    pub fn is_undated(&self, event: &EventName) -> Result<bool> {
        Ok(self
            .listing(LIST_FRESH_FOR)?
            .event(event)
            .is_some_and(|known| known.last.is_none()))
    }

    /// The last date of an event's bitmaps; `None` if it has no dated bitmap.
    ///
    /// # Errors
    /// If the store could not be read.
    pub fn last_recorded(&self, event: &EventName) -> Result<Option<NaiveDate>> {
        Ok(self
            .listing(LIST_FRESH_FOR)?
            .event(event)
            .and_then(|known| known.last))
    }

    /// All bitmaps, by event. The store is read at most every few seconds, unless it can tell at no
    /// cost that its keys have not changed: then the list is current. A new bitmap may take that
    /// long to appear, except in an empty store, where the first ones appear at once.
    ///
    /// # Errors
    /// If the list would be incomplete.
    pub fn catalogue(&self) -> Result<Arc<Catalogue>> {
        self.listing(LIST_FRESH_FOR)
    }

    /// The bitmaps of one event. An event that is not in the [`catalogue`](Self::catalogue) is
    /// looked for in a list that is at most a second old.
    ///
    /// # Errors
    /// If the list would be incomplete.
    pub fn keys_of(&self, event: &EventName) -> Result<Vec<Key>> {
        let known = self.listing(LIST_FRESH_FOR)?.of(event).to_vec();
        if known.is_empty() {
            Ok(self.listing(UNKNOWN_FRESH_FOR)?.of(event).to_vec())
        } else {
            Ok(known)
        }
    }

    /// Reads the keys of all events whose name begins with `starting_with`, in no particular order.
    /// Unlike [`catalogue`](Self::catalogue) this always reads the store.
    ///
    /// # Errors
    /// If the list would be incomplete.
    pub fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        let zone = self.kept_in()?;
        let keys = self.store.keys(starting_with)?.into_iter();
        Ok(keys.map(|key| key.kept_in(zone)).collect())
    }

    /// The keys under the prefix that are not bitmaps of an event, as found by the last listing of
    /// all keys.
    pub fn unparsed_keys(&self) -> UnparsedKeys {
        self.store.unparsed_keys()
    }

    /// Other prefixes under which the store holds events, if `own`, the store's prefix, is wrong:
    /// if there are no events under it, or all of them read as events of one longer prefix
    /// (`trackist` where keys begin with `trackist_`). None otherwise.
    ///
    /// # Errors
    /// If the keys could not be read.
    pub fn other_prefixes(&self, own: &Prefix) -> Result<OtherPrefixes> {
        let all = self.catalogue()?;
        if all.is_empty() {
            return Ok(self.store.other_prefixes()?);
        }
        Ok(OtherPrefixes::longer(own, &all))
    }

    /// The grains of those periods that hold `now` and in which a set of these periods may include
    /// marks made after `now`. Bitmaps are listed only if one of the periods holds it.
    ///
    /// # Errors
    /// If the list would be incomplete.
    pub fn later_in(
        &self,
        set: &Set,
        periods: &[Period],
        now: DateTime<Utc>,
    ) -> Result<Vec<Grain>> {
        let is_running = |period: &Period| period.start() <= now && now < period.end();
        if !periods.iter().any(is_running) {
            return Ok(Vec::new());
        }
        let keys = set.keys();
        let events = keys.iter().map(|key| key.event());
        Ok(self.catalogue()?.later_in(events, periods, now))
    }

    /// Asks something of bitmaps that were listed. If one of them turns out to be
    /// [no bitmap](StoreError::NotABitmap), it asks once more: the list is then read again and
    /// leaves out such keys.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn of_listed<T>(&self, ask: impl Fn() -> Result<T>) -> Result<T> {
        match ask() {
            Err(Error::Store(StoreError::NotABitmap { .. })) => {
                self.forget_list();
                ask()
            }
            result => result,
        }
    }

    /// Makes sure that every listed key is a bitmap: others are left out from then on, and are
    /// among the [`unparsed_keys`](Self::unparsed_keys). Each key is looked at.
    ///
    /// # Errors
    /// If the keys could not be listed or looked at.
    pub fn check_types(&self) -> Result<()> {
        // A store of our own holds nothing else.
        if self.is_local() {
            return Ok(());
        }
        self.of_listed(|| Ok(self.store.sizes(self.catalogue()?.keys()).map(drop)?))
    }

    /// Estimates for each key how many bytes its bitmap takes in the store; `None` if unknown.
    ///
    /// # Errors
    /// If the bitmaps could not be read.
    pub fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        Ok(self.store.sizes(keys)?)
    }

    /// All keys, read at most `fresh_for` ago. Concurrent callers share one read of the store and
    /// its result, also if that is an error: a store that hangs delays all of them once instead of
    /// one after the other.
    fn listing(&self, fresh_for: Duration) -> Result<Arc<Catalogue>> {
        let zone = self.kept_in()?;
        let asked = Instant::now();
        let mut last = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the keys: a key that is created meanwhile changes the version.
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
            .map(|keys| keys.into_iter().map(|key| key.kept_in(zone)).collect())
            .map(|keys| Arc::new(Catalogue::new(keys)));
        // An unchanged list stays the same `Arc`, by which others know that nothing changed.
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

    /// Makes the next question about keys read the store.
    pub(super) fn forget_list(&self) {
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
