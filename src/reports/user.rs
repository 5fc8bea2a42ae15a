//! One user's activity: today, this week, this month, on which days, and ever.
//!
//! It takes two steps: look up the bitmaps of all months, then the days of those months that contain
//! the user, as far as they are in the calendar or in the user's first and last month.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use serde_json::json;

use crate::calendar::{CalendarError, Grain, Period};
use crate::reports::coverage::Coverage;
use crate::reports::error::QueryError;
use crate::reports::export::Exports;
use crate::reports::frame::{Frame, Value};
use crate::reports::report::{Context, Lookup, LookupId, Report, Request, Results};
use crate::reports::spans::{self, Running};
use crate::sets::{Catalogue, EventName, Key, UserId, When};

/// How many weeks the calendar has, the running one included.
pub const WEEKS: i64 = 53;

/// The current periods of a history, or those in which the store's data ends.
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
            since: week.shift(1 - WEEKS)?.within(Grain::Day),
        })
    }

    /// Returns those of an event's keys, which are sorted, that the first step looks up: months, the
    /// running week, and days whose month has no bitmap.
    fn asked_first<'a>(&self, keys: &'a [Key]) -> impl Iterator<Item = &'a Key> {
        let months = up_to(of_grain(keys, Grain::Month), self.month);
        let week = of_grain(keys, self.week.grain());
        let week = week.iter().filter(|key| key.when() == When::In(self.week));
        let days = up_to(of_grain(keys, Grain::Day), self.today);
        let by_month = days.chunk_by(|a, b| day_month(a) == day_month(b));
        let without = by_month.filter(|days| {
            let month = days.first().and_then(day_month);
            month.is_none_or(|month| {
                let when = When::In(month);
                months.binary_search_by_key(&when, Key::when).is_err()
            })
        });
        let ever = keys.iter().rev().take_while(|key| key.when() == When::Ever);
        without.flatten().chain(week).chain(months).chain(ever)
    }
}

/// Asks what one user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub user: UserId,
}

/// The bitmaps to look up for one user, and those found to hold them.
#[derive(Debug, Clone)]
pub struct UserQuestion {
    user: UserId,
    span: Span,
    all: Arc<Catalogue>,
    coverage: Coverage,
    may_include_later_marks: bool,
    lookup: LookupId,
    keys: Vec<Key>,
    found: Vec<Key>,
    is_second: bool,
}

impl Report for User {
    type Planned = UserQuestion;
    type Answer = History;

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<UserQuestion, QueryError> {
        let all = context.catalogue;
        let span = Span::of(context.coverage)?;
        let mut keys = Vec::new();
        for known in all.events() {
            keys.extend(span.asked_first(all.of_known(known)).cloned());
        }
        let names = all.events().map(|known| &known.event);
        let grains = [Grain::Day, Grain::WEEK, Grain::Month];
        let periods = grains.map(|grain| context.coverage.current(grain));
        Ok(UserQuestion {
            may_include_later_marks: context.may_include_later(names, &periods),
            user: self.user,
            span,
            all: Arc::clone(all),
            coverage: context.coverage.clone(),
            lookup: look_up(request, &keys, self.user),
            keys,
            found: Vec::new(),
            is_second: false,
        })
    }

    fn next(
        planned: &mut UserQuestion,
        results: &Results,
        _: &Context<'_>,
    ) -> Result<Option<Request>, QueryError> {
        let held = results.lookup(planned.lookup);
        let found = planned.keys.iter().zip(held).filter(|(_, held)| **held);
        let found: Vec<Key> = found.map(|(key, _)| key.clone()).collect();
        planned.found.extend(found);
        if planned.is_second {
            return Ok(None);
        }
        planned.is_second = true;
        planned.keys = planned.then(&planned.found);
        let mut request = Request::default();
        planned.lookup = look_up(&mut request, &planned.keys, planned.user);
        Ok(Some(request))
    }

    fn answer(planned: UserQuestion, _: &Results) -> History {
        planned.history()
    }
}

fn look_up(request: &mut Request, keys: &[Key], user: UserId) -> LookupId {
    request.lookup(Lookup {
        keys: keys.to_vec(),
        user,
    })
}

impl UserQuestion {
    /// Returns the keys of the second step, given those of [`keys`](Self::keys) that contain the
    /// user: the days of each month that contains the user, if it is in the calendar or is the event's
    /// first or last one.
    fn then(&self, found: &[Key]) -> Vec<Key> {
        let mut by_event: BTreeMap<&EventName, Vec<Period>> = BTreeMap::new();
        for key in found {
            if let Some(month) = month_of(key) {
                by_event.entry(key.event()).or_default().push(month);
            }
        }
        let since = self.span.since.within(Grain::Month);
        let mut keys = Vec::new();
        for (event, months) in by_event {
            let ends = [months.iter().min(), months.iter().max()];
            let wanted = |month: &&Period| **month >= since || ends.contains(&Some(month));
            let days = up_to(of_grain(self.all.of(event), Grain::Day), self.span.today);
            for month in months.iter().filter(wanted) {
                let from = days.partition_point(|day| day_month(day) < Some(*month));
                let until = days.partition_point(|day| day_month(day) <= Some(*month));
                keys.extend(days[from..until].iter().cloned());
            }
        }
        keys
    }

