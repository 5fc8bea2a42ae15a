//! The trend of a segment: its number of people, period by period.

use std::collections::HashSet;

use crate::calendar::{Grain, Period, Zone};
pub use crate::reports::activity::{Activity, Daily, Point};
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::export::Exports;
use crate::reports::first_recorded::dated;
use crate::reports::frame::{Frame, Value, bounds};
use crate::reports::limits::MAX_PERIODS;
use crate::reports::report::{Context, Report, Request, Results};
use crate::reports::spans::{Span, change, compared};
use crate::sets::{CountId, Counts, Key, Plan, Segment, TooLarge};
use crate::stats::rate;

/// Asks how many people are in a segment in each of the last periods, up to the current one or the
/// one in which the data ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// Who is counted.
    pub segment: Segment,
    /// The length of a period.
    pub grain: Grain,
    /// How many periods, 1–[`MAX_PERIODS`].
    pub count: u32,
    /// The zone in which periods begin and end.
    pub zone: Zone,
}

impl Report for Trend {
    type Planned = TrendQuestion;
    type Answer = Activity;

    fn zone(&self) -> Option<Zone> {
        Some(self.zone)
    }

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<TrendQuestion, QueryError> {
        TrendQuestion::new(&mut request.plan, self, context)
    }

    fn answer(planned: TrendQuestion, results: &Results) -> Activity {
        planned.activity(&results.counts)
    }
}

/// What a store has to count for an [`Activity`].
#[derive(Debug, Clone)]
pub struct TrendQuestion {
    segment: Segment,
    grain: Grain,
    coverage: Coverage,
    may_include_later_marks: bool,
    span: Option<Span>,
    /// Oldest first, preceded by the periods that the first one is compared with.
    periods: Vec<AskedPeriod>,
    shown: usize,
}

/// The counts of one period among the plan's roots. `None` without a bitmap.
#[derive(Debug, Clone)]
struct AskedPeriod {
    period: Period,
    people: Option<CountId>,
    /// Of each complete day in it.
    days: Vec<Option<CountId>>,
}

impl TrendQuestion {
    fn new(plan: &mut Plan, trend: &Trend, context: &Context<'_>) -> Result<Self, QueryError> {
        let Trend {
            segment,
            grain,
            count,
            ..
        } = trend;
        let grain = *grain;
        let count = *count;
        if !(1..=MAX_PERIODS).contains(&count) {
            return Err(QueryError::Field {
                field: "last",
                message: format!("{count} periods: ask for 1 to {MAX_PERIODS}"),
            });
        }
        let expanded = context.sets().expand(segment)?;
        let coverage = &context.covering(&dated([&expanded]));
        let existing: HashSet<&Key> = expanded
            .names()
            .into_iter()
            .flat_map(|name| context.catalogue.of(name))
            .collect();
        let span = Span::of_in(coverage.zone(), existing.iter().copied(), coverage.now());
        let current = coverage
            .last(grain)
            .unwrap_or_else(|| coverage.current(grain));
        let first = current.shift(1 - i64::from(count))?;
        let mut ask = |period: Period| {
            if !coverage.is_recorded(period) {
                return Ok(None);
            }
            let set = expanded.at(period, context.catalogue)?;
            // A set without a complement is empty if its bitmaps do not exist.
            set.keys()
                .into_iter()
                .any(|key| existing.contains(key))
                .then(|| plan.count_set(&set))
                .transpose()
        };
        let mut periods = Vec::new();
        let earlier = (1..=i64::from(compared(grain)))
            .rev()
            .filter_map(|back| first.shift(-back).ok());
        for period in earlier.chain(first.range(count)) {
            let people = ask(period)?;
            let whole = span.is_some_and(|span| span.covers(period));
            let daily = matches!(grain, Grain::Week(_) | Grain::Month)
                && period >= first
                && people.is_some()
                && whole;
            let days = if daily {
                period.split(Grain::Day).collect()
            } else {
                Vec::new()
            };
            let days = days
                .into_iter()
                .filter(|day| coverage.state_of(*day) == State::Complete);
            periods.push(AskedPeriod {
                period,
                people,
                days: days.map(&mut ask).collect::<Result<_, TooLarge>>()?,
            });
        }
        let shown = usize::try_from(count).expect("at most 400 periods");
        let running = coverage.current(grain);
        let is_shown = periods.iter().any(|asked| asked.period == running);
        let names = dated([&expanded]);
        Ok(TrendQuestion {
            may_include_later_marks: is_shown && context.may_include_later(names, &[running]),
            segment: segment.clone(),
            grain,
            coverage: coverage.clone(),
            span,
            periods,
            shown,
        })
    }

