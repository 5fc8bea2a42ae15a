//! Plans the counts of a retention question, and builds the table from them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};

use crate::calendar::Period;
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::first_recorded::{Recorded, dated};
use crate::reports::report::{Context, Report, Request, Results, plan_at};
use crate::reports::retention::query::{Query, Window};
use crate::reports::retention::table::{Average, Cell, Number, Row, Table};
use crate::sets::{CountId, Counts, Labels, NodeId, Plan, Set};

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
    /// `None` where a cell is not recorded.
    cells: Vec<(Period, State, Option<CountId>)>,
}

impl Report for Query {
    type Planned = Question;
    type Answer = Table;

    fn plan(&self, request: &mut Request, context: &Context<'_>) -> Result<Question, QueryError> {
        let expanded = self.expanded(context.sets())?;
        let question = Question::new(&mut request.plan, &expanded, context)?;
        // The table shows saved segments by their names.
        Ok(Question {
            query: self.clone(),
            ..question
        })
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
        let coverage = context.coverage;
        let periods = query.cohorts(coverage)?;
        let columns = query.cols() as usize;
        // Cells, and two sets for each period; more if a side has several events.
        plan.reserve(periods.len() * (columns + 3) + columns);
        let sides = [query.cohort.clone(), query.returning.clone()];
        let recorded = Recorded::of([&sides[0], &sides[1]], context.catalogue, coverage.now());
        let mut cohorts = Vec::with_capacity(periods.len());
        let mut complete = Vec::new();
        let mut rest = Vec::new();
        let mut unrecorded = BTreeSet::new();
        // Each period is come back to by many cohorts: its set is built once. By how many periods
        // it is after the first.
        let mut returning: Vec<Option<NodeId>> = vec![None; periods.len() + columns];
        for (row, period) in periods.into_iter().enumerate() {
            let windows = query.windows(period, coverage);
            unrecorded.extend(
                windows
                    .iter()
                    .filter(|window| !window.is_recorded)
                    .map(|window| window.from),
            );
            let state = coverage.state_of(period);
            if state == State::NotRecorded {
                let cells = windows
                    .iter()
                    .map(|window| (window.from, window.state, None))
                    .collect();
                cohorts.push(Asked {
                    period,
                    state,
                    size: None,
                    cells,
                });
                continue;
            }
            let who = plan.add(&query.cohort.at(period, context.catalogue)?)?;
            let size = Some(plan.count(who));
            let mut returned: Vec<Option<NodeId>> = Vec::with_capacity(windows.len());
            for (window, known) in windows.iter().zip(&mut returning[row..]) {
                if !window.is_recorded {
                    returned.push(None);
                    continue;
                }
                let back = match *known {
                    Some(back) => back,
                    None => *known
                        .insert(plan.add(&query.returning.at(window.from, context.catalogue)?)?),
                };
                returned.push(Some(plan.and([who, back])));
            }
            let nodes = suffix_unions(plan, &windows, returned);
            let cells: Vec<_> = windows
                .iter()
                .zip(nodes)
                .map(|(window, node)| {
                    let node = node.filter(|_| window.state != State::NotRecorded);
                    (window.from, window.state, node.map(|node| plan.count(node)))
                })
                .collect();
            let is_complete = cells.iter().any(|(_, state, _)| *state == State::Complete)
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
        let names = dated([&sides[0], &sides[1]]);
        let mut unlisted = Vec::new();
        for period in unrecorded.into_iter().filter(|_| !names.is_empty()) {
            let anybody = names.iter().map(|name| Set::event_in(name, period));
            unlisted.push(plan.count_set(&Set::Or(anybody.collect()))?);
        }
        let current = coverage.current(query.grain);
        let is_shown = cohorts.iter().any(|asked| {
            let mut cells = asked.cells.iter();
            asked.period == current || cells.any(|(period, ..)| *period == current)
        });
        let recorded = Recorded {
            later: is_shown && context.may_include_later(names, &[current]),
            ..recorded
        };
        let mut names = query.cohort.names();
        names.extend(query.returning.names());
        names.extend(recorded.events.iter().map(|(name, _)| name));
        let labels = names
            .into_iter()
            .filter_map(|name| Some((name.clone(), context.labels.get(name)?.clone())))
            .collect();
        Ok(Question {
            query: query.clone(),
            coverage: coverage.clone(),
            cohorts,
            distinct,
            distinct_complete,
            unlisted,
            recorded,
            labels,
        })
    }

    /// Returns the oldest cohort; the others follow. `None` without cohorts.
    pub fn first(&self) -> Option<Period> {
        self.cohorts.first().map(|cohort| cohort.period)
    }

    /// Whether a period that is not recorded has users. Then the coverage is older than the counts.
    fn contradicts_coverage(&self, counts: &Counts) -> bool {
        self.unlisted.iter().any(|id| counts[*id] > 0)
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
                if size != Some(0) {
                    for (cell, (period, state, root)) in cells.iter_mut().zip(&asked.cells) {
                        *cell = match (size, root) {
                            (Some(size), Some(root)) => {
                                let retained = clamps.at_most(counts[*root], size);
                                Cell::Number(Number {
                                    period: *period,
                                    state: *state,
                                    retained,
                                    size,
                                })
                            }
                            _ => Cell::NotRecorded(*period),
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
        let disjoint = complete_people == complete_entries;
        let averages = (0..cols)
            .map(|k| Average::of(&rows, k, self.query.averaging, disjoint))
            .collect();
        let people = clamps.at_most(counts[self.distinct], entries);
        clamps.report(&self.query);
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

/// How many counts contradicted another count of the same answer, in this process.
static CLAMPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many counts contradicted another count of the same answer since the process started:
/// more people came back than the cohort has, or there were more people than entries. Each was
/// reduced to the possible maximum and logged.
pub fn clamped_counts() -> u64 {
    CLAMPED.load(Ordering::Relaxed)
}

/// The contradictions of one table.
#[derive(Debug, Default)]
struct Clamps {
    counts: u64,
}

impl Clamps {
    /// Limits the count of a part to that of the whole.
    fn at_most(&mut self, part: u64, whole: u64) -> u64 {
        self.counts += u64::from(part > whole);
        part.min(whole)
    }

    fn report(self, query: &Query) {
        if self.counts > 0 {
            CLAMPED.fetch_add(self.counts, Ordering::Relaxed);
            tracing::warn!(
                counts = self.counts,
                cohort = %query.cohort,
                returning = %query.returning,
                "an answer contradicts itself: it mixes two moments of the store, and was reduced to what is possible"
            );
        }
    }
}

/// Returns, for each window, the union of the nodes of its periods, given one node for each
/// recorded `from`. Windows of more than one period end together, so each is its first period plus
/// the next window.
fn suffix_unions(
    plan: &mut Plan,
    windows: &[Window],
    nodes: Vec<Option<NodeId>>,
) -> Vec<Option<NodeId>> {
    let mut unions = nodes;
    for k in (0..unions.len().saturating_sub(1)).rev() {
        if windows[k].until > windows[k].from {
            unions[k] = match (unions[k], unions[k + 1]) {
                (Some(own), Some(behind)) => Some(plan.or([own, behind])),
                (own, behind) => own.or(behind),
            };
        }
    }
    unions
}