    fn history(&self) -> History {
        let mut by_event: BTreeMap<EventName, Vec<When>> = BTreeMap::new();
        for key in &self.found {
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
            user: self.user,
            span: self.span,
            coverage: self.coverage.clone(),
            may_include_later_marks: self.may_include_later_marks,
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
        let days = of(Grain::Day);
        let months = of(Grain::Month);
        // A month outside the known days is more precise.
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
            recorded: spans::Span::of_sorted(
                self.coverage.zone(),
                self.all.of(&event),
                self.coverage.now(),
            )
            .map(|span| span.first),
            event,
            today: days.contains(&span.today),
            week: whens.contains(&When::In(span.week)),
            month: months.contains(&span.month),
            ever: whens.contains(&When::Ever),
            first: pick(days.first(), months.first(), |month, day| month < day),
            last: pick(days.last(), months.last(), |month, day| month > day),
            days: calendar.map(|day| day.local_start().date()).collect(),
        }
    }
}

/// Returns those of an event's keys, which are sorted, that are of a grain.
fn of_grain(keys: &[Key], grain: Grain) -> &[Key] {
    let of = |key: &Key| match key.when() {
        When::In(period) => Some(period.grain()),
        When::Ever => None,
    };
    let from = keys.partition_point(|key| of(key).is_some_and(|of| of < grain));
    let until = keys.partition_point(|key| of(key).is_some_and(|of| of <= grain));
    &keys[from..until]
}

/// Returns those of sorted keys of one grain that are not after a period.
fn up_to(keys: &[Key], last: Period) -> &[Key] {
    &keys[..keys.partition_point(|key| key.when() <= When::In(last))]
}

/// Returns the month of a day's key.
fn day_month(key: &Key) -> Option<Period> {
    match key.when() {
        When::In(day) => Some(day.within(Grain::Month)),
        When::Ever => None,
    }
}

/// Returns the month of a month's key.
fn month_of(key: &Key) -> Option<Period> {
    match key.when() {
        When::In(month) if month.grain() == Grain::Month => Some(month),
        _ => None,
    }
}

/// One user's activity in one event.
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
    /// Whether it only has an undated bitmap: it is a property of users.
    pub property: bool,
    /// The first day; a month without daily bitmaps, `None` without dates.
    pub first: Option<Period>,
    /// The last day, like `first`.
    pub last: Option<Period>,
    /// The days of the calendar, ascending.
    pub days: Vec<NaiveDate>,
    /// When the event was first recorded for any user. `None` without dates. Before it absence
    /// means nothing.
    pub recorded: Option<Period>,
}

/// One user's activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The user.
    pub user: UserId,
    /// The running periods, or those in which the data ends, and where the calendar begins.
    pub span: Span,
    /// What the store covers. Absence outside it means nothing.
    pub coverage: Coverage,
    /// Whether it may include marks made after a chosen *now*.
    pub may_include_later_marks: bool,
    /// The events of the user, latest first.
    pub events: Vec<Seen>,
    /// The number of events of all users.
    pub known: usize,
    /// The number of those that are properties: they only have undated bitmaps.
    pub properties: usize,
}

/// One user's activity, with the id as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHistory {
    /// What the user did.
    pub history: History,
    /// The user's id: the number, or in a store with string ids the string.
    pub id: String,
    /// Whether the id is a string.
    pub is_string: bool,
}

impl Exports for NamedHistory {
    fn title(&self) -> String {
        format!("User {}", self.id)
    }

    fn name(&self) -> Vec<String> {
        vec!["user".to_owned(), self.id.clone()]
    }

    /// An event a row.
    fn wide(&self) -> Frame {
        let mut frame = Frame::new(["event", "first", "last", "days", "ever"]);
        for seen in &self.history.events {
            let period = |period: Option<Period>| {
                Value::from(period.map(|period| Value::Word(period.to_string())))
            };
            frame.push(vec![
                Value::Text(seen.event.to_string()),
                period(seen.first),
                period(seen.last),
                Value::Count(seen.days.len() as u64),
                Value::word(if seen.ever { "yes" } else { "no" }),
            ]);
        }
        frame
    }

    /// A row for each event and each day of the last 53 weeks on which the user did it.
    fn tidy(&self) -> Frame {
        let mut frame = Frame::new(["event", "day"]);
        for seen in &self.history.events {
            for day in &seen.days {
                frame.push(vec![
                    Value::Text(seen.event.to_string()),
                    Value::Word(day.to_string()),
                ]);
            }
        }
        frame
    }

    fn json(&self) -> String {
        let history = &self.history;
        let text = |period: Option<Period>| period.map(|period| period.to_string());
        let user = if self.is_string {
            json!(self.id)
        } else {
            json!(history.user)
        };
        let events = history.events.iter().map(|seen| {
            json!({
                "event": seen.event.as_str(),
                "today": seen.today,
                "this_week": seen.week,
                "this_month": seen.month,
                "ever": seen.ever,
                "first": text(seen.first),
                "last": text(seen.last),
                "days": seen.days.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        let object = json!({
            "user": user,
            "may_include_later_marks": history.may_include_later_marks,
            "data_ends": text(history.coverage.data_ends(Grain::Day)),
            "today": history.span.today.to_string(),
            "week": history.span.week.to_string(),
            "month": history.span.month.to_string(),
            "days_since": history.span.since.to_string(),
            "zone": history.coverage.zone().name(),
            "events": events.collect::<Vec<_>>(),
        });
        object.to_string()
    }
}
