//! What the dated bitmaps of a store cover: since when each grain is recorded, and where the data
//! ends.
//!
//! A period without a bitmap has no users. Whether that is a true zero or a missing record depends
//! on the rest of the store. [`Coverage::state`] decides it for every report, page, file and
//! command.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::calendar::{CalendarError, Grain, Period, WeekStart, Zone};
use crate::sets::{Catalogue, EventName, Key, When};

/// Whether a number is final, can still change, or is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its periods are over and fully recorded.
    Complete,
    /// Its periods have begun and are not over. Such numbers are shown, and left out of averages.
    InProgress,
    /// Its periods have not begun.
    Future,
    /// None of its periods that have begun is recorded, so there is no number.
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

/// What the dated bitmaps of a store cover, as of one moment. Clones are cheap.
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
    now: DateTime<Utc>,
    /// Whether `now` was chosen instead of read from the clock.
    now_given: bool,
    /// The zone of its periods.
    zone: Zone,
    known: Arc<Known>,
}

/// Everything except the exact moment, which may move within its hour.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    grains: BTreeMap<Grain, Recorded>,
    /// The end of the data, from days, weeks and months, and from hours.
    days: End,
    hours: End,
}

/// Where the data ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    /// The finest period with the newest mark that is not later than *now*. `None` if nothing is
    /// recorded.
    newest: Option<Period>,
    /// Whether the store still receives marks.
    is_live: bool,
}

/// What one grain covers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recorded {
    /// The period that contains *now*.
    current: Period,
    /// The first period with a bitmap of this grain and the last recorded one, which is the current
    /// one in a live store. `None` if nothing is recorded.
    extent: Option<(Period, Period)>,
    /// Whether records begin within the first period: a week that does not begin on Monday is a
    /// union of days, and its first days are not recorded.
    begins_within: bool,
    /// Stretches of time that only coarser bitmaps cover: the bitmaps of this grain were deleted or
    /// never written. In order, neither overlapping nor adjacent.
    gaps: Vec<Gap>,
}

/// A stretch of time, its end excluded.
type Gap = (DateTime<Utc>, DateTime<Utc>);

/// The grains of stored bitmaps, finest first.
const KEPT: [Grain; 4] = [Grain::Hour, Grain::Day, Grain::WEEK, Grain::Month];

/// Every grain, finest first.
const GRAINS: [Grain; 7] = [
    Grain::Hour,
    Grain::Day,
    Grain::WEEK,
    Grain::Week(WeekStart::Saturday),
    Grain::Week(WeekStart::Sunday),
    Grain::Month,
    Grain::Year,
];

impl Coverage {
    /// Returns the coverage of a store that has recorded everything up to `now` and is live.
    ///
    /// # Errors
    /// When `now` is outside the supported years.
    pub fn whole(now: DateTime<Utc>) -> Result<Self, CalendarError> {
        Self::whole_in(Zone::UTC, now)
    }

    /// Returns the same for periods in a zone.
    ///
    /// # Errors
    /// When `now` is outside the supported years, or the zone cannot be used in its year.
    pub fn whole_in(zone: Zone, now: DateTime<Utc>) -> Result<Self, CalendarError> {
        let mut grains = BTreeMap::new();
        for grain in GRAINS {
            let current = zone.period(grain, now)?;
            let first = zone.earliest(grain, now)?;
            grains.insert(
                grain,
                Recorded {
                    current,
                    extent: Some((first, current)),
                    begins_within: false,
                    gaps: Vec::new(),
                },
            );
        }
        let end = |grain| {
            Ok(End {
                newest: Some(zone.period(grain, now)?),
                is_live: true,
            })
        };
        Ok(Coverage {
            now,
            now_given: false,
            zone,
            known: Arc::new(Known {
                grains,
                days: end(Grain::Day)?,
                hours: end(Grain::Hour)?,
            }),
        })
    }

