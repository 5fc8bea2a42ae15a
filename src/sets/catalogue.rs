//! The bitmaps of a store, by event.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::calendar::{Grain, Period, Zone};
use crate::sets::{EventName, Key, When};

/// The keys of a store, grouped by event.
///
/// ```
/// use cohortist::sets::{Catalogue, EventName, Key};
/// let [a, b] = ["a", "b"].map(|name| EventName::new(name).unwrap());
/// let day = Key::new(a.clone(), "2026-11-23".parse()?)?;
/// let all = Catalogue::new(vec![Key::ever(b.clone()), day.clone(), Key::ever(a.clone())]);
/// assert_eq!(all.of(&a), [day, Key::ever(a.clone())]);
/// assert_eq!(all.events().map(|known| known.last).collect::<Vec<_>>(), [Some("2026-11-23".parse()?), None]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    keys: Vec<Key>,
    events: Vec<Known>,
    periods: BTreeSet<Period>,
}

/// One event of a [`Catalogue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The name of the event.
    pub event: EventName,
    /// The first day of the latest period that the event has a bitmap of, or `None` if it only has
    /// an undated one. If the store keeps days, this is the last day with marks, because the week
    /// and the month of a mark do not start later than its day.
    pub last: Option<NaiveDate>,
    keys: Range<usize>,
}

impl Catalogue {
    /// Groups keys, which may be in any order.
    pub fn new(mut keys: Vec<Key>) -> Self {
        keys.sort_unstable();
        let mut events: Vec<Known> = Vec::new();
        let mut periods = HashSet::new();
        for (at, key) in keys.iter_mut().enumerate() {
            let date = match key.when() {
                When::In(period) => {
                    periods.insert(period);
                    Some(period.local_start().date())
                }
                When::Ever => None,
            };
            match events
                .last_mut()
                .filter(|known| known.event == *key.event())
            {
                Some(known) => {
                    known.last = known.last.max(date);
                    known.keys.end = at + 1;
                    // All keys of an event share the memory of its name. There may be thousands.
                    *key = key.with_event(&known.event);
                }
                None => events.push(Known {
                    event: key.event().clone(),
                    last: date,
                    keys: at..at + 1,
                }),
            }
        }
        Catalogue {
            keys,
            events,
            periods: periods.into_iter().collect(),
        }
    }

    /// Returns all keys, in order of their events.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Iterates over the events, sorted by name.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &Known> {
        self.events.iter()
    }

    /// Returns an event, or `None` if it has no bitmap.
    pub fn event(&self, name: &EventName) -> Option<&Known> {
        self.events
            .binary_search_by_key(&name, |known| &known.event)
            .ok()
            .map(|at| &self.events[at])
    }

    /// Returns the keys of an event. There are none if it has no bitmap.
    pub fn of(&self, name: &EventName) -> &[Key] {
        self.event(name).map_or(&[], |known| self.of_known(known))
    }

    /// Returns the keys of one of this catalogue's [`events`](Self::events).
    ///
    /// # Panics
    /// May panic if `known` belongs to another catalogue.
    pub fn of_known(&self, known: &Known) -> &[Key] {
        &self.keys[known.keys.clone()]
    }

    /// Returns the periods, of every grain, that have a bitmap of any event.
    pub fn periods(&self) -> &BTreeSet<Period> {
        &self.periods
    }

    /// Returns the zone in which the store is [kept](Zone::kept): UTC, unless its keys say otherwise.
    pub fn zone(&self) -> Zone {
        let any = self.periods.first();
        any.map_or(Zone::UTC, |period| period.zone())
    }

    /// Iterates over the keys of a period, for all events.
    pub fn in_period(&self, period: Period) -> impl Iterator<Item = &Key> {
        self.events.iter().filter_map(move |known| {
            let keys = self.of_known(known);
            // The keys of one event are in the order of their periods.
            keys.binary_search_by_key(&When::In(period), Key::when)
                .ok()
                .map(|at| &keys[at])
        })
    }

    /// Returns the grains whose period at `now` has a bitmap that may also hold marks made after
    /// `now`. Such a bitmap cannot be limited to the marks before `now`.
    pub fn holding_later(&self, now: DateTime<Utc>) -> Vec<Grain> {
        let grains = [Grain::Day, Grain::WEEK, Grain::Month];
        let zone = self.zone();
        let periods = grains.map(|grain| zone.period(grain, now));
        let periods: Vec<Period> = periods.into_iter().flatten().collect();
        self.later_in(self.events.iter().map(|known| &known.event), &periods, now)
    }

    /// Returns, without duplicates, the grains of those of `periods` that contain `now` and whose
    /// bitmaps of `events` may also hold marks made after `now`. If the store has no later bitmap
    /// at all, there is no sign of later marks, and the result is empty.
    pub fn later_in<'a>(
        &self,
        events: impl IntoIterator<Item = &'a EventName>,
        periods: &[Period],
        now: DateTime<Utc>,
    ) -> Vec<Grain> {
        let mut grains = Vec::new();
        let goes_on = self.periods.iter().any(|period| now <= period.start());
        let running = || periods.iter().filter(|period| is_within(**period, now));
        if goes_on && running().next().is_some() {
            for event in events {
                let keys = self.of(event);
                grains.extend(
                    running()
                        .filter(|period| may_hold_later(keys, **period, now))
                        .map(|period| period.grain()),
                );
            }
        }
        grains.sort_unstable();
        grains.dedup();
        grains
    }

    /// Returns whether there are no bitmaps.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Whether a period has begun by then, and has at least a second left: moments are given to the
