//! Expiry policies: how long bitmaps are kept, and which have expired. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};

use crate::calendar::{Grain, Period};
use crate::sets::{Key, When};

/// How many days after a long gap must have marks before the clock is trusted.
const TRUSTED_AFTER_DAYS: usize = 5;

/// For each grain, how long bitmaps are kept after the end of their period; `None` keeps them
/// forever. Undated bitmaps do not expire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpiryPolicy {
    /// Hourly bitmaps.
    pub hours: Option<TimeDelta>,
    /// Daily bitmaps.
    pub days: Option<TimeDelta>,
    /// Weekly bitmaps.
    pub weeks: Option<TimeDelta>,
    /// Monthly bitmaps, which also serve years.
    pub months: Option<TimeDelta>,
}

impl ExpiryPolicy {
    /// Whether nothing expires.
    pub fn is_for_good(&self) -> bool {
        *self == ExpiryPolicy::default()
    }

    /// Returns the period of the newest bitmap that is not in the future, if even that one would
    /// expire: nothing was marked for that long, or the clock is wrong. Then nothing should be
    /// deleted without confirmation.
    pub fn newest_if_over(&self, keys: &[Key], now: DateTime<Utc>) -> Option<Period> {
        let periods = keys.iter().filter_map(|key| {
            if let When::In(period) = key.when() {
                Some(period)
            } else {
                None
            }
        });
        // The day of the last mark, because its month ends later.
        let newest = periods
            .filter(|period| period.start() <= now)
            .max_by_key(|period| (period.start(), period.grain()))?;
        let since = now.signed_duration_since(newest.end());
        let limits = [self.hours, self.days, self.weeks, self.months];
        limits
            .into_iter()
            .flatten()
            .any(|kept| since >= kept)
            .then_some(newest)
    }

    /// Returns the period before a gap and the one after it, if one limit would delete everything
    /// before the gap, the gap is at least as long as that limit, and only a few days have marks
    /// after it. A wrong clock may have made these few marks, so nothing may be deleted without
    /// confirmation.
    ///
    /// ```
    /// use chrono::TimeDelta;
    /// use cohortist::{calendar::{Period, parse_moment}, reports::expiry::ExpiryPolicy, sets::Key};
    ///
    /// let keeping = ExpiryPolicy { days: Some(TimeDelta::days(400)), ..ExpiryPolicy::default() };
    /// let days = [Period::day(2026, 12, 1).unwrap(), Period::day(2031, 1, 1).unwrap()];
    /// let keys = days.map(|day| Key::new("active".parse().unwrap(), day).unwrap());
    /// let gap = keeping.gap_before_newest(&keys, parse_moment("2031-01-01T09:00:00Z")?);
    /// assert_eq!(gap, Some((days[0], days[1])));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn gap_before_newest(&self, keys: &[Key], now: DateTime<Utc>) -> Option<(Period, Period)> {
        let periods = keys.iter().filter_map(|key| match key.when() {
            When::In(period) if period.start() <= now => Some(period),
            _ => None,
        });
        let periods: BTreeSet<Period> = periods.collect();
        let grains = [Grain::Hour, Grain::Day, Grain::WEEK, Grain::Month];
        grains.into_iter().find_map(|grain| {
            let kept = self.of(grain)?;
            let is_over = |period: &&Period| {
                period.grain() == grain && now.signed_duration_since(period.end()) >= kept
            };
            let last = *periods
                .iter()
                .filter(is_over)
                .max_by_key(|period| period.end())?;
            // Hours and days show on how many days something was marked.
            let is_later = |period: &&Period| {
                let tells = period.grain() <= Grain::Day || period.grain() == grain;
                tells && period.start() >= last.end()
            };
            let later: Vec<Period> = periods.iter().filter(is_later).copied().collect();
            let dates = later.iter().map(|later| later.local_start().date());
            let days = dates.collect::<BTreeSet<_>>().len();
            let next = later
                .into_iter()
                .min_by_key(|later| (later.start(), later.end()))?;
            let gap = next.start().signed_duration_since(last.end());
            (gap >= kept && days < TRUSTED_AFTER_DAYS).then_some((last, next))
        })
    }

    /// Returns how long bitmaps of a grain are kept; `None` keeps them forever.
    fn of(&self, grain: Grain) -> Option<TimeDelta> {
        match grain {
            Grain::Hour => self.hours,
            Grain::Day => self.days,
            Grain::Week(_) => self.weeks,
            Grain::Month => self.months,
            Grain::Year => None,
        }
    }

    /// Whether a bitmap has expired.
    ///
    /// ```
    /// use chrono::TimeDelta;
    /// use cohortist::{calendar::{Period, parse_moment}, reports::expiry::ExpiryPolicy, sets::Key};
    ///
    /// let keeping = ExpiryPolicy { days: Some(TimeDelta::days(400)), ..ExpiryPolicy::default() };
    /// let key = |day| Key::new("active".parse().unwrap(), Period::day(2025, 10, day).unwrap()).unwrap();
    /// let now = parse_moment("2026-11-23T09:00:00Z")?;
    /// // The 18th ended with the beginning of the 19th, 400 days and nine hours ago.
    /// assert_eq!((keeping.is_over(&key(18), now), keeping.is_over(&key(19), now)), (true, false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_over(&self, key: &Key, now: DateTime<Utc>) -> bool {
        let When::In(period) = key.when() else {
            return false;
        };
        self.of(period.grain())
            .is_some_and(|kept| now.signed_duration_since(period.end()) >= kept)
    }
}

