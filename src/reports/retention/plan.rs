//! Plans the counts of a retention question, and builds the table from them.

use std::collections::BTreeSet;
use std::ops::Range;

use chrono::{DateTime, Utc};

use crate::calendar::{Period, Zone};
use crate::reports::clamps::Clamps;
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::first_recorded::{Recorded, dated};
use crate::reports::report::{Context, Report, Request, Results, plan_at};
use crate::reports::retention::query::{Measure, Query, Window};
use crate::reports::retention::table::{Cell, Number, Row, Table, are_independent, averages};
use crate::reports::rolling::WidthUnions;
use crate::sets::{CountId, Counts, EventName, Labels, NodeId, Plan, Set};

/// A query with its cohorts fixed, and the plan that answers it.
#[derive(Debug, Clone)]
pub struct Question {
    query: Query,
    coverage: Coverage,
    cohorts: Vec<Asked>,
    distinct: CountId,
    distinct_complete: CountId,
    /// The counts of the periods that are not recorded.
    unlisted: Vec<CountId>,
    recorded: Recorded,
    labels: Labels,
}

/// The counts of one cohort among the plan's roots.
#[derive(Debug, Clone)]
struct Asked {
    period: Period,
    state: State,
    /// `None` where the cohort is not recorded.
    size: Option<CountId>,
    cells: Vec<AskedCell>,
}

/// The count of one cell that has begun.
#[derive(Debug, Clone, Copy)]
struct AskedCell {
    /// The first period of its column.
    period: Period,
    state: State,
    /// `None` where the cell is not recorded.
    count: Option<Counted<CountId>>,
}

/// A set whose count gives that of a cell.
#[derive(Debug, Clone, Copy)]
enum Counted<T> {
    /// Those who came back.
    Returned(T),
    /// Those of the cohort who did not: to remove each period's people from what is left takes one
    /// operation a cell, whose result need not be stored. To collect them takes two.
    StayedAway(T),
}

impl<T> Counted<T> {
    fn map<U>(self, to: impl FnOnce(T) -> U) -> Counted<U> {
        match self {
            Counted::Returned(set) => Counted::Returned(to(set)),
            Counted::StayedAway(set) => Counted::StayedAway(to(set)),
        }
    }
}

impl Report for Query {
    type Planned = Question;
    type Answer = Table;

    fn zone(&self) -> Option<Zone> {
        Some(self.zone)
    }

    fn plan(&self, request: &mut Request, context: &Context<'_>) -> Result<Question, QueryError> {
        let expanded = self.expanded(context.sets())?;
        let question = Question::new(&mut request.plan, &expanded, context)?;
        // The table shows saved segments by their names.
        Ok(question.of(Query {
            zone: context.coverage.zone(),
            ..self.clone()
        }))
    }

    fn is_stale(planned: &Question, results: &Results) -> bool {
        planned.contradicts_coverage(&results.counts)
    }

    fn answer(planned: Question, results: &Results) -> Table {
        planned.table(&results.counts)
    }
}

impl Query {
    /// Checks the limits, the dates and the length of the segments, as of `now`, without a store.
    ///
    /// # Errors
    /// If a limit is exceeded or the dates contradict each other.
    pub fn check(&self, now: DateTime<Utc>) -> Result<(), QueryError> {
        plan_at(self, now).map(drop)
    }
}

impl Question {
    /// Adds the counts of a query to `plan`. Saved segments are already expanded.
    fn new(plan: &mut Plan, query: &Query, context: &Context<'_>) -> Result<Self, QueryError> {
        let mut planner = Planner::new(query, context, &[])?;
        let rows = 0..planner.periods().len();
        let (question, _) = planner.question(plan, query, rows, &mut |plan, period| {
            let set = query.cohort.at(period, context.catalogue)?;
            Ok(plan.add(&set)?)
        })?;
        Ok(question)
    }

    /// Returns the oldest cohort; the others follow. `None` without cohorts.
    pub fn first(&self) -> Option<Period> {
        self.cohorts.first().map(|cohort| cohort.period)
    }

    /// The same with its segments as they are shown.
    pub(in crate::reports) fn of(self, query: Query) -> Self {
        Question { query, ..self }
    }

    /// Whether a period that is not recorded has users. Then the coverage is older than the counts.
    pub(in crate::reports) fn contradicts_coverage(&self, counts: &Counts) -> bool {
        counts.any(&self.unlisted)
    }