    /// The coverage of these bitmaps, which are all bitmaps of the store and none of which is
    /// empty. `now_given` says that `now` was chosen, so that bitmaps of later periods show that
    /// the store went on.
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
        Self::of_periods(Zone::UTC, &periods.collect(), now, now_given, |_| {
            Ok::<_, Infallible>(true)
        })
        .map_err(|error| match error {
            Failed::Calendar(error) => error,
            Failed::Other(never) => match never {},
        })
    }

    /// Returns what the periods that have a bitmap of any event cover, in periods of a zone. `holds`
    /// returns whether any bitmap of the period has users: an empty bitmap is no mark. It is called
    /// for few periods, at both ends of the data.
    ///
    /// In another zone than that of the bitmaps only hours count: they show in which of its days,
    /// weeks and months something is recorded.
    ///
    /// # Errors
    /// When `now` is outside the supported years, or the zone cannot be used in its year; the first
    /// error of `holds`.
    pub fn of_periods<E>(
        zone: Zone,
        periods: &BTreeSet<Period>,
        now: DateTime<Utc>,
        now_given: bool,
        mut holds: impl FnMut(Period) -> Result<bool, E>,
    ) -> Result<Self, Failed<E>> {
        let mut by_grain: BTreeMap<Grain, BTreeSet<Period>> = BTreeMap::new();
        for period in periods {
            by_grain.entry(period.grain()).or_default().insert(*period);
        }
        let mut holds = |period: Period| holds(period).map_err(Failed::Other);
        let at = (zone, now, now_given);
        let hours = End::of(&KEPT[..1], &by_grain, at, &mut holds)?;
        let days = match hours {
            hours if !zone.has_bitmaps() => hours.by_day(zone)?,
            hours => match End::of(&KEPT[1..], &by_grain, at, &mut holds)? {
                End { newest: None, .. } => hours,
                days => days,
            },
        };
        let hours = hours.by_hour(zone)?;
        let mut begins: BTreeMap<Grain, Option<Period>> = BTreeMap::new();
        let mut grains = BTreeMap::new();
        for grain in GRAINS {
            let current = zone.period(grain, now)?;
            let unit = current.unit();
            let kept = by_grain.get(&unit);
            // The first unit in which there is anybody.
            let first_unit = match begins.get(&unit) {
                Some(known) => *known,
                None => {
                    let mut first = None;
                    for period in kept.into_iter().flatten() {
                        if holds(*period)? {
                            first = Some(*period);
                            break;
                        }
                    }
                    begins.insert(unit, first);
                    first
                }
            };
            let first = first_unit.and_then(|first| zone.period(grain, first.start()).ok());
            let last = match if grain == Grain::Hour { hours } else { days } {
                End { newest: None, .. } => None,
                End { is_live: true, .. } => Some(current),
                // The days of a month are unknown: the data may extend to its end.
                End {
                    newest: Some(newest),
                    ..
                } => {
                    Some(zone.period(grain, (newest.end() - TimeDelta::microseconds(1)).min(now))?)
                }
            };
            let gaps = match (grain, kept) {
                (Grain::Year, _) if zone.has_bitmaps() => Vec::new(),
                (_, None) => Vec::new(),
                (_, Some(kept)) => gaps(unit, kept, &by_grain),
            };
            let is_weeks_of_days = grain.week_start() != WeekStart::Monday;
            let first_day = first_unit
                .and_then(|first| zone.period(Grain::Day, first.start()).ok())
                .filter(|_| is_weeks_of_days);
            let begins_within = first
                .zip(first_day)
                .is_some_and(|(first, day)| first.local_start() < day.local_start());
            let extent = first.zip(last).filter(|(first, last)| first <= last);
            grains.insert(
                grain,
                Recorded {
                    current,
                    extent,
                    begins_within,
                    gaps,
                },
            );
        }
        Ok(Coverage {
            now,
            now_given,
            zone,
            known: Arc::new(Known {
                grains,
                days,
                hours,
            }),
        })
    }

    /// Returns the coverage of a question about these events. In another zone than UTC, nothing is
    /// recorded where one of them has bitmaps of days, weeks or months, and none of their hours.
    #[must_use]
    pub fn of_events<'a>(
        &self,
        names: impl IntoIterator<Item = &'a EventName>,
        all: &Catalogue,
    ) -> Self {
        if self.zone.has_bitmaps() {
            return self.clone();
        }
        let gaps = names
            .into_iter()
            .flat_map(|name| without_hours(all.of(name)));
        let missing = merged(gaps.collect());
        if missing.is_empty() {
            return self.clone();
        }
        let mut known = Known::clone(&self.known);
        for recorded in known.grains.values_mut() {
            recorded.gaps.extend(&missing);
            recorded.gaps = merged(std::mem::take(&mut recorded.gaps));
        }
        Coverage {
            known: Arc::new(known),
            ..self.clone()
        }
    }

    /// Returns the same coverage at another moment of the same hour.
    pub(crate) fn moved_to(&self, now: DateTime<Utc>) -> Self {
        Coverage {
            now,
            known: Arc::clone(&self.known),
            ..self.clone()
        }
    }

    /// Whether both give the same state for every period.
    pub fn is_like(&self, other: &Coverage) -> bool {
        Arc::ptr_eq(&self.known, &other.known) || self.known == other.known
    }

    /// Returns the moment of this coverage.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Whether that moment was chosen. Then bitmaps may include later marks.
    pub fn now_is_given(&self) -> bool {
        self.now_given
    }

    /// Returns the zone of its periods.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// Returns the period that contains *now*.
    pub fn current(&self, grain: Grain) -> Period {
        self.grain(grain).current
    }

    fn grain(&self, grain: Grain) -> &Recorded {
        // Each constructor inserts all of them.
        &self.known.grains[&grain]
    }

    fn end(&self, grain: Grain) -> End {
        if grain == Grain::Hour {
            self.known.hours
        } else {
            self.known.days
        }
    }

    /// Whether the store still receives marks, according to this grain. An empty store is live.
    pub fn is_live(&self, grain: Grain) -> bool {
        self.end(grain).is_live
    }

    /// Returns when the data ends, if before *now*: the period of the newest mark, a day if there
    /// are daily bitmaps. `None` in a live store.
    pub fn data_ends(&self, grain: Grain) -> Option<Period> {
        let End { newest, is_live } = self.end(grain);
        newest.filter(|_| !is_live)
    }

    /// Returns the last recorded period of a grain if the data ends before *now*. `None` in a live
    /// store, and if nothing is recorded.
    pub fn ends(&self, grain: Grain) -> Option<Period> {
        self.last(grain).filter(|_| !self.is_live(grain))
    }

    /// Returns the last recorded period of a grain, which is the current one in a live store.
    /// `None` if nothing is recorded.
    pub fn last(&self, grain: Grain) -> Option<Period> {
        self.grain(grain).extent.map(|(_, last)| last)
    }

    /// Returns the first recorded period of a grain.
    pub fn first(&self, grain: Grain) -> Option<Period> {
        self.grain(grain).extent.map(|(first, _)| first)
    }

    /// Whether a period is recorded. Periods that have not begun are not.
    pub fn is_recorded(&self, period: Period) -> bool {
        !matches!(
            self.state(period, period),
            State::Future | State::NotRecorded
        )
    }

    /// Returns the state of a number about one period.
    pub fn state_of(&self, period: Period) -> State {
        self.state(period, period)
    }

    /// Returns the state of a number about all periods from `from` to `until`, both included, of
    /// one grain and of the zone of this coverage. The first that applies: future, not recorded,
    /// partly recorded, in progress, complete.
    pub fn state(&self, from: Period, until: Period) -> State {
        let Recorded {
            current,
            extent,
            begins_within,
            gaps,
        } = self.grain(from.grain());
        if from > *current {
            return State::Future;
        }
        let Some((first, last)) = *extent else {
            return State::NotRecorded;
        };
        let begun = until.min(*current);
        let inner = from.max(first);
        let outer = begun.min(last);
        if inner > outer {
            return State::NotRecorded;
        }
        // The first gap that does not end before these periods.
        let gap = if gaps.is_empty() {
            None
        } else {
            let (start, end) = (inner.start(), outer.end());
            let next = gaps.get(gaps.partition_point(|gap| gap.1 <= start));
            let gap = next.filter(|gap| gap.0 < end);
            if gap.is_some_and(|gap| gap.0 <= start && end <= gap.1) {
                return State::NotRecorded;
            }
            gap
        };
        if (inner, outer) != (from, begun) || gap.is_some() || (*begins_within && inner == first) {
            State::PartlyRecorded
        } else if until >= last {
            State::InProgress
        } else {
            State::Complete
        }
    }

    /// Whether nothing of a period is missing but what lies before the first records.
    pub(in crate::reports) fn is_whole_since_its_records_begin(&self, period: Period) -> bool {
        let Recorded { extent, gaps, .. } = self.grain(period.grain());
        let (start, end) = (period.start(), period.end());
        extent.is_some_and(|(first, last)| first <= period && period <= last)
            && gaps.iter().all(|gap| end <= gap.0 || gap.1 <= start)
    }
}

