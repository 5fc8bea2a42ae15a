//! What one user did: today, this week, this month, on which days, and ever.
//!
//! [`Question::new`] takes the keys there are → [`Question::keys`] are looked into → [`Question::then`] names the few
//! more that matter → [`Question::history`].

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};

use crate::calendar::{CalendarError, Grain, Period};
use crate::sets::{EventName, Key, UserId, When};

/// How many weeks the calendar has, the running one included.
pub const WEEKS: i64 = 53;

/// The periods a history speaks of.
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
    fn at(now: DateTime<Utc>) -> Result<Self, CalendarError> {
        let week = Period::containing(Grain::Week, now)?;
        Ok(Span {
            today: Period::containing(Grain::Day, now)?,
            week,
            month: Period::containing(Grain::Month, now)?,
            since: Period::containing(Grain::Day, week.shift(1 - WEEKS)?.start())?,
        })
    }
}

/// Which bitmaps to look into for one user.
#[derive(Debug, Clone)]
pub struct Question {
    span: Span,
    keys: Vec<Key>,
    /// Days before the calendar, by event and month: most months need not be looked into.
    older: BTreeMap<(EventName, Period), Vec<Key>>,
    events: usize,
}

impl Question {
    /// The question as of `now`, given all keys there are. Hours are left out: their days say the same.
    ///
    /// # Errors
    /// Outside the supported years.
    pub fn new(all: Vec<Key>, now: DateTime<Utc>) -> Result<Self, CalendarError> {
        let span = Span::at(now)?;
        let mut events: Vec<EventName> = all.iter().map(|key| key.event().clone()).collect();
        events.sort_unstable();
        events.dedup();
        let (mut keys, mut older) = (Vec::new(), BTreeMap::<_, Vec<Key>>::new());
        for key in all {
            let period = match key.when() {
                When::Ever => {
                    keys.push(key);
                    continue;
                }
                When::In(period) => period,
            };
            let asked = match period.grain() {
                Grain::Day if period < span.since => {
                    older.entry((key.event().clone(), period.within(Grain::Month))).or_default().push(key);
                    continue;
                }
                Grain::Day => period <= span.today,
                Grain::Week => period == span.week,
                Grain::Month => period <= span.month,
                Grain::Hour | Grain::Year => false,
            };
            if asked {
                keys.push(key);
            }
        }
        // Without the month's bitmap nothing tells whether its days are worth a look.
        let months: BTreeSet<(EventName, Period)> = keys.iter().filter_map(month_of).collect();
        for (_, days) in older.extract_if(.., |month, _| !months.contains(month)) {
            keys.extend(days);
        }
        Ok(Question { span, keys, older, events: events.len() })
    }

    /// The bitmaps to look into.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Those to look into next, given those among [`keys`](Self::keys) that hold the user: the days of each event's
    /// first month, and of its last where no later day is known.
    pub fn then(&self, found: &[Key]) -> Vec<Key> {
        let mut months: BTreeMap<EventName, Vec<Period>> = BTreeMap::new();
        found.iter().filter_map(month_of).for_each(|(event, month)| months.entry(event).or_default().push(month));
        let mut keys = Vec::new();
        for (event, months) in months {
            let mut wanted = Vec::from_iter(months.iter().min());
            let since = self.span.since;
            let lately = |key: &Key| {
                let day = matches!(key.when(), When::In(p) if p.grain() == Grain::Day && p >= since);
                day && *key.event() == event
            };
            if !found.iter().any(lately) {
                wanted.extend(months.iter().max().filter(|last| !wanted.contains(last)));
            }
            for month in wanted {
                keys.extend(self.older.get(&(event.clone(), *month)).into_iter().flatten().cloned());
            }
        }
        keys
    }

    /// What the user did, given all keys found to hold the user.
    pub fn history(&self, user: UserId, found: Vec<Key>) -> History {
        let mut by_event: BTreeMap<EventName, Vec<When>> = BTreeMap::new();
        for key in found {
            by_event.entry(key.event().clone()).or_default().push(key.when());
        }
        let mut events: Vec<Seen> =
            by_event.into_iter().map(|(event, whens)| Seen::new(event, &whens, &self.span)).collect();
        events
            .sort_by_key(|seen| (std::cmp::Reverse(seen.last.map(Period::start)), std::cmp::Reverse(seen.days.len())));
        History { user, span: self.span, events, known: self.events }
    }
}

/// The event and month of a month's key.
fn month_of(key: &Key) -> Option<(EventName, Period)> {
    match key.when() {
        When::In(month) if month.grain() == Grain::Month => Some((key.event().clone(), month)),
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
    /// The first day; a month where its days are not kept, `None` without dates.
    pub first: Option<Period>,
    /// The last day, likewise.
    pub last: Option<Period>,
    /// The days of the calendar, ascending.
    pub days: Vec<NaiveDate>,
}

impl Seen {
    fn new(event: EventName, whens: &[When], span: &Span) -> Self {
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
        let pick =
            |day: Option<&Period>, month: Option<&Period>, outside: fn(&Period, &Period) -> bool| match (day, month) {
                (Some(day), Some(month)) if outside(month, &day.within(Grain::Month)) => Some(*month),
                (Some(day), _) => Some(*day),
                (None, month) => month.copied(),
            };
        let calendar = days.iter().filter(|day| **day >= span.since);
        Seen {
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

/// What one user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The user.
    pub user: UserId,
    /// The running periods, and where the calendar begins.
    pub span: Span,
    /// The events the user was ever seen in, the latest first.
    pub events: Vec<Seen>,
    /// How many events there are for anybody.
    pub known: usize,
}