    /// The table, from the counts of the plan.
    pub fn table(&self, counts: &Counts) -> Table {
        let cols = self.query.cols() as usize;
        let mut clamps = Clamps::default();
        let rows: Vec<Row> = self
            .cohorts
            .iter()
            .map(|asked| {
                let size = asked.size.map(|id| counts[id]);
                let mut cells = vec![Cell::Blank; cols];
                // The people of a nested column are among those of the column before it.
                let is_nested = self.query.measure.is_nested();
                let mut most = size;
                if size != Some(0) {
                    for (cell, asked) in cells.iter_mut().zip(&asked.cells) {
                        *cell = match size.zip(asked.count) {
                            Some((size, count)) => {
                                let most = most.get_or_insert(size);
                                let retained = match count {
                                    Counted::Returned(id) => clamps.at_most(counts[id], *most),
                                    Counted::StayedAway(id) => {
                                        size - clamps.at_most(counts[id], size)
                                    }
                                };
                                if is_nested {
                                    *most = retained;
                                }
                                Cell::Number(Number {
                                    period: asked.period,
                                    state: asked.state,
                                    retained,
                                    size,
                                })
                            }
                            None => Cell::NotRecorded(asked.period),
                        };
                    }
                }
                Row {
                    period: asked.period,
                    is_first_recorded: self.recorded.is_first(asked.period),
                    state: asked.state,
                    size,
                    cells,
                }
            })
            .collect();
        let entries = rows.iter().map(Row::people).sum();
        let complete_entries: u64 = rows
            .iter()
            .filter(|row| row.is_averaged())
            .map(Row::people)
            .sum();
        let complete_people = clamps.at_most(counts[self.distinct_complete], complete_entries);
        let independent = are_independent(complete_entries, complete_people);
        let averages = averages(&rows, cols, self.query.averaging, independent);
        let people = clamps.at_most(counts[self.distinct], entries);
        clamps.report(&format_args!(
            "{} → {}",
            self.query.cohort, self.query.returning
        ));
        // The catalogue may be older than the counts.
        let nobody_before = |first: &Period| {
            rows.iter()
                .all(|row| row.people() == 0 || !row.period.is_before(*first))
        };
        let recorded = Recorded {
            cohort: self.recorded.cohort.filter(nobody_before),
            firsts: self.recorded.firsts.clone(),
            events: self.recorded.events.clone(),
            later: self.recorded.later,
        };
        let grain = self.query.grain;
        Table {
            query: self.query.clone(),
            now: self.coverage.now(),
            current: self.coverage.current(grain),
            begins: self.coverage.first(grain),
            data_ends: self.coverage.data_ends(grain),
            entries,
            people,
            complete_entries,
            complete_people,
            rows,
            averages,
            recorded,
            labels: self.labels.clone(),
        }
    }
}

/// Plans tables that share their cohorts' periods, their columns and the returning side: that of a
/// question, and those of its groups.
pub(in crate::reports) struct Planner<'a> {
    context: &'a Context<'a>,
    coverage: Coverage,
    periods: Vec<Period>,
    returns: Returns<'a>,
}

/// The sets behind a planned table.
#[derive(Debug, Clone)]
pub(in crate::reports) struct Members {
    /// The cohorts, `None` where they are not recorded.
    pub cohorts: Vec<Option<NodeId>>,
    /// Everybody.
    pub all: NodeId,
    /// Everybody in the cohorts behind the averages.
    pub complete: NodeId,
}

impl<'a> Planner<'a> {
    /// Fixes the cohorts of a query. Its saved segments are already expanded. The tables also use
    /// dated bitmaps of the events in `also`.
    ///
    /// # Errors
    /// If a limit is exceeded or the dates contradict each other.
    pub fn new(
        query: &'a Query,
        context: &'a Context<'a>,
        also: &[&EventName],
    ) -> Result<Self, QueryError> {
        let names = [&dated([&query.cohort, &query.returning]), also].concat();
        let coverage = context.covering(&names);
        let periods = query.cohorts(&coverage)?;
        let returns = Returns::new(query, context, coverage.clone(), periods.first().copied());
        Ok(Planner {
            context,
            coverage,
            periods,
            returns,
        })
    }

