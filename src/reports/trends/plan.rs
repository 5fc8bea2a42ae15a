//! Plans the counts of trends, and builds the answer from them.

use std::convert::Infallible;

use crate::calendar::{Grain, Period, Zone};
use crate::reports::coverage::State;
use crate::reports::error::QueryError;
use crate::reports::first_recorded::{Beginning, dated};
use crate::reports::range::Range;
use crate::reports::report::{Context, Report, Request, Results};
use crate::reports::rolling::WindowUnions;
use crate::reports::trends::lines::{Lines, Point, Series};
use crate::reports::trends::rolling::Rolling;
use crate::sets::{CountId, Counts, NodeId, Plan, Segment};
use crate::stats::rate;

/// The maximum number of segments.
pub const MAX_SERIES: usize = 6;

/// Asks how many users are in each of some segments, period by period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trends {
    /// The segments, 1–[`MAX_SERIES`]. Each has dated events.
    pub segments: Vec<Segment>,
    /// The periods.
    pub range: Range,
    /// Counts the users of the window that ends with each period, which is a day.
    pub rolling: Option<Rolling>,
}

/// A planned [`Trends`].
#[derive(Debug, Clone)]
pub struct TrendsQuestion {
    grain: Grain,
    zone: Zone,
    rolling: Option<Rolling>,
    series: Vec<AskedSeries>,
    data_ends: Option<Period>,
    may_include_later_marks: bool,
    /// The counts of periods that are not recorded.
    unlisted: Vec<CountId>,
}

/// The counts of one segment among the plan's roots.
#[derive(Debug, Clone)]
struct AskedSeries {
    segment: Segment,
    begins: Beginning,
    is_on_the_same_day: bool,
    points: Vec<AskedPoint>,
    /// For windows of 28 days: each day, from the first day of the first window.
    days: Vec<CountId>,
}

/// The count of one period, `None` if it is not recorded.
#[derive(Debug, Clone)]
struct AskedPoint {
    period: Period,
    state: State,
    people: Option<CountId>,
}

impl Report for Trends {
    type Planned = TrendsQuestion;
    type Answer = Lines;

    fn zone(&self) -> Zone {
        self.range.zone
    }

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<TrendsQuestion, QueryError> {
        self.check()?;
        let coverage = context.coverage;
        let periods = self.range.periods(coverage)?;
        let mut question = TrendsQuestion {
            grain: self.range.grain,
            zone: self.range.zone,
            rolling: self.rolling,
            series: Vec::with_capacity(self.segments.len()),
            data_ends: coverage.data_ends(self.range.grain),
            may_include_later_marks: false,
            unlisted: Vec::new(),
        };
        for segment in &self.segments {
            let expanded = context.sets().expand(segment)?;
            if expanded.is_undated() {
                return Err(wrong(
                    "event",
                    format!("`{segment}` has no dates, so it has no trend: name a dated event"),
                ));
            }
            question.may_include_later_marks |=
                context.may_include_later(dated([&expanded]), &periods);
            question.ask(&mut request.plan, segment, &expanded, &periods, context)?;
        }
        Ok(question)
    }

    fn is_stale(planned: &TrendsQuestion, results: &Results) -> bool {
        results.counts.any(&planned.unlisted)
    }

    fn answer(planned: TrendsQuestion, results: &Results) -> Lines {
        planned.lines(&results.counts)
    }
}

fn wrong(field: &'static str, message: String) -> QueryError {
    QueryError::Field { field, message }
}

impl Trends {
    fn check(&self) -> Result<(), QueryError> {
        let count = self.segments.len();
        if !(1..=MAX_SERIES).contains(&count) {
            let message = format!("{count} segments: ask for 1 to {MAX_SERIES}");
            return Err(wrong("event", message));
        }
        let mut earlier = self.segments.iter().enumerate();
        if let Some((_, twice)) = earlier.find(|(at, s)| self.segments[..*at].contains(s)) {
            let message = format!("`{twice}` is given twice; remove one of them");
            return Err(wrong("event", message));
        }
        if self.rolling.is_some() && self.range.grain != Grain::Day {
            let message = "a rolling window ends on each day: ask by day, or without `rolling`";
            return Err(wrong("rolling", message.to_owned()));
        }
        Ok(())
    }
}

impl TrendsQuestion {
    fn ask(
        &mut self,
        plan: &mut Plan,
        segment: &Segment,
        expanded: &Segment,
        periods: &[Period],
        context: &Context<'_>,
    ) -> Result<(), QueryError> {
        let length = self.rolling.map_or(1, Rolling::days);
        let first = *periods.first().expect("there is at least one period");
        let earliest = first
            .shift(1 - i64::from(length))
            .map_err(|error| QueryError::Date {
                field: "from",
                error,
            })?;
        let count = u32::try_from(periods.len()).expect("at most 400 periods");
        let units: Vec<Period> = earliest.range(count + length - 1).collect();
        let mut nodes: Vec<NodeId> = Vec::with_capacity(units.len());
        for unit in &units {
            nodes.push(plan.add(&expanded.at(*unit, context.catalogue)?)?);
        }
        let length = usize::try_from(length).expect("a window has at most 30 days");
        let mut unions = WindowUnions::new(length);
        let node = |_: &mut Plan, place: usize| Ok::<_, Infallible>(nodes[place]);
        let coverage = &context.covering(&dated([expanded]));
        let begins = Beginning::of(expanded, context.catalogue, coverage);
        let mut points = Vec::with_capacity(periods.len());
        for at in 0..periods.len() {
            let Ok(window) = unions.union(plan, at, node);
            let (from, until) = (units[at], units[at + length - 1]);
            let state = begins.state(from, until, coverage);
            let is_recorded = !matches!(state, State::Future | State::NotRecorded);
            if !is_recorded && !expanded.has_function() {
                self.unlisted.push(plan.count(window));
            }
            points.push(AskedPoint {
                period: until,
                state,
                people: is_recorded.then(|| plan.count(window)),
            });
        }
        let days = match self.rolling {
            Some(Rolling::FourWeeks) => nodes,
            _ => Vec::new(),
        };
        self.series.push(AskedSeries {
            segment: segment.clone(),
            begins,
            is_on_the_same_day: self.rolling.is_some() && !expanded.is_union_of_units(),
            points,
            days: days.into_iter().map(|day| plan.count(day)).collect(),
        });
        Ok(())
    }

    fn lines(self, counts: &Counts) -> Lines {
        Lines {
            grain: self.grain,
            zone: self.zone,
            rolling: self.rolling,
            series: self
                .series
                .into_iter()
                .map(|asked| asked.series(counts))
                .collect(),
            data_ends: self.data_ends,
            may_include_later_marks: self.may_include_later_marks,
        }
    }
}

impl AskedSeries {
    fn series(self, counts: &Counts) -> Series {
        let point = |(at, asked): (usize, &AskedPoint)| {
            let people = asked.people.map(|id| counts[id]);
            let window = self.days.iter().skip(at).take(28);
            let total: u64 = window.map(|id| counts[*id]).sum();
            let is_sticky = !self.days.is_empty() && asked.state == State::Complete;
            let all = people.filter(|_| is_sticky).map(|people| people * 28);
            Point {
                period: asked.period,
                state: asked.state,
                people,
                stickiness: all.and_then(|all| rate(total, all)),
            }
        };
        Series {
            points: self.points.iter().enumerate().map(point).collect(),
            segment: self.segment,
            begins: self.begins.period(),
            is_on_the_same_day: self.is_on_the_same_day,
        }
    }
}
