//! Cohort retention: of the users who did A in a period, how many did B in each later one?
//!
//! [`Query`] → [`Query::at`] → [`Question`] with its [`Plan`] → counts from a store → [`Table`].

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::calendar::{CalendarError, Grain, Period};
use crate::reports::coverage::Coverage;
pub use crate::reports::coverage::State;
use crate::reports::first_recorded::{Recorded, dated};
pub use crate::reports::table::{Average, Cell, Number, Row, Table};
use crate::sets::{
    Catalogue, CountId, Counts, Labels, NodeId, Plan, Segment, Segments, Set, TooLarge,
};

/// The most cohorts a table may have.
pub const MAX_ROWS: u32 = 400;
/// The most columns a table may have.
pub const MAX_COLS: u32 = 400;
/// The most cells (rows × columns) a table may have.
pub const MAX_CELLS: u32 = 20_000;

choice! {
    /// What a cell counts.
    Measure {
        /// Users of the cohort who came back *in* the period: |A(c) ∩ B(c+k)|.
        #[default]
        On = "on",
        /// Users of the cohort who came back in the period or any later one shown: |A(c) ∩ (B(c+k)
        /// ∪ … ∪ B(c+cols−1))|. A union, never a sum, so it cannot rise along a row.
        OnOrAfter = "on_or_after",
    }
}

choice! {
    /// How the average row weighs cohorts.
    Averaging {
        /// Σ retained / Σ size: every user counts the same.
        #[default]
        Weighted = "weighted",
        /// The mean of the rates: every cohort counts the same.
        Simple = "simple",
    }
}

/// A retention question. [`Query::new`] fills in the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Who starts in a cohort.
    pub cohort: Segment,
    /// What counts as coming back.
    pub returning: Segment,
    /// The length of a period.
    pub grain: Grain,
    /// How many cohorts, 1–400; a default for the grain when `None`. Not used when both `from` and
    /// `to` are given.
    pub rows: Option<u32>,
    /// How many columns, 1–400, column 0 included; a default for the grain when `None`.
    pub cols: Option<u32>,
    /// The period that holds this date is the first cohort.
    pub from: Option<NaiveDate>,
    /// The period that holds this date is the last cohort, for hours the last hour of the date; a
    /// date in the future means the running period.
    pub to: Option<NaiveDate>,
    /// What a cell counts.
    pub measure: Measure,
    /// How the average row is made.
    pub averaging: Averaging,
}

/// Why a question cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Too few or too many cohorts.
    #[error("{0} cohorts: ask for 1 to {MAX_ROWS}")]
    Rows(u64),
    /// Too many cohorts between two dates.
    #[error(
        "{count} {grain}s lie between {from} and {to}, and a table holds at most {MAX_ROWS}: move the dates closer or take a longer period"
    )]
    Between {
        /// The first date.
        from: NaiveDate,
        /// The last date.
        to: NaiveDate,
        /// Periods between them.
        count: i64,
        /// The grain.
        grain: Grain,
    },
    /// Too few or too many columns.
    #[error("{0} periods: ask for 1 to {MAX_COLS}")]
    Cols(u64),
    /// Too many cells.
    #[error("{rows} cohorts × {cols} periods are {} cells, and a table holds at most {MAX_CELLS}: ask for fewer of either", rows * cols)]
    Cells {
        /// Cohorts asked for.
        rows: u32,
        /// Columns asked for.
        cols: u32,
    },
    /// `from` comes after `to`.
    #[error("{from} comes after the last date, {to}: swap them")]
    Order {
        /// The first date.
        from: NaiveDate,
        /// The last date.
        to: NaiveDate,
    },
    /// `from` has not come yet.
    #[error("{from} lies in the future: the running {grain} is {current}")]
    Future {
        /// The date.
        from: NaiveDate,
        /// The grain.
        grain: Grain,
        /// The running period.
        current: Period,
    },
    /// Not one of the words known there.
    #[error("`{given}` is none of {}", known.join(", "))]
    Word {
        /// What was written.
        given: String,
        /// What may be written.
        known: &'static [&'static str],
    },
    /// A date outside the supported years, or too near their beginning for the cohorts asked for.
    #[error("{error}")]
    Date {
        /// `from` or `to`.
        field: &'static str,
        /// What is wrong with it.
        error: CalendarError,
    },
    /// `now` outside the supported years.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// Its segments are too long for so many periods.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl QueryError {
    /// The query parameter the error is about, where it is about one.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            QueryError::Rows(_) | QueryError::Cells { .. } | QueryError::TooLarge(_) => {
                Some("rows")
            }
            QueryError::Cols(_) => Some("cols"),
            QueryError::Between { .. } | QueryError::Order { .. } | QueryError::Future { .. } => {
                Some("from")
            }
            QueryError::Date { field, .. } => Some(field),
            QueryError::Word { .. } | QueryError::Calendar(_) => None,
        }
    }
}

