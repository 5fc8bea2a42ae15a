//! Overview of many events: the current period of each grain, the last complete one, and the last
//! 30 days.

use chrono::{DateTime, Utc};

use crate::calendar::{Calendar, Grain, Period, Zone};
use crate::reports::coverage::Coverage;
use crate::reports::error::QueryError;
use crate::reports::export::Exports;
use crate::reports::frame::{Frame, Value};
use crate::reports::report::{Context, Report, Request, Results};
use crate::reports::spans::{Running, Span, change, compared};
use crate::sets::{CountId, Counts, EventName, Key, Plan, Set, When};

/// The number of days in an overview, including the current one.
pub const OVERVIEW_DAYS: usize = 30;

/// Asks for an overview of events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Events {
    /// Which of the recorded events, in this order; all of them, sorted by name, if `None`.
    pub names: Option<Vec<EventName>>,
    /// By which zone and weeks they are counted.
    pub calendar: Calendar,
}

impl Report for Events {
    type Planned = EventsQuestion;
    type Answer = Overview;

    fn zone(&self) -> Option<Zone> {
        Some(self.calendar.zone)
    }

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<EventsQuestion, QueryError> {
        let all = context.catalogue;
        let plan = &mut request.plan;
        let question = match &self.names {
            None => {
                let events = all.events().map(|known| all.of_known(known));
                EventsQuestion::new(plan, events, context, self.calendar)?
            }
            Some(names) => {
                let events = names.iter().map(|name| all.of(name));
                EventsQuestion::new(plan, events, context, self.calendar)?
            }
        };
        let names = question.events.iter().map(|asked| &asked.event);
        let grains = [Grain::Day, self.calendar.week.weeks(), Grain::Month];
        let periods = grains.map(|grain| context.coverage.current(grain));
        Ok(EventsQuestion {
            may_include_later_marks: context.may_include_later(names, &periods),
            ..question
        })
    }

    fn answer(planned: EventsQuestion, results: &Results) -> Overview {
        planned.overview(&results.counts)
    }
}

/// What a store has to count for an [`Overview`].
#[derive(Debug, Clone)]
pub struct EventsQuestion {
    coverage: Coverage,
    may_include_later_marks: bool,
    running: Running,
    events: Vec<AskedEvent>,
}

/// The counts of one event among the plan's roots. `None` without a bitmap.
#[derive(Debug, Clone)]
struct AskedEvent {
    event: EventName,
    /// Which periods are recorded of it. In a zone that depends on its hours.
    coverage: Coverage,
    days: [Option<CountId>; OVERVIEW_DAYS],
    weeks: [Option<CountId>; 3],
    months: [Option<CountId>; 3],
    ever: Option<CountId>,
    span: Option<Span>,
}

impl EventsQuestion {
    fn new<'a>(
        plan: &mut Plan,
        events: impl IntoIterator<Item = &'a [Key]>,
        context: &Context<'_>,
        calendar: Calendar,
    ) -> Result<Self, QueryError> {
        let coverage = context.coverage;
        let running = Running::by(coverage, calendar.week);
        let by_event = events
            .into_iter()
            .filter_map(|keys| Some((keys.first()?.event(), keys)));
        let mut events = Vec::new();
        for (event, keys) in by_event {
            let mut asked = AskedEvent {
                event: event.clone(),
                coverage: context.covering(&[event]),
                days: [None; OVERVIEW_DAYS],
                weeks: [None; 3],
                months: [None; 3],
                ever: None,
                span: Span::of_sorted(coverage.zone(), keys, coverage.now()),
            };
            // The keys of one event are sorted, and an event may have thousands.
            let exists = |period: &Period| {
                let when = When::In(*period);
                keys.binary_search_by_key(&when, Key::when).is_ok()
            };
            let slots = [
                (running.day, &mut asked.days[..]),
                (running.week, &mut asked.weeks[..]),
                (running.month, &mut asked.months[..]),
            ];
            for (last, slots) in slots {
                for (back, slot) in (0..).zip(slots) {
                    let Ok(period) = last.shift(-back) else {
                        continue;
                    };
                    // Without a bitmap there is nobody.
                    if period.stored().iter().any(&exists) {
                        *slot = Some(plan.count_set(&Set::event_in(event, period))?);
                    }
                }
            }
            let ever = keys.iter().find(|key| key.when() == When::Ever);
            asked.ever = ever.map(|key| plan.count_key(key));
            events.push(asked);
        }
        Ok(EventsQuestion {
            coverage: coverage.clone(),
            may_include_later_marks: false,
            running,
            events,
        })
    }

    /// The overview, from the counts of the plan in order.
    fn overview(&self, counts: &Counts) -> Overview {
        let at = |id: Option<CountId>| id.map(|id| counts[id]);
        let number =
            |asked: &AskedEvent, running: Period, roots: &[Option<CountId>], back: usize| {
                let back_by = i64::try_from(back).expect("at most 30 days");
                // Periods before the first supported year are not recorded.
                let period = running.shift(-back_by).ok()?;
                let is_recorded = asked.coverage.is_recorded(period);
                is_recorded.then(|| roots.get(back).and_then(|root| at(*root)).unwrap_or(0))
            };
        let recent = |asked: &AskedEvent, running: Period, roots: &[Option<CountId>]| {
            let back = 1 + usize::try_from(compared(running.grain())).expect("at most 7");
            let [current, last, before] =
                [0, 1, back].map(|back| number(asked, running, roots, back));
            let before_of_last = running.shift(-1 - i64::from(compared(running.grain())));
            let known = before_of_last
                .is_ok_and(|before| asked.span.is_some_and(|span| span.covers(before)));
            Recent {
                current,
                last,
                before,
                known,
            }
        };
        let Running { day, week, month } = self.running;
        let entry = |asked: &AskedEvent| Entry {
            event: asked.event.clone(),
            days: (0..asked.days.len())
                .rev()
                .map(|back| number(asked, day, &asked.days, back))
                .collect(),
            day: recent(asked, day, &asked.days),
            week: recent(asked, week, &asked.weeks),
            month: recent(asked, month, &asked.months),
            ever: at(asked.ever),
            span: asked.span,
        };
        Overview {
            now: self.coverage.now(),
            today: self.coverage.current(Grain::Day),
            running: self.running,
            data_ends: self.coverage.data_ends(Grain::Day),
            may_include_later_marks: self.may_include_later_marks,
            entries: self.events.iter().map(entry).collect(),
        }
    }
}

