//! What the dated bitmaps of a store cover: since when each grain is recorded, and where the data ends.
//!
//! A period without a bitmap holds nobody. Whether that is a true zero or only a missing record depends on the rest of the
//! store: [`Coverage::state`] decides it, for every report, page, file and command.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::calendar::{CalendarError, Grain, Period};
use crate::sets::{Key, When};

/// Whether a figure is final, can still change, or is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its periods are over and recorded whole.
    Complete,
    /// Its periods have begun and are not over: shown, and left out of averages.
    InProgress,
    /// Its periods have not begun.
    Future,
    /// None of its periods that have begun is recorded: there is no number.
    NotRecorded,
    /// Some of its periods are not recorded: the number is a lower bound.
    PartlyRecorded,
}

impl State {
    /// The name used in files and by the API, such as `in_progress`.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Complete => "complete",
            State::InProgress => "in_progress",
            State::Future => "future",
            State::NotRecorded => "not_recorded",
            State::PartlyRecorded => "partly_recorded",
        }
    }
}

/// What the dated bitmaps of a store cover, as of one moment.
///
/// ```
/// use cohortist::calendar::{Grain, Period, parse_moment};
/// use cohortist::reports::coverage::{Coverage, State};
/// use cohortist::sets::{EventName, Key};
///
/// let event = EventName::new("active")?;
/// let keys: Vec<Key> = ["2026-11-20", "2026-11-26"]
///     .iter()
///     .flat_map(|day| Key::of_mark(&event, parse_moment(day).unwrap(), false).unwrap())
///     .collect();
/// let coverage = Coverage::of(&keys, parse_moment("2026-12-01T09:00:00Z")?, false)?;
/// let day = |day| Period::day(2026, 11, day).unwrap();
/// assert_eq!(coverage.ends(Grain::Day), Some(day(26)));
/// assert_eq!(coverage.state(day(19), day(19)), State::NotRecorded);
/// assert_eq!(coverage.state(day(21), day(21)), State::Complete); // nobody came: a true zero
/// assert_eq!(coverage.state(day(26), day(26)), State::InProgress);
/// assert_eq!(coverage.state(day(27), day(27)), State::NotRecorded);
/// assert_eq!(coverage.state(day(25), day(28)), State::PartlyRecorded);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    grains: BTreeMap<Grain, Recorded>,
    /// Whether the store still receives marks, as far as its days, weeks and months show, and as far as its hours do.
    live: bool,
    live_hours: bool,
}

/// What one grain covers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recorded {
    /// The period that holds *now*.
    current: Period,
    /// The first period with a bitmap of this grain, and the last one that is recorded: the running one in a live store.
    /// `None` when nothing is recorded.
    extent: Option<(Period, Period)>,
    /// Beginning and end of each coarser bitmap within which there is no bitmap of this grain: they were deleted, or were
    /// never written.
    deleted: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

/// The grains that bitmaps are kept in, the finest first.
const KEPT: [Grain; 4] = [Grain::Hour, Grain::Day, Grain::Week, Grain::Month];

