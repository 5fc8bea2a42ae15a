//! What one user did: today, this week, this month, on which days, and ever.
//!
//! [`Question::new`] takes the keys there are → [`Question::keys`] are looked into → [`Question::then`] names the few
//! more that matter → [`Question::history`].

use std::collections::{BTreeMap, HashSet};

use chrono::NaiveDate;

use crate::calendar::{CalendarError, Grain, Period};
use crate::reports::activity::{self, Running};
use crate::reports::coverage::Coverage;
use crate::sets::{Catalogue, EventName, Key, UserId, When};

/// How many weeks the calendar has, the running one included.
pub const WEEKS: i64 = 53;

/// The periods a history speaks of: the running ones, or those in which the store's data ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The running day.
    pub today: Period,
    /// The running week.
    pub week: Period,
    /// The running month.
    pub month: Period,
    /// The first day of the calendar, a Monday.
    pub since: Period,
}

impl Span {
    fn of(coverage: &Coverage) -> Result<Self, CalendarError> {
        let Running { day, week, month } = Running::of(coverage);
        Ok(Span {
            today: day,
            week,
            month,
            since: Period::containing(Grain::Day, week.shift(1 - WEEKS)?.start())?,
        })
    }

    /// Whether a bitmap of an event is looked into at first, given the months it has bitmaps of.
    fn asks(&self, when: When, months: &HashSet<Period>) -> bool {
        let When::In(period) = when else { return true };
        match period.grain() {
            // Days before the calendar can wait until their month is known to hold the user.
            Grain::Day if period < self.since => !months.contains(&period.within(Grain::Month)),
            Grain::Day => period <= self.today,
            Grain::Week => period == self.week,
            Grain::Month => period <= self.month,
            Grain::Hour | Grain::Year => false,
        }
    }
}

/// Which bitmaps to look into for one user.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    span: Span,
    all: &'a Catalogue,
    keys: Vec<Key>,
    coverage: Coverage,
}

impl<'a> Question<'a> {
    /// The question, given all keys there are and what they cover. Hours are left out: their days
    /// say the same.
    ///
    /// # Errors
    /// Outside the supported years.
    pub fn new(all: &'a Catalogue, coverage: &Coverage) -> Result<Self, CalendarError> {
        let span = Span::of(coverage)?;
        let mut keys = Vec::new();
        for known in all.events() {
            let of_event = all.of_known(known);
            let months: HashSet<Period> = of_event
                .iter()
                .filter_map(|key| month_of(key).filter(|month| *month <= span.month))
                .collect();
            keys.extend(
                of_event
                    .iter()
                    .filter(|key| span.asks(key.when(), &months))
                    .cloned(),
            );
        }
        Ok(Question {
            span,
            all,
            keys,
            coverage: coverage.clone(),
        })
    }

    /// The bitmaps to look into.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Those to look into next, given those among [`keys`](Self::keys) that hold the user: the days
    /// of each event's first month, and of its last where no later day is known.
    pub fn then(&self, found: &[Key]) -> Vec<Key> {
        let mut by_event: BTreeMap<&EventName, (Vec<Period>, bool)> = BTreeMap::new();
        for key in found {
            let (months, lately) = by_event.entry(key.event()).or_default();
            months.extend(month_of(key));
            *lately |= matches!(key.when(), When::In(p) if p.grain() == Grain::Day && p >= self.span.since);
        }
        let mut keys = Vec::new();
        for (event, (months, lately)) in by_event {
            let wanted = [months.iter().min(), months.iter().max().filter(|_| !lately)];
            let asked = |key: &&Key| match key.when() {
                When::In(day) if day.grain() == Grain::Day && day < self.span.since => {
                    wanted.contains(&Some(&day.within(Grain::Month)))
                }
                _ => false,
            };
            if !months.is_empty() {
                keys.extend(self.all.of(event).iter().filter(asked).cloned());
            }
        }
        keys
    }

    /// What the user did, given all keys found to hold the user.
    pub fn history(&self, user: UserId, found: Vec<Key>) -> History {
        let mut by_event: BTreeMap<EventName, Vec<When>> = BTreeMap::new();
        for key in found {
            by_event
                .entry(key.event().clone())
                .or_default()
                .push(key.when());
        }
        let mut events: Vec<Seen> = by_event
            .into_iter()
            .map(|(event, whens)| self.seen(event, &whens))
            .collect();
        events.sort_by_key(|seen| {
            (
                std::cmp::Reverse(seen.last.map(Period::start)),
                std::cmp::Reverse(seen.days.len()),
            )
        });
        let known = self.all.events().len();
        let properties = self
            .all
            .events()
            .filter(|known| known.last.is_none())
            .count();
        History {
            user,
            span: self.span,
            coverage: self.coverage.clone(),
            events,
            known,
            properties,
        }
    }

    fn seen(&self, event: EventName, whens: &[When]) -> Seen {
        let span = &self.span;
        let of = |grain: Grain| {
            let mut found: Vec<Period> = whens
                .iter()
                .filter_map(|when| match when {
                    When::In(period) if period.grain() == grain => Some(*period),
                    _ => None,
                })
                .collect();
            found.sort_unstable();
            found
        };
        let (days, months) = (of(Grain::Day), of(Grain::Month));
        // A month says more than the days when it lies outside them.
        let pick = |day: Option<&Period>,
                    month: Option<&Period>,
                    outside: fn(&Period, &Period) -> bool| match (day, month) {
            (Some(day), Some(month)) if outside(month, &day.within(Grain::Month)) => Some(*month),
            (Some(day), _) => Some(*day),
            (None, month) => month.copied(),
        };
        let calendar = days.iter().filter(|day| **day >= span.since);
        Seen {
            property: self
                .all
                .event(&event)
                .is_some_and(|known| known.last.is_none()),
            recorded: activity::Span::of(self.all.of(&event), self.coverage.now())
                .map(|span| span.first),
            event,
            today: days.contains(&span.today),
            week: whens.contains(&When::In(span.week)),
            month: months.contains(&span.month),
            ever: whens.contains(&When::Ever),
            first: pick(days.first(), months.first(), |month, day| month < day),
            last: pick(days.last(), months.last(), |month, day| month > day),
            days: calendar.map(|day| day.start().date_naive()).collect(),
        }
    }
}

/// The month of a month's key.
fn month_of(key: &Key) -> Option<Period> {
    match key.when() {
        When::In(month) if month.grain() == Grain::Month => Some(month),
        _ => None,
    }
}

/// What one user did of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The event.
    pub event: EventName,
    /// On the running day.
    pub today: bool,
    /// In the running week.
    pub week: bool,
    /// In the running month.
    pub month: bool,
    /// In the undated bitmap.
    pub ever: bool,
    /// Whether there is no other bitmap of it: it says what somebody is, and not what somebody did.
    pub property: bool,
    /// The first day; a month where its days are not kept, `None` without dates.
    pub first: Option<Period>,
    /// The last day, likewise.
    pub last: Option<Period>,
    /// The days of the calendar, ascending.
    pub days: Vec<NaiveDate>,
    /// When anybody was first recorded in the event; `None` without dates. Before it nobody's
    /// absence says anything.
    pub recorded: Option<Period>,
}

/// What one user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The user.
    pub user: UserId,
    /// The running periods, or those in which the data ends, and where the calendar begins.
    pub span: Span,
    /// What the store covers: where it has no data, absence says nothing.
    pub coverage: Coverage,
    /// The events the user was ever seen in, the latest first.
    pub events: Vec<Seen>,
    /// How many events there are for anybody.
    pub known: usize,
    /// How many of those are properties: only known without dates.
    pub properties: usize,
}