    /// The activity, from the counts of the plan in order.
    fn activity(&self, counts: &Counts) -> Activity {
        // A missing bitmap has no users.
        let at = |id: Option<CountId>| id.map_or(0, |id| counts[id]);
        let mut points: Vec<Point> = Vec::with_capacity(self.periods.len());
        for asked in &self.periods {
            let people = at(asked.people);
            let state = self.coverage.state_of(asked.period);
            let distance = usize::try_from(compared(self.grain)).expect("at most 7");
            let back = points.len().checked_sub(distance);
            let before = back.and_then(|i| points.get(i)).filter(|before| {
                let complete = state == State::Complete && before.state == State::Complete;
                complete && self.span.is_some_and(|span| span.covers(before.period))
            });
            let change = before.and_then(|before| change(before.people, people));
            let total: u64 = asked.days.iter().map(|root| at(*root)).sum();
            let days = u64::try_from(asked.days.len()).expect("a period has few days");
            // If there are users in the month and none on its days, the bitmaps of the days were
            // deleted.
            let daily = rate(total, days)
                .filter(|_| total > 0)
                .map(|mean| Daily { mean, days });
            points.push(Point {
                period: asked.period,
                state,
                people,
                change,
                daily,
            });
        }
        points.drain(..points.len().saturating_sub(self.shown));
        Activity {
            segment: self.segment.clone(),
            grain: self.grain,
            now: self.coverage.now(),
            data_ends: self.coverage.data_ends(self.grain),
            may_include_later_marks: self.may_include_later_marks,
            span: self.span,
            points,
        }
    }
}

impl Exports for Activity {
    fn title(&self) -> String {
        format!("{}, people by {}", self.segment, self.grain)
    }

    /// `active_by_day_2026-10-25`, the date being the first period's.
    fn name(&self) -> Vec<String> {
        let mut parts = vec![self.segment.to_string(), "by".to_owned()];
        parts.push(self.grain.to_string());
        parts.extend(
            self.recorded()
                .first()
                .map(|point| point.period.to_string()),
        );
        parts
    }

    fn wide(&self) -> Frame {
        let mut frame = Frame::new([self.grain.as_str(), "people", "change", "state"]);
        for point in self.recorded() {
            frame.push(vec![
                Value::Word(point.period.label()),
                point.recorded_people().into(),
                point.change.map(Value::Share).into(),
                Value::word(point.state.as_str()),
            ]);
        }
        frame
    }

    /// Returns a row per period, oldest first, from the first recorded one. The state is
    /// `complete`, `in_progress` or `not_recorded` (without a number). Change and stickiness are
    /// unrounded shares: 0.1 is 10 % more.
    fn tidy(&self) -> Frame {
        let mut frame = Frame::new([
            "period_start",
            "period_end",
            "people",
            "state",
            "change",
            "mean_day",
            "stickiness",
        ]);
        for point in self.recorded() {
            let [start, end] = bounds(point.period);
            frame.push(vec![
                start,
                end,
                point.recorded_people().into(),
                Value::word(point.state.as_str()),
                point.change.into(),
                point.daily.map(|daily| daily.mean).into(),
                point.stickiness().into(),
            ]);
        }
        frame
    }

    fn may_include_later_marks(&self) -> bool {
        self.may_include_later_marks
    }

    fn segments(&self) -> Vec<&Segment> {
        vec![&self.segment]
    }

    fn is_empty(&self) -> bool {
        self.points.iter().all(|point| point.people == 0)
    }
}