    /// What the store covers of the events of all tables.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The periods of all cohorts, oldest first.
    pub fn periods(&self) -> &[Period] {
        &self.periods
    }

    /// Adds the counts of a table to `plan`: of the cohorts in `rows`, in order, whose users `who`
    /// adds. `query` is the table's question, expanded; it differs from the planner's in the
    /// cohort.
    ///
    /// # Errors
    /// If its sets are too long.
    pub fn question(
        &mut self,
        plan: &mut Plan,
        query: &Query,
        rows: Range<usize>,
        who: &mut dyn FnMut(&mut Plan, Period) -> Result<NodeId, QueryError>,
    ) -> Result<(Question, Members), QueryError> {
        let context = self.context;
        let coverage = &self.coverage;
        let columns = query.cols() as usize;
        // Cells, and two sets for each period; more if a side has several events.
        plan.reserve(rows.len() * (columns + 3) + columns);
        let sides = [&query.cohort, &query.returning];
        let recorded = Recorded::of(sides, context.catalogue, coverage);
        let mut cohorts = Vec::with_capacity(rows.len());
        let mut members = Vec::with_capacity(rows.len());
        let mut complete = Vec::new();
        let mut rest = Vec::new();
        let mut unrecorded = BTreeSet::new();
        for row in rows {
            let period = self.periods[row];
            let windows = query.windows(period, coverage);
            let begun = (0..=query.last_offset()).filter_map(|k| period.shift(k.into()).ok());
            unrecorded.extend(
                begun
                    .take_while(|period| *period <= coverage.current(query.grain))
                    .filter(|period| !coverage.is_recorded(*period)),
            );
            let state = coverage.state_of(period);
            let asked = |window: &Window, count| AskedCell {
                period: period
                    .shift(window.column.first.into())
                    .expect("the column has begun"),
                state: window.state,
                count,
            };
            if state == State::NotRecorded {
                let cells = windows.iter().map(|window| asked(window, None)).collect();
                cohorts.push(Asked {
                    period,
                    state,
                    size: None,
                    cells,
                });
                members.push(None);
                continue;
            }
            let who = who(plan, period)?;
            members.push(Some(who));
            let size = Some(plan.count(who));
            let nodes = self.returns.cells(plan, row, who, &windows)?;
            let cells: Vec<AskedCell> = windows
                .iter()
                .zip(nodes)
                .map(|(window, node)| {
                    let node = node.filter(|_| window.state != State::NotRecorded);
                    asked(window, node.map(|node| node.map(|node| plan.count(node))))
                })
                .collect();
            let is_complete = cells.iter().any(|cell| cell.state == State::Complete)
                && !recorded.is_first(period);
            if is_complete {
                complete.push(who)
            } else {
                rest.push(who)
            }
            cohorts.push(Asked {
                period,
                state,
                size,
                cells,
            });
        }
        let complete = plan.or(complete);
        rest.push(complete);
        let all = plan.or(rest);
        let distinct = plan.count(all);
        let distinct_complete = plan.count(complete);
        // These counts are 0 unless the catalogue is out of date.
        let names = dated(sides);
        let mut unlisted = Vec::new();
        for period in unrecorded.into_iter().filter(|_| !names.is_empty()) {
            let anybody = names.iter().map(|name| Set::event_in(name, period));
            unlisted.push(plan.count_set(&Set::Or(anybody.collect()))?);
        }
        let current = coverage.current(query.grain);
        let is_shown = cohorts.iter().any(|asked| {
            let mut cells = asked.cells.iter();
            asked.period == current || cells.any(|cell| cell.period == current)
        });
        let recorded = Recorded {
            later: is_shown && context.may_include_later(names, &[current]),
            ..recorded
        };
        let mut names = query.cohort.names();
        names.extend(query.returning.names());
        names.extend(recorded.events.iter().map(|(name, _)| name));
        let labels = context.labels.of(names);
        let members = Members {
            cohorts: members,
            all,
            complete,
        };
        let question = Question {
            query: query.clone(),
            coverage: coverage.clone(),
            cohorts,
            distinct,
            distinct_complete,
            unlisted,
            recorded,
            labels,
        };
        Ok((question, members))
    }
}