/// Many events side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// The moment of the answer.
    pub now: DateTime<Utc>,
    /// The day that holds it.
    pub today: Period,
    /// The periods that the numbers count back from.
    pub running: Running,
    /// When the data ends, if before now.
    pub data_ends: Option<Period>,
    /// Whether numbers of the current periods may include marks made after a chosen *now*.
    pub may_include_later_marks: bool,
    /// One for each event, sorted by name.
    pub entries: Vec<Entry>,
}

/// One event of an [`Overview`].
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub event: EventName,
    /// People on each of the last [`OVERVIEW_DAYS`] days, oldest first; the last one is in
    /// progress. `None` if a day is not recorded.
    pub days: Vec<Option<u64>>,
    /// People by day.
    pub day: Recent,
    /// People by week.
    pub week: Recent,
    /// People by month.
    pub month: Recent,
    /// People in the undated bitmap. `None` if it does not exist.
    pub ever: Option<u64>,
    /// When it was recorded; `None` for an event that is only recorded without dates.
    pub span: Option<Span>,
}

/// The current period, the last complete one, and the one it is compared with. `None` if a period
/// is not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// People in the running one, so far.
    pub current: Option<u64>,
    /// People in the last complete one.
    pub last: Option<u64>,
    /// People in the period it is compared with: the week or month before, or the same weekday a
    /// week before.
    pub before: Option<u64>,
    /// Whether that period is fully recorded.
    pub known: bool,
}

impl Recent {
    /// Returns the change between the two complete periods, as a share of the earlier one. `None`
    /// if that is 0, is not fully recorded, or either is not recorded. The current period is never
    /// compared.
    pub fn change(&self) -> Option<f64> {
        change(self.before.filter(|_| self.known)?, self.last?)
    }
}

impl Exports for Overview {
    fn title(&self) -> String {
        "Events".to_owned()
    }

    fn name(&self) -> Vec<String> {
        vec!["events".to_owned(), self.running.day.to_string()]
    }

    fn values(&self) -> usize {
        self.entries.iter().map(|entry| entry.days.len()).sum()
    }

    fn may_include_later_marks(&self) -> bool {
        self.may_include_later_marks
    }

    /// An event a row: people in the last complete day, week and month, and in the running ones.
    fn wide(&self) -> Frame {
        let mut frame = Frame::new([
            "event",
            "last_day",
            "last_week",
            "last_month",
            "day_so_far",
            "week_so_far",
            "month_so_far",
            "ever",
            "first",
            "last",
        ]);
        for entry in &self.entries {
            let span = |pick: fn(Span) -> Period| {
                let period = entry.span.map(|span| pick(span).to_string());
                Value::from(period.map(Value::Word))
            };
            frame.push(vec![
                Value::Text(entry.event.to_string()),
                entry.day.last.into(),
                entry.week.last.into(),
                entry.month.last.into(),
                entry.day.current.into(),
                entry.week.current.into(),
                entry.month.current.into(),
                entry.ever.into(),
                span(|span| span.first),
                span(|span| span.last),
            ]);
        }
        frame
    }

    /// A row for each event and each of the last 30 days.
    fn tidy(&self) -> Frame {
        let mut frame = Frame::new(["event", "day", "people"]);
        for entry in &self.entries {
            for (back, people) in entry.days.iter().rev().enumerate().rev() {
                let back = i64::try_from(back).expect("there are 30 days");
                let Ok(day) = self.running.day.shift(-back) else {
                    continue;
                };
                let [start, _] = day.iso_bounds();
                frame.push(vec![
                    Value::Text(entry.event.to_string()),
                    Value::Word(start),
                    (*people).into(),
                ]);
            }
        }
        frame
    }
}