/// Why the coverage is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed<E = Infallible> {
    /// *Now* is outside the supported years.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// The check whether a bitmap has users failed.
    #[error("{0}")]
    Other(E),
}

impl End {
    /// Returns where the data ends, from the bitmaps of these grains.
    fn of<E>(
        grains: &[Grain],
        by_grain: &BTreeMap<Grain, BTreeSet<Period>>,
        (zone, now, now_given): (Zone, DateTime<Utc>, bool),
        holds: &mut impl FnMut(Period) -> Result<bool, Failed<E>>,
    ) -> Result<End, Failed<E>> {
        let kept: Vec<&BTreeSet<Period>> = grains
            .iter()
            .filter_map(|grain| by_grain.get(grain))
            .collect();
        // The periods that have begun, by grain, newest last.
        let mut begun: Vec<Vec<Period>> = Vec::with_capacity(kept.len());
        for kept in &kept {
            let Some(any) = kept.first() else { continue };
            begun.push(
                kept.range(..=any.zone().period(any.grain(), now)?)
                    .copied()
                    .collect(),
            );
        }
        // Whether a finer bitmap within a period begins after *now*.
        let has_later = |period: Period| {
            kept.iter().any(|finer| {
                let is_finer = finer
                    .first()
                    .is_some_and(|any| any.grain() < period.grain());
                is_finer
                    && finer
                        .iter()
                        .rev()
                        .take_while(|f| f.start() > now)
                        .any(|f| f.start() < period.end())
            })
        };
        let newest = loop {
            let by_age = |period: &Period| (period.start(), Reverse(period.end()));
            let next = begun
                .iter_mut()
                .filter(|begun| !begun.is_empty())
                .max_by_key(|begun| begun.last().map(by_age));
            match next.and_then(Vec::pop) {
                None => break None,
                // It contains a mark of a later day, and perhaps no others.
                Some(period) if period.end() > now && has_later(period) => {}
                Some(period) if holds(period)? => break Some(period),
                Some(_) => {}
            }
        };
        let yesterday = zone.period(Grain::Day, now)?.previous()?.start();
        let mut is_live = newest.is_none_or(|newest| newest.end() > yesterday);
        if !is_live && now_given {
            for period in kept
                .iter()
                .flat_map(|kept| kept.iter().rev().take_while(|period| period.start() > now))
            {
                is_live = is_live || holds(*period)?;
            }
        }
        Ok(End { newest, is_live })
    }

