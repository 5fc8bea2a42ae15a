//! Every bitmap there is, by event.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use chrono::{DateTime, NaiveDate, Utc};

use crate::calendar::{Grain, Period};
use crate::sets::{EventName, Key, When};

/// The keys of a store, sorted out by event.
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
    /// Its name.
    pub event: EventName,
    /// The first day of the last period it has a bitmap of; `None` when it is only known without
    /// dates. Where days are kept that is the last day: the week and the month of a mark begin no
    /// later.
    pub last: Option<NaiveDate>,
    keys: Range<usize>,
}

impl Catalogue {
    /// Sorts keys out, whatever order they came in.
    pub fn new(mut keys: Vec<Key>) -> Self {
        keys.sort_unstable();
        let mut events: Vec<Known> = Vec::new();
        let mut periods = HashSet::new();
        for (at, key) in keys.iter_mut().enumerate() {
            let date = match key.when() {
                When::In(period) => {
                    periods.insert(period);
                    Some(period.start().date_naive())
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
                    // One text for all keys of an event, of which there may be thousands.
                    *key = key.renamed(&known.event);
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

    /// Every key, event by event.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The events, sorted by name.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &Known> {
        self.events.iter()
    }

    /// One of the events.
    pub fn event(&self, name: &EventName) -> Option<&Known> {
        self.events
            .binary_search_by_key(&name, |known| &known.event)
            .ok()
            .map(|at| &self.events[at])
    }

    /// The keys of an event; none when it is not known.
    pub fn of(&self, name: &EventName) -> &[Key] {
        self.event(name).map_or(&[], |known| self.of_known(known))
    }

    /// The keys of one of [`events`](Self::events).
    pub fn of_known(&self, known: &Known) -> &[Key] {
        self.keys.get(known.keys.clone()).unwrap_or_default()
    }

    /// The periods, of every grain, that have a bitmap of any event.
    pub fn periods(&self) -> &BTreeSet<Period> {
        &self.periods
    }

    /// The bitmaps of a period, whatever their events.
    pub fn in_period(&self, period: Period) -> impl Iterator<Item = &Key> {
        self.events.iter().filter_map(move |known| {
            let keys = self.of_known(known);
            // The keys of one event are in the order of their periods.
            keys.binary_search_by_key(&When::In(period), Key::when)
                .ok()
                .and_then(|at| keys.get(at))
        })
    }

    /// The grains whose bitmap of the period that holds `now` also holds marks made after `now`:
    /// days, weeks and months are kept whole and cannot be cut. The store must hold later marks;
    /// those of a week or month must lie within it.
    pub fn holding_later(&self, now: DateTime<Utc>) -> Vec<Grain> {
        let later = |until: DateTime<Utc>| {
            self.periods
                .iter()
                .any(|p| now <= p.start() && p.start() < until)
        };
        let holds = |grain: &Grain| {
            let Ok(running) = Period::containing(*grain, now) else {
                return false;
            };
            let until = if *grain == Grain::Day {
                DateTime::<Utc>::MAX_UTC
            } else {
                running.end()
            };
            self.periods.contains(&running) && later(until)
        };
        [Grain::Day, Grain::Week, Grain::Month]
            .into_iter()
            .filter(holds)
            .collect()
    }

    /// Whether there is no bitmap at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;

    #[test]
    fn whole_periods_hold_later_marks() {
        let marked = |days: &[&str]| {
            let event = EventName::new("a").unwrap();
            let keys = days
                .iter()
                .flat_map(|day| Key::of_mark(&event, parse_moment(day).unwrap(), false).unwrap());
            Catalogue::new(keys.collect::<BTreeSet<Key>>().into_iter().collect())
        };
        let later =
            |days: &[&str], now: &str| marked(days).holding_later(parse_moment(now).unwrap());
        let all = [Grain::Day, Grain::Week, Grain::Month];
        assert_eq!(
            later(&["2026-11-12"], "2026-11-12"),
            all,
            "all marks of a day are later than its first moment"
        );
        assert_eq!(
            later(&["2026-11-12"], "2026-11-12T14:00:00Z"),
            [],
            "nothing tells that any is"
        );
        assert_eq!(
            later(&["2026-11-12", "2026-11-13"], "2026-11-12T14:00:00Z"),
            all
        );
        assert_eq!(
            later(&["2026-11-12", "2026-11-16"], "2026-11-12T14:00:00Z"),
            [Grain::Day, Grain::Month]
        );
        assert_eq!(
            later(&["2026-11-11", "2026-11-13"], "2026-11-12"),
            [Grain::Week, Grain::Month]
        );
        assert_eq!(later(&["2026-11-11"], "2026-11-12"), []);
    }
}