/// The default number of cohorts and of columns for a grain.
pub const fn default_size(grain: Grain) -> u32 {
    match grain {
        Grain::Hour => 24,
        Grain::Day => 14,
        Grain::Week | Grain::Month => 12,
        Grain::Year => 5,
    }
}

impl Query {
    /// A question with every default.
    pub fn new(cohort: Segment, returning: Segment, grain: Grain) -> Self {
        Query {
            cohort,
            returning,
            grain,
            rows: None,
            cols: None,
            from: None,
            to: None,
            measure: Measure::default(),
            averaging: Averaging::default(),
        }
    }

    /// How many columns.
    pub fn cols(&self) -> u32 {
        self.cols.unwrap_or(default_size(self.grain))
    }

    /// How many cohorts and columns were asked for; `None` where that makes no sense.
    pub fn size(&self) -> Option<(u32, u32)> {
        let rows = match (self.from, self.to) {
            (Some(from), Some(to)) => {
                let (first, last) = (
                    Period::of_date(self.grain, from).ok()?,
                    Period::of_date(self.grain, to).ok()?,
                );
                u32::try_from(last.since(first)? + 1).ok()?
            }
            _ => self.rows.unwrap_or(default_size(self.grain)),
        };
        Some((rows, self.cols()))
    }

    /// The window of each cell in the row of `cohort`, from column 0 to the last that has begun.
    pub fn windows(&self, cohort: Period, coverage: &Coverage) -> Vec<Window> {
        let cols = i64::from(self.cols());
        let current = coverage.current(self.grain);
        let begun: Vec<Period> = (0..cols)
            .map_while(|k| cohort.shift(k).ok().filter(|p| *p <= current))
            .collect();
        let last = begun.last().copied();
        // "On or after" is over when the whole row is: until then each of its cells may still rise.
        let end_of_row = cohort.shift(cols - 1).ok().or(last);
        let is_recorded = coverage.is_recorded(cohort);
        let window = |from: Period| {
            let (until, end) = match self.measure {
                Measure::On => (from, from),
                Measure::OnOrAfter => (last.unwrap_or(from), end_of_row.unwrap_or(from)),
            };
            let state = if is_recorded {
                coverage.state(from, end)
            } else {
                State::NotRecorded
            };
            Window {
                from,
                until,
                state,
                is_recorded: coverage.is_recorded(from),
            }
        };
        begun.into_iter().map(window).collect()
    }

    /// The same query with saved segments written out.
    ///
    /// # Errors
    /// When they are too long.
    pub fn expanded(&self, saved: &Segments) -> Result<Query, TooLarge> {
        Ok(Query {
            cohort: saved.expand(&self.cohort)?,
            returning: saved.expand(&self.returning)?,
            ..self.clone()
        })
    }

    /// The question as of `now` in a store that has recorded everything until then: enough to check
    /// a query.
    ///
    /// # Errors
    /// When a limit is passed or the dates make no sense.
    pub fn at(&self, now: DateTime<Utc>) -> Result<Question, QueryError> {
        self.question(&Coverage::whole(now)?)
    }