    /// The same, by days of a zone.
    fn by_day(self, zone: Zone) -> Result<End, CalendarError> {
        self.by(|newest| zone.period(Grain::Day, newest.start()))
    }

    /// The same, by hours of a zone.
    fn by_hour(self, zone: Zone) -> Result<End, CalendarError> {
        self.by(|newest| match newest.grain() {
            Grain::Hour => zone.period(Grain::Hour, newest.start()),
            _ => Ok(newest),
        })
    }

    fn by(
        self,
        local: impl FnOnce(Period) -> Result<Period, CalendarError>,
    ) -> Result<End, CalendarError> {
        Ok(End {
            newest: self.newest.map(local).transpose()?,
            ..self
        })
    }
}

/// Returns the stretches after the first period that only coarser bitmaps cover.
fn gaps(
    grain: Grain,
    kept: &BTreeSet<Period>,
    by_grain: &BTreeMap<Grain, BTreeSet<Period>>,
) -> Vec<Gap> {
    let Some(first) = kept.first() else {
        return Vec::new();
    };
    let coarser = KEPT
        .iter()
        .filter(|other| **other > grain)
        .filter_map(|other| by_grain.get(other))
        .flatten()
        .filter(|period| first.end() <= period.start());
    missing(grain, kept, coarser)
}

/// Returns the stretches of these longer periods in which none of the `kept` periods begins.
fn missing<'a>(
    grain: Grain,
    kept: &BTreeSet<Period>,
    longer: impl Iterator<Item = &'a Period>,
) -> Vec<Gap> {
    let gaps = longer
        .filter(|period| {
            // A week may begin before its month does.
            let inside = kept.range(period.within(grain)..).next();
            inside.is_none_or(|inside| inside.start() >= period.end())
        })
        .filter_map(|period| {
            let zone = period.zone();
            let last = zone.period(grain, period.end() - TimeDelta::microseconds(1));
            Some((period.within(grain).start(), last.ok()?.end()))
        });
    merged(gaps.collect())
}

/// Returns the stretches for which an event has bitmaps of days, weeks or months, and none of their
/// hours. In periods of a zone it is not recorded then.
fn without_hours(keys: &[Key]) -> Vec<Gap> {
    let mut hours = BTreeSet::new();
    let mut longer = Vec::new();
    for key in keys {
        match key.when() {
            When::In(period) if period.grain() == Grain::Hour => drop(hours.insert(period)),
            When::In(period) => longer.push(period),
            When::Ever => {}
        }
    }
    missing(Grain::Hour, &hours, longer.iter())
}

/// Returns stretches in order; those that touch or overlap are one.
fn merged(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_unstable();
    let mut merged: Vec<Gap> = Vec::with_capacity(gaps.len());
    for gap in gaps {
        match merged.last_mut().filter(|last| gap.0 <= last.1) {
            Some(last) => last.1 = last.1.max(gap.1),
            None => merged.push(gap),
        }
    }
    merged
}