/// second, so a period that is asked about in its last one is over.
fn is_within(period: Period, now: DateTime<Utc>) -> bool {
    period.start() <= now && now + TimeDelta::seconds(1) < period.end()
}

/// Whether an event's bitmap of a period that holds `now` may hold later marks. The bitmaps of
/// shorter periods within it tell; where the event has none of them, nobody can.
fn may_hold_later(keys: &[Key], period: Period, now: DateTime<Utc>) -> bool {
    // Years and some others are unions of shorter periods.
    let shorter = match period.grain() {
        _ if !period.is_stored() => Some(period.unit()),
        Grain::Hour => None,
        Grain::Day => Some(Grain::Hour),
        Grain::Week(_) | Grain::Month | Grain::Year => Some(Grain::Day),
    };
    let dated = || {
        keys.iter().filter_map(|key| match key.when() {
            When::In(period) => Some(period),
            When::Ever => None,
        })
    };
    if period.is_stored() && !dated().any(|other| other == period) {
        return false;
    }
    let within: Vec<Period> = dated()
        .filter(|other| Some(other.grain()) == shorter)
        .filter(|other| period.start() <= other.start() && other.end() <= period.end())
        .collect();
    if within.is_empty() {
        return period.is_stored();
    }
    within.iter().any(|other| {
        now <= other.start() || (is_within(*other, now) && may_hold_later(keys, *other, now))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;

    #[test]
    fn the_current_periods_hold_later_marks() {
        let marked = |days: &[&str]| {
            let event = EventName::new("a").unwrap();
            let keys = days
                .iter()
                .flat_map(|day| Key::of_mark(&event, parse_moment(day).unwrap(), false).unwrap());
            Catalogue::new(keys.collect::<BTreeSet<Key>>().into_iter().collect())
        };
        let later =
            |days: &[&str], now: &str| marked(days).holding_later(parse_moment(now).unwrap());
        let all = [Grain::Day, Grain::WEEK, Grain::Month];
        assert_eq!(
            later(&["2026-11-12"], "2026-11-12"),
            all,
            "all marks of a day may be later than its first moment"
        );
        assert_eq!(
            later(&["2026-11-12"], "2026-11-12T14:00:00Z"),
            [],
            "no bitmap shows that a mark is later"
        );
        assert_eq!(
            later(&["2026-11-12", "2026-11-13"], "2026-11-12T14:00:00Z"),
            all
        );
        assert_eq!(
            later(&["2026-11-12", "2026-11-16"], "2026-11-12T14:00:00Z"),
            all,
            "the week and the month hold what the day holds"
        );
        assert_eq!(
            later(&["2026-11-12", "2026-11-14"], "2026-11-12T23:59:59Z"),
            [Grain::WEEK, Grain::Month],
            "the day is over"
        );
        assert_eq!(
            later(&["2026-11-11", "2026-11-13"], "2026-11-12"),
            [Grain::WEEK, Grain::Month]
        );
        assert_eq!(later(&["2026-11-11"], "2026-11-12"), []);
    }

    #[test]
    fn hours_tell_what_their_day_holds() {
        let event = EventName::new("a").unwrap();
        let keys = ["2026-11-12T12:30:00Z", "2026-12-24"]
            .iter()
            .flat_map(|at| Key::of_mark(&event, parse_moment(at).unwrap(), true).unwrap());
        let all = Catalogue::new(keys.collect::<BTreeSet<Key>>().into_iter().collect());
        let later = |period: &str, now: &str| {
            let now = parse_moment(now).unwrap();
            !all.later_in([&event], &[period.parse().unwrap()], now)
                .is_empty()
        };
        let [morning, noon, evening] =
            ["T09:00:00Z", "T12:10:00Z", "T18:00:00Z"].map(|time| format!("2026-11-12{time}"));
        for period in ["2026-11-12", "2026-W46", "2026-11"] {
            assert!(later(period, &morning) && later(period, &noon), "{period}");
            assert!(!later(period, &evening), "{period}");
        }
        assert!(later("2026-11-12T12", &noon));
        assert!(later("2026", &evening), "the marks of December");
        assert!(!later("2026-11-12T12", &evening), "it does not hold now");
        assert!(!later("2026-11-11", &noon));
    }
}