    /// The question for a store with this coverage: its cohorts, and the plan that counts them.
    ///
    /// # Errors
    /// When a limit is passed, the segments are too long for so many periods, or the dates make no
    /// sense.
    pub fn question(&self, coverage: &Coverage) -> Result<Question, QueryError> {
        let current = coverage.current(self.grain);
        let cols = self.cols();
        if !(1..=MAX_COLS).contains(&cols) {
            return Err(QueryError::Cols(cols.into()));
        }
        let asked = self.rows.unwrap_or(default_size(self.grain));
        if !(1..=MAX_ROWS).contains(&asked) {
            return Err(QueryError::Rows(asked.into()));
        }
        let dated = |field| move |error| QueryError::Date { field, error };
        let first_on = |date| Period::of_date(self.grain, date).map_err(dated("from"));
        // The last hour of a day; for all other grains the period that holds it.
        let last_on = |date: NaiveDate| {
            let end = Period::of_date(Grain::Day, date)
                .map_err(dated("to"))?
                .end()
                - TimeDelta::microseconds(1);
            Period::containing(self.grain, end).map_err(dated("to"))
        };
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return Err(QueryError::Order { from, to });
        }
        let (first, last) = match (self.from, self.to) {
            (Some(from), to) => {
                let first = first_on(from)?;
                if first > current {
                    return Err(QueryError::Future {
                        from,
                        grain: self.grain,
                        current,
                    });
                }
                let last = match to {
                    Some(to) => last_on(to)?,
                    None => first.shift(i64::from(asked) - 1).unwrap_or(current),
                };
                (first, last.min(current))
            }
            (None, to) => {
                let last = match to {
                    Some(to) => last_on(to)?.min(current),
                    None => self.newest_cohort(asked, coverage)?,
                };
                (last.shift(1 - i64::from(asked)).map_err(dated("to"))?, last)
            }
        };
        let count = last.since(first).unwrap_or(0) + 1;
        let rows = match u32::try_from(count) {
            Ok(rows) if rows <= MAX_ROWS => rows,
            _ => {
                let (from, to) = (first.start().date_naive(), last.start().date_naive());
                return Err(QueryError::Between {
                    from,
                    to,
                    count,
                    grain: self.grain,
                });
            }
        };
        if rows * cols > MAX_CELLS {
            return Err(QueryError::Cells { rows, cols });
        }
        Ok(Question::new(
            self.clone(),
            coverage,
            first.range(rows).collect(),
        )?)
    }

    /// The last cohort where no date is given. The data ends with it; for *on or after* its whole
    /// window is over, unless the table would then begin before the data does.
    fn newest_cohort(&self, rows: u32, coverage: &Coverage) -> Result<Period, CalendarError> {
        let newest = coverage
            .last(self.grain)
            .unwrap_or(coverage.current(self.grain));
        if self.measure == Measure::On {
            return Ok(newest);
        }
        let whole = newest.shift(-i64::from(self.cols()))?;
        let begins = coverage
            .first(self.grain)
            .and_then(|first| first.shift(i64::from(rows) - 1).ok());
        Ok(begins.map_or(whole, |from_the_first_on| {
            whole.max(from_the_first_on.min(newest))
        }))
    }
}

/// A query with its cohorts fixed, and the plan that answers it.
#[derive(Debug, Clone)]
pub struct Question {
    query: Query,
    /// Both sides as they are counted.
    sides: [Segment; 2],
    coverage: Coverage,
    cohorts: Vec<Asked>,
    distinct: CountId,
    distinct_complete: CountId,
    /// The counts of the periods that are not recorded.
    unlisted: Vec<CountId>,
    plan: Plan,
}

/// Where the counts of one cohort stand among the plan's roots.
#[derive(Debug, Clone)]
struct Asked {
    period: Period,
    state: State,
    /// `None` where the cohort is not recorded.
    size: Option<CountId>,
    /// `None` where a cell is not recorded.
    cells: Vec<(Period, State, Option<CountId>)>,
}