/// The sets of the returning users, each built once: many cohorts come back in the same period.
struct Returns<'a> {
    query: &'a Query,
    context: &'a Context<'a>,
    coverage: Coverage,
    /// The first cohort; periods are counted from it.
    first: Option<Period>,
    /// The set of each period that was asked for; `None` where it is not recorded or has not begun.
    known: Vec<Option<Option<NodeId>>>,
    /// The unions over the periods of brackets.
    brackets: WidthUnions,
}

impl<'a> Returns<'a> {
    fn new(
        query: &'a Query,
        context: &'a Context<'a>,
        coverage: Coverage,
        first: Option<Period>,
    ) -> Self {
        Returns {
            query,
            context,
            coverage,
            first,
            known: Vec::new(),
            brackets: WidthUnions::default(),
        }
    }

    /// Returns the set of the period that comes `place` periods after the first cohort. `None` if
    /// it is not recorded or has not begun.
    fn at(&mut self, plan: &mut Plan, place: usize) -> Result<Option<NodeId>, QueryError> {
        if self.known.len() <= place {
            self.known.resize(place + 1, None);
        }
        if let Some(known) = self.known[place] {
            return Ok(known);
        }
        let by = i64::try_from(place).expect("a table is small");
        let period = self.first.and_then(|first| first.shift(by).ok());
        let period = period.filter(|period| self.coverage.is_recorded(*period));
        let node = match period {
            Some(period) => {
                let set = self.query.returning.at(period, self.context.catalogue)?;
                Some(plan.add(&set)?)
            }
            None => None,
        };
        self.known[place] = Some(node);
        Ok(node)
    }

    /// Returns, for each window of a row, the set to count. `None` where none of its periods is
    /// recorded.
    fn cells(
        &mut self,
        plan: &mut Plan,
        row: usize,
        who: NodeId,
        windows: &[Window],
    ) -> Result<Vec<Option<Counted<NodeId>>>, QueryError> {
        if self.query.brackets.is_some() {
            return self.bracket_cells(plan, row, who, windows);
        }
        match self.query.measure {
            Measure::On => {
                let came_back = (0..windows.len()).map(|k| {
                    let back = self.at(plan, row + k)?;
                    Ok(back.map(|back| Counted::Returned(plan.and([who, back]))))
                });
                came_back.collect()
            }
            Measure::OnOrAfter => {
                let mut away = None;
                let mut cells = vec![None; windows.len()];
                for (k, cell) in cells.iter_mut().enumerate().rev() {
                    if let Some(back) = self.at(plan, row + k)? {
                        away = Some(plan.diff(away.unwrap_or(who), back));
                    }
                    *cell = away.map(Counted::StayedAway);
                }
                Ok(cells)
            }
            Measure::OnOrBefore => {
                let mut away = None;
                let cells = (0..windows.len()).map(|k| {
                    let back = self.at(plan, row + k)?;
                    if k == 0 {
                        return Ok(back.map(|back| Counted::Returned(plan.and([who, back]))));
                    }
                    if let Some(back) = back {
                        away = Some(plan.diff(away.unwrap_or(who), back));
                    }
                    Ok(away.map(Counted::StayedAway))
                });
                cells.collect()
            }
            Measure::Unbroken => {
                let mut unbroken = who;
                let cells = (0..windows.len()).map(|k| {
                    if k > 0 {
                        // Where nothing is recorded, nobody is known to have come back.
                        let back = self.at(plan, row + k)?.unwrap_or_else(|| plan.empty());
                        unbroken = plan.and([unbroken, back]);
                    }
                    Ok(Some(Counted::Returned(unbroken)))
                });
                cells.collect()
            }
        }
    }

    fn bracket_cells(
        &mut self,
        plan: &mut Plan,
        row: usize,
        who: NodeId,
        windows: &[Window],
    ) -> Result<Vec<Option<Counted<NodeId>>>, QueryError> {
        let mut brackets = std::mem::take(&mut self.brackets);
        let cells = windows.iter().map(|window| {
            let counted = self.query.counted(window.column);
            let first = row + counted.first as usize;
            let mut set = |plan: &mut Plan, place| {
                let back = self.at(plan, place)?;
                Ok::<_, QueryError>(back.unwrap_or_else(|| plan.empty()))
            };
            let back = brackets.union(plan, first, counted.width() as usize, &mut set)?;
            Ok(Some(Counted::Returned(plan.and([who, back]))))
        });
        let cells = cells.collect();
        self.brackets = brackets;
        cells
    }
}
