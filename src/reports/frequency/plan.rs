//! Plans the counts of a window, and builds the answer from them.

use chrono::NaiveDate;

use crate::calendar::{Grain, Period, WeekStart, Zone};
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::first_recorded::{Beginning, dated};
use crate::reports::frequency::habits::{Curve, Habits};
use crate::reports::frequency::window::Window;
use crate::reports::report::{Context, Report, Request, Results};
use crate::sets::{BitPlanes, CountId, Counts, NodeId, Plan, Segment, TooLarge};

/// Asks in how many periods of a window users are in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frequency {
    /// Who is counted. It has dated events.
    pub segment: Segment,
    /// The length of the window.
    pub window: Window,
    /// The window ends with the period that contains this date; by default with the last complete
    /// one.
    pub to: Option<NaiveDate>,
    /// How many complete weeks up to the end of a window of days are counted too, each as a window
    /// of its 7 days.
    pub weeks: u32,
    /// The day on which those weeks begin.
    pub week: WeekStart,
    /// The zone in which days and weeks begin and end.
    pub zone: Zone,
}

/// A planned [`Frequency`].
#[derive(Debug, Clone)]
pub struct FrequencyQuestion {
    asked: Frequency,
    window: AskedCurve,
    weeks: Vec<AskedCurve>,
    begins: Beginning,
    data_ends: Option<Period>,
    may_include_later_marks: bool,
    /// The counts of periods, if none of the window is recorded.
    unlisted: Vec<CountId>,
}

/// The counts of one window among the plan's roots.
#[derive(Debug, Clone)]
struct AskedCurve {
    from: Period,
    until: Period,
    state: State,
    /// In exactly 1, 2, … periods. `None` if the window is not recorded.
    exactly: Option<Vec<CountId>>,
}

impl Report for Frequency {
    type Planned = FrequencyQuestion;
    type Answer = Habits;

    fn zone(&self) -> Option<Zone> {
        Some(self.zone)
    }

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<FrequencyQuestion, QueryError> {
        let expanded = context.sets().expand(&self.segment)?;
        if expanded.is_undated() {
            let segment = &self.segment;
            return Err(QueryError::Field {
                field: "event",
                message: format!(
                    "`{segment}` has no dates, so it cannot be counted by days: name a dated event"
                ),
            });
        }
        let coverage = context.covering(&dated([&expanded]));
        let (from, until) = self.periods(&coverage)?;
        let begins = Beginning::of(&expanded, context.catalogue, &coverage);
        let mut planner = Planner {
            plan: &mut request.plan,
            segment: &expanded,
            begins,
            coverage: &coverage,
            context,
        };
        let mut unlisted = Vec::new();
        let window = planner.curve(from, until)?;
        if window.state == State::NotRecorded && !expanded.has_function() {
            unlisted = planner.each(from, until)?;
        }
        let mut weeks = Vec::new();
        for (from, until) in self.weeks_until(until) {
            if begins.state(from, until, &coverage) == State::Complete {
                weeks.push(planner.curve(from, until)?);
            }
        }
        let shown: Vec<Period> = periods(from, until).collect();
        Ok(FrequencyQuestion {
            asked: self.clone(),
            window,
            weeks,
            begins,
            data_ends: coverage.data_ends(self.window.grain()),
            may_include_later_marks: context.may_include_later(dated([&expanded]), &shown),
            unlisted,
        })
    }

    fn is_stale(planned: &FrequencyQuestion, results: &Results) -> bool {
        results.counts.any(&planned.unlisted)
    }

    fn answer(planned: FrequencyQuestion, results: &Results) -> Habits {
        let counts = &results.counts;
        Habits {
            segment: planned.asked.segment,
            window: planned.asked.window,
            week: planned.asked.week,
            curve: planned.window.curve(counts),
            weeks: planned
                .weeks
                .iter()
                .map(|week| week.curve(counts))
                .collect(),
            begins: planned.begins.period(),
            data_ends: planned.data_ends,
            may_include_later_marks: planned.may_include_later_marks,
        }
    }
}

impl Frequency {
    /// Returns the first and the last period of the window.
    fn periods(&self, coverage: &Coverage) -> Result<(Period, Period), QueryError> {
        let grain = self.window.grain();
        let dated = |error| QueryError::Date { field: "to", error };
        let until = match self.to {
            Some(to) => coverage.zone().of_date(grain, to).map_err(dated)?,
            None => {
                let newest = coverage.last(grain).unwrap_or(coverage.current(grain));
                newest.previous().map_err(dated)?
            }
        };
        let back = 1 - i64::from(self.window.length());
        Ok((until.shift(back).map_err(dated)?, until))
    }

    /// Returns the first and the last day of the weeks that are over by a day, oldest first.
    fn weeks_until(&self, until: Period) -> Vec<(Period, Period)> {
        if self.window.grain() != Grain::Day {
            return Vec::new();
        }
        let within = until.within(Grain::Week(self.week));
        let is_over = within.end() <= until.end();
        let last = if is_over {
            Some(within)
        } else {
            within.previous().ok()
        };
        let back = (0..i64::from(self.weeks)).rev();
        let weeks = back.filter_map(|back| last?.shift(-back).ok());
        let days = weeks.filter_map(|week| {
            let mut days = week.split(Grain::Day);
            Some((days.next()?, days.last()?))
        });
        days.collect()
    }
}

fn periods(from: Period, until: Period) -> impl Iterator<Item = Period> {
    let count = until.since(from).expect("both have the same grain") + 1;
    from.range(u32::try_from(count).expect("a window has at most 366 periods"))
}

/// Adds windows of one segment to a plan.
struct Planner<'a, 'c> {
    plan: &'a mut Plan,
    segment: &'a Segment,
    begins: Beginning,
    coverage: &'a Coverage,
    context: &'a Context<'c>,
}

impl Planner<'_, '_> {
    fn nodes(&mut self, from: Period, until: Period) -> Result<Vec<NodeId>, TooLarge> {
        let node = |period| {
            let set = self.segment.at(period, self.context.catalogue)?;
            self.plan.add(&set)
        };
        periods(from, until).map(node).collect()
    }

    fn each(&mut self, from: Period, until: Period) -> Result<Vec<CountId>, TooLarge> {
        let nodes = self.nodes(from, until)?;
        Ok(nodes
            .into_iter()
            .map(|node| self.plan.count(node))
            .collect())
    }

    fn curve(&mut self, from: Period, until: Period) -> Result<AskedCurve, TooLarge> {
        let state = self.begins.state(from, until, self.coverage);
        let mut exactly = None;
        if !matches!(state, State::Future | State::NotRecorded) {
            let nodes = self.nodes(from, until)?;
            let most = u32::try_from(nodes.len()).expect("a window has at most 366 periods");
            let planes = BitPlanes::new(self.plan, nodes);
            let sets = planes.exactly(self.plan, most);
            exactly = Some(sets.into_iter().map(|set| self.plan.count(set)).collect());
        }
        Ok(AskedCurve {
            from,
            until,
            state,
            exactly,
        })
    }
}

impl AskedCurve {
    fn curve(&self, counts: &Counts) -> Curve {
        let exactly = self.exactly.as_ref();
        Curve {
            from: self.from,
            until: self.until,
            state: self.state,
            exactly: exactly.map(|ids| ids.iter().map(|id| counts[*id]).collect()),
        }
    }
}