impl Question {
    fn new(query: Query, coverage: &Coverage, periods: Vec<Period>) -> Result<Self, TooLarge> {
        // Cells, and beside them two sets for each period: more where a side is made of several
        // events.
        let columns = query.cols() as usize;
        let mut plan = Plan::with_capacity(periods.len() * (columns + 3) + columns);
        let mut cohorts = Vec::with_capacity(periods.len());
        let (mut complete, mut rest) = (Vec::new(), Vec::new());
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
            let who = plan.add(&query.cohort.at(period))?;
            let size = Some(plan.count(who));
            let mut returned: Vec<Option<NodeId>> = Vec::with_capacity(windows.len());
            for (window, known) in windows.iter().zip(&mut returning[row..]) {
                if !window.is_recorded {
                    returned.push(None);
                    continue;
                }
                let back = match *known {
                    Some(back) => back,
                    None => *known.insert(plan.add(&query.returning.at(window.from))?),
                };
                returned.push(Some(plan.and([who, back])));
            }
            let nodes = suffix_unions(&mut plan, &windows, returned);
            let cells: Vec<_> = windows
                .iter()
                .zip(nodes)
                .map(|(window, node)| {
                    let node = node.filter(|_| window.state != State::NotRecorded);
                    (window.from, window.state, node.map(|node| plan.count(node)))
                })
                .collect();
            let is_complete = cells.iter().any(|(_, state, _)| *state == State::Complete);
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
        let (distinct, distinct_complete) = (plan.count(all), plan.count(complete));
        let sides = [query.cohort.clone(), query.returning.clone()];
        // Nobody is expected there; somebody is found when the list of bitmaps has become old.
        let names = dated([&sides[0], &sides[1]]);
        let mut unlisted = Vec::new();
        for period in unrecorded.into_iter().filter(|_| !names.is_empty()) {
            let anybody = names.iter().map(|name| Set::event_in(name, period));
            unlisted.push(plan.count_set(&Set::Or(anybody.collect()))?);
        }
        let coverage = coverage.clone();
        Ok(Question {
            query,
            sides,
            coverage,
            cohorts,
            distinct,
            distinct_complete,
            unlisted,
            plan,
        })
    }

    /// The same question whose table tells another wording of the same query: one that names saved
    /// segments.
    pub fn asked_as(mut self, query: Query) -> Question {
        self.query = query;
        self
    }

    /// The oldest cohort; the others follow one by one. `None` without cohorts.
    pub fn first(&self) -> Option<Period> {
        self.cohorts.first().map(|cohort| cohort.period)
    }

    /// Since when its events are recorded, given all keys there are.
    pub fn recorded(&self, all: &Catalogue) -> Recorded {
        Recorded::of([&self.sides[0], &self.sides[1]], all, self.coverage.now())
    }

    /// What a store has to count.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether somebody was counted in a period that is not recorded: then the coverage is older
    /// than the counts.
    pub fn contradicts_coverage(&self, counts: &Counts) -> bool {
        self.unlisted.iter().any(|id| counts[*id] > 0)
    }

    /// The table, from the counts of [`plan`](Self::plan) in order.
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
                    state: asked.state,
                    size,
                    cells,
                }
            })
            .collect();
        let in_averages = |row: &&Row| row.numbers().any(|number| number.state == State::Complete);
        let entries = rows.iter().map(Row::people).sum();
        let complete_entries: u64 = rows.iter().filter(in_averages).map(Row::people).sum();
        let complete_people = clamps.at_most(counts[self.distinct_complete], complete_entries);
        let disjoint = complete_people == complete_entries;
        let averages = (0..cols)
            .map(|k| Average::of(&rows, k, self.query.averaging, disjoint))
            .collect();
        let people = clamps.at_most(counts[self.distinct], entries);
        clamps.report(&self.query);
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
            recorded: Recorded::default(),
            labels: Labels::new(),
        }
    }
}

/// How many counts contradicted another count of the same answer, in this process.
static CLAMPED: AtomicU64 = AtomicU64::new(0);

/// How many counts contradicted another count of the same answer since the process started: more
/// people came back than are in the cohort, or there were more people than entries. Each was
/// reduced to what is possible, and logged.
pub fn clamped_counts() -> u64 {
    CLAMPED.load(Ordering::Relaxed)
}

/// The contradictions of one table.
#[derive(Debug, Default)]
struct Clamps {
    counts: u64,
}

impl Clamps {
    /// The count of a part, given that of the whole.
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

/// For each window the union of the nodes of its periods, given one node for each `from` that is
/// recorded. Windows of more than one period end together, so each is its own first period and the
/// window behind it.
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

/// The periods in which coming back counts for one cell, both ends included, and what is known of
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The period of the cell.
    pub from: Period,
    /// The last period that counts and has begun: `from` again, or for *on or after* that of the
    /// last column.
    pub until: Period,
    /// The state of the cell.
    pub state: State,
    /// Whether `from` itself is recorded: coming back counts only in such periods.
    pub is_recorded: bool,
}
