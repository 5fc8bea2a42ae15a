//! Which periods of an event are recorded, and which of them are compared.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use crate::calendar::{Grain, Period, WeekStart, Zone};
use crate::reports::coverage::Coverage;
use crate::sets::{Key, When};
use crate::stats::rate;

/// The first and the last recorded period, from the existing bitmaps: days if there are daily
/// bitmaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first period: a week or month if the bitmaps of its days were deleted.
    pub first: Period,
    /// The last period that has begun.
    pub last: Period,
}

impl Span {
    /// Returns the span of these keys as of `now`. `None` if none of them is dated and has begun.
    ///
    /// ```
    /// use cohortist::{calendar::parse_moment, reports::spans::Span, sets::{EventName, Key}};
    /// let event = EventName::new("active")?;
    /// let keys: Vec<Key> = ["2026-11-09", "2026-11-20"]
    ///     .iter()
    ///     .flat_map(|day| Key::of_mark(&event, parse_moment(day).unwrap(), true).unwrap())
    ///     .collect();
    /// let span = Span::of(&keys, parse_moment("2026-11-23")?).unwrap();
    /// assert_eq!((span.first.to_string(), span.last.to_string()), ("2026-11-09".into(), "2026-11-20".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a Key>, now: DateTime<Utc>) -> Option<Span> {
        Self::of_in(Zone::UTC, keys, now)
    }

    /// Returns the same in a zone. In others than UTC its periods are days, and only hours show
    /// which.
    pub fn of_in<'a>(
        zone: Zone,
        keys: impl IntoIterator<Item = &'a Key>,
        now: DateTime<Utc>,
    ) -> Option<Span> {
        let mut span: Option<Span> = None;
        for key in keys {
            let When::In(period) = key.when() else {
                continue;
            };
            let period = match period.grain() {
                // Where the zone cannot be used, no period is asked about.
                Grain::Hour if zone.is_kept() => period.within(Grain::Day),
                Grain::Hour => match zone.period(Grain::Day, period.start()) {
                    Ok(day) => day,
                    Err(_) => continue,
                },
                _ if !zone.has_bitmaps() => continue,
                _ => period,
            };
            if period.start() > now {
                continue;
            }
            // The month of a day ends after it and begins before it, so a day is more precise at
            // both ends.
            let early = |p: Period| (p.end(), Reverse(p.start()));
            let late = |p: Period| (p.start(), Reverse(p.end()));
            let span = span.get_or_insert(Span {
                first: period,
                last: period,
            });
            if early(period) < early(span.first) {
                span.first = period;
            }
            if late(period) > late(span.last) {
                span.last = period;
            }
        }
        span
    }

    /// Returns the same of all keys of one event, sorted: of each grain only the first and the last that
    /// has begun are looked at.
    ///
    /// ```
    /// use cohortist::calendar::{Zone, parse_moment};
    /// use cohortist::{reports::spans::Span, sets::{EventName, Key}};
    /// let event = EventName::new("active")?;
    /// let days = ["2026-11-09", "2026-11-15", "2026-11-20", "2026-11-24"];
    /// let mut keys: Vec<Key> = days
    ///     .iter()
    ///     .flat_map(|day| Key::of_mark(&event, parse_moment(day).unwrap(), true).unwrap())
    ///     .collect();
    /// keys.sort();
    /// let now = parse_moment("2026-11-23")?;
    /// assert_eq!(Span::of_sorted(Zone::UTC, &keys, now), Span::of_in(Zone::UTC, &keys, now));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of_sorted(zone: Zone, keys: &[Key], now: DateTime<Utc>) -> Option<Span> {
        let grain = |key: &Key| match key.when() {
            When::In(period) => Some(period.grain()),
            When::Ever => None,
        };
        let has_begun = |key: &Key| match key.when() {
            When::In(period) => period.start() <= now,
            When::Ever => true,
        };
        let mut ends = Vec::new();
        let mut rest = keys;
        while let Some(first) = rest.first() {
            let same =
                rest.partition_point(|key| grain(key) <= grain(first) && grain(key).is_some());
            let (same, others) = rest.split_at(same.max(1));
            let begun = same.partition_point(has_begun);
            ends.extend(same.first());
            ends.extend(begun.checked_sub(1).map(|last| &same[last]));
            rest = others;
        }
        Self::of_in(zone, ends, now)
    }

    /// Whether the period is recorded from its beginning, so that it can be compared with others.
    pub fn covers(&self, period: Period) -> bool {
        self.first.start() <= period.start()
    }
}

/// Returns how many periods before a period the one to compare it with is. For a day it is the same
/// weekday of the week before, because weekdays differ more than most changes; for all others it is
/// the previous period.
pub const fn compared(grain: Grain) -> u32 {
    if matches!(grain, Grain::Day) { 7 } else { 1 }
}

/// Returns the change from `before` to `after` as a share of `before`: 0.1 is 10 % more. `None` if
/// `before` is 0.
pub(super) fn change(before: u64, after: u64) -> Option<f64> {
    rate(after, before).map(|ratio| ratio - 1.0)
}

/// The last recorded period of each grain: in a live store the one that contains *now*, otherwise
/// the one in which the data ends. Its numbers can still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// A day.
    pub day: Period,
    /// A week.
    pub week: Period,
    /// A month.
    pub month: Period,
}

impl Running {
    /// Returns the current periods of a store. A grain that is not recorded has the period that
    /// contains *now*.
    pub fn of(coverage: &Coverage) -> Self {
        Self::by(coverage, WeekStart::Monday)
    }

    /// Returns the same with weeks that begin on this day.
    pub fn by(coverage: &Coverage, week: WeekStart) -> Self {
        let running = |grain| {
            coverage
                .last(grain)
                .unwrap_or_else(|| coverage.current(grain))
        };
        Running {
            day: running(Grain::Day),
            week: running(week.weeks()),
            month: running(Grain::Month),
        }
    }
}