/// The expired bitmaps of one grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// The grain.
    pub grain: Grain,
    /// How many there are.
    pub count: u64,
    /// Their approximate size in bytes. `None` if one of them has an unknown size.
    pub bytes: Option<u64>,
    /// The earliest of their periods.
    pub first: Period,
    /// The latest.
    pub last: Period,
}

/// Adds up dated bitmaps and their sizes by grain, shortest periods first.
pub fn sum<'a>(keys: impl IntoIterator<Item = (&'a Key, Option<u64>)>) -> Vec<Over> {
    let mut kinds: BTreeMap<Grain, Over> = BTreeMap::new();
    for (key, bytes) in keys {
        let When::In(period) = key.when() else {
            continue;
        };
        let grain = period.grain();
        let none = Over {
            grain,
            count: 0,
            bytes: Some(0),
            first: period,
            last: period,
        };
        let over = kinds.entry(grain).or_insert(none);
        over.count += 1;
        over.bytes = over
            .bytes
            .zip(bytes)
            .map(|(sum, bytes)| sum.saturating_add(bytes));
        over.first = over.first.min(period);
        over.last = over.last.max(period);
    }
    kinds.into_values().collect()
}

/// Returns the next moment after `now` at which it is `at` o'clock in UTC, at most a day later.
///
/// ```
/// use chrono::NaiveTime;
/// use cohortist::{calendar::parse_moment, reports::expiry::next_night};
///
/// let at = NaiveTime::from_hms_opt(3, 0, 0).unwrap();
/// assert_eq!(next_night(at, parse_moment("2026-12-31T02:59:59Z")?), parse_moment("2026-12-31T03:00:00Z")?);
/// // At three sharp the turn is being taken: the next one is tomorrow's.
/// assert_eq!(next_night(at, parse_moment("2026-12-31T03:00:00Z")?), parse_moment("2027-01-01T03:00:00Z")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn next_night(at: NaiveTime, now: DateTime<Utc>) -> DateTime<Utc> {
    let today = now.date_naive().and_time(at).and_utc();
    // The last supported day has no next day.
    if today > now {
        today
    } else {
        today.checked_add_days(Days::new(1)).unwrap_or(today)
    }
}