impl Coverage {
    /// The coverage of these bitmaps, which are all bitmaps of the store. `now_given` says that somebody chose `now`, so that
    /// bitmaps of later days show that the store went on.
    ///
    /// # Errors
    /// When `now` is outside the supported years.
    pub fn of<'a>(
        keys: impl IntoIterator<Item = &'a Key>,
        now: DateTime<Utc>,
        now_given: bool,
    ) -> Result<Self, CalendarError> {
        let periods = keys.into_iter().filter_map(|key| match key.when() {
            When::In(period) => Some(period),
            When::Ever => None,
        });
        Self::of_periods(&periods.collect(), now, now_given)
    }

    /// The same, of the periods that have a bitmap of any event.
    ///
    /// # Errors
    /// When `now` is outside the supported years.
    pub fn of_periods(periods: &BTreeSet<Period>, now: DateTime<Utc>, now_given: bool) -> Result<Self, CalendarError> {
        let mut by_grain: BTreeMap<Grain, BTreeSet<Period>> = BTreeMap::new();
        for period in periods {
            by_grain.entry(period.grain()).or_default().insert(*period);
        }
        let today = Period::containing(Grain::Day, now)?;
        let yesterday = today.previous()?;
        // The end of the data: hours have their own, as most stores keep none.
        let end = |hourly: bool| {
            let considered = periods.iter().filter(|period| (period.grain() == Grain::Hour) == hourly);
            let (begun, later): (Vec<&Period>, Vec<&Period>) = considered.partition(|period| period.start() <= now);
            let newest = begun.into_iter().copied().max_by_key(|period| (period.start(), Reverse(period.end())))?;
            let is_live = newest.end() > yesterday.start() || (now_given && !later.is_empty());
            Some((newest, is_live))
        };
        let (hours, days) = (end(true), end(false).or_else(|| end(true)));
        let mut grains = BTreeMap::new();
        for grain in [Grain::Hour, Grain::Day, Grain::Week, Grain::Month, Grain::Year] {
            let current = Period::containing(grain, now)?;
            // Years are unions of months.
            let source = if grain == Grain::Year { Grain::Month } else { grain };
            let kept = by_grain.get(&source);
            let first = kept.and_then(|kept| kept.first()).map(|first| first.within(grain));
            let last = match if grain == Grain::Hour { hours } else { days } {
                None => None,
                Some((_, true)) => Some(current),
                // A month holds several days: the data may go on to its end.
                Some((newest, false)) => {
                    Some(Period::containing(grain, (newest.end() - TimeDelta::microseconds(1)).min(now))?)
                }
            };
            let deleted = match (grain, kept) {
                (Grain::Year, _) | (_, None) => Vec::new(),
                (_, Some(kept)) => deleted(grain, kept, &by_grain),
            };
            let extent = first.zip(last).filter(|(first, last)| first <= last);
            grains.insert(grain, Recorded { current, extent, deleted });
        }
        let is_live = |end: Option<(Period, bool)>| end.is_none_or(|(_, live)| live);
        Ok(Coverage { grains, live: is_live(days), live_hours: is_live(hours) })
    }

    fn grain(&self, grain: Grain) -> &Recorded {
        // `of_periods` inserts each of them.
        &self.grains[&grain]
    }

    /// The last recorded period of a grain when the data ends before *now*; `None` in a live store, and where nothing is
    /// recorded.
    pub fn ends(&self, grain: Grain) -> Option<Period> {
        let live = if grain == Grain::Hour { self.live_hours } else { self.live };
        self.last(grain).filter(|_| !live)
    }

    /// The last recorded period of a grain: the running one in a live store. `None` where nothing is recorded.
    pub fn last(&self, grain: Grain) -> Option<Period> {
        self.grain(grain).extent.map(|(_, last)| last)
    }

    /// The first recorded period of a grain.
    pub fn first(&self, grain: Grain) -> Option<Period> {
        self.grain(grain).extent.map(|(first, _)| first)
    }

    /// Whether a period is recorded. Periods that have not begun are not.
    pub fn is_recorded(&self, period: Period) -> bool {
        let Recorded { extent, deleted, .. } = self.grain(period.grain());
        extent.is_some_and(|(first, last)| first <= period && period <= last)
            && !deleted.iter().any(|(from, until)| *from < period.end() && period.start() < *until)
    }

    /// The state of a figure about all periods from `from` to `until`, both included and of one grain. The first that
    /// applies holds: future, not recorded, partly recorded, in progress, complete.
    pub fn state(&self, from: Period, until: Period) -> State {
        let Recorded { current, extent, deleted } = self.grain(from.grain());
        if from > *current {
            return State::Future;
        }
        let begun = until.min(*current);
        let Some((first, last)) = *extent else { return State::NotRecorded };
        let overlaps = |(a, b): &(DateTime<Utc>, DateTime<Utc>)| *a < begun.end() && from.start() < *b;
        let (mut any, mut all) = (from <= last && begun >= first, first <= from && begun <= last);
        if any && deleted.iter().any(overlaps) {
            let count = begun.since(from).and_then(|count| u32::try_from(count + 1).ok()).unwrap_or(u32::MAX);
            any = from.range(count).any(|period| self.is_recorded(period));
            all = from.range(count).all(|period| self.is_recorded(period));
        }
        match (any, all) {
            (false, _) => State::NotRecorded,
            (true, false) => State::PartlyRecorded,
            (true, true) if until >= last => State::InProgress,
            (true, true) => State::Complete,
        }
    }
}

/// The spans of coarser bitmaps that hold no bitmap of this grain, behind the first one there is.
fn deleted(
    grain: Grain,
    kept: &BTreeSet<Period>,
    by_grain: &BTreeMap<Grain, BTreeSet<Period>>,
) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let coarser = KEPT.iter().filter(|other| **other > grain).filter_map(|other| by_grain.get(other)).flatten();
    let Some(first) = kept.first() else { return Vec::new() };
    let mut spans: Vec<_> = coarser
        .filter(|period| first.end() <= period.start())
        .filter(|period| {
            // A week may begin before its month does: what counts is when a period begins.
            let inside = kept.range(period.within(grain)..).next();
            inside.is_none_or(|inside| inside.start() >= period.end())
        })
        .map(|period| (period.start(), period.end()))
        .collect();
    spans.sort_unstable();
    spans
}
