//! Cohort retention: of the users who did A in a period, how many did B in each later one?
//!
//! [`Query`] → [`Query::at`] → [`Question`] with its [`Plan`] → counts from a store → [`Table`].

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::calendar::{CalendarError, Grain, Period};
pub use crate::reports::coverage::State;
use crate::reports::recorded::{Recorded, Search};
use crate::reports::stats::{rate, wilson};
use crate::sets::{Catalogue, Labels, NodeId, Plan, Segment, Segments};

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
        /// Users of the cohort who came back in the period or any later one shown: |A(c) ∩ (B(c+k) ∪ … ∪ B(c+cols−1))|.
        /// A union, never a sum, so it cannot rise along a row.
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
    /// How many cohorts, 1–400; a default for the grain when `None`. Not used when both `from` and `to` are given.
    pub rows: Option<u32>,
    /// How many columns, 1–400, column 0 included; a default for the grain when `None`.
    pub cols: Option<u32>,
    /// The period that holds this date is the first cohort.
    pub from: Option<NaiveDate>,
    /// The period that holds this date is the last cohort, for hours the last hour of the date; a date in the future
    /// means the running period.
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
}

impl QueryError {
    /// The query parameter the error is about, where it is about one.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            QueryError::Rows(_) | QueryError::Cells { .. } => Some("rows"),
            QueryError::Cols(_) => Some("cols"),
            QueryError::Between { .. } | QueryError::Order { .. } | QueryError::Future { .. } => Some("from"),
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
                let (first, last) = (Period::of_date(self.grain, from).ok()?, Period::of_date(self.grain, to).ok()?);
                u32::try_from(last.since(first)? + 1).ok()?
            }
            _ => self.rows.unwrap_or(default_size(self.grain)),
        };
        Some((rows, self.cols()))
    }

    /// The window of each cell in the row of `cohort`, from column 0 to the last that has begun when `current` runs.
    pub fn windows(&self, cohort: Period, current: Period) -> Vec<Window> {
        let cols = i64::from(self.cols());
        let begun: Vec<Period> = (0..cols).map_while(|k| cohort.shift(k).ok().filter(|p| *p <= current)).collect();
        // "On or after" is over when the whole row is: until then each of its cells may still rise.
        let row_over = cohort.shift(cols - 1).is_ok_and(|last| last < current);
        let last = begun.last().copied();
        let window = |from: Period| match self.measure {
            Measure::On => (from, from < current),
            Measure::OnOrAfter => (last.unwrap_or(from), row_over),
        };
        begun
            .into_iter()
            .map(|from| {
                let (until, over) = window(from);
                Window { from, until, state: if over { State::Complete } else { State::InProgress } }
            })
            .collect()
    }

    /// The same query with saved segments written out.
    pub fn expanded(&self, saved: &Segments) -> Query {
        Query { cohort: saved.expand(&self.cohort), returning: saved.expand(&self.returning), ..self.clone() }
    }

    /// The question as of `now`: its cohorts, and the plan that counts them.
    ///
    /// # Errors
    /// When a limit is passed or the dates make no sense.
    pub fn at(&self, now: DateTime<Utc>) -> Result<Question, QueryError> {
        let current = Period::containing(self.grain, now)?;
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
            let end = Period::of_date(Grain::Day, date).map_err(dated("to"))?.end() - TimeDelta::microseconds(1);
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
                    return Err(QueryError::Future { from, grain: self.grain, current });
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
                    None if self.measure == Measure::OnOrAfter => current.shift(-i64::from(cols))?,
                    None => current,
                };
                (last.shift(1 - i64::from(asked)).map_err(dated("to"))?, last)
            }
        };
        let count = last.since(first).unwrap_or(0) + 1;
        let rows = match u32::try_from(count) {
            Ok(rows) if rows <= MAX_ROWS => rows,
            _ => {
                let (from, to) = (first.start().date_naive(), last.start().date_naive());
                return Err(QueryError::Between { from, to, count, grain: self.grain });
            }
        };
        if rows * cols > MAX_CELLS {
            return Err(QueryError::Cells { rows, cols });
        }
        Ok(Question::new(self.clone(), now, current, first.range(rows).collect()))
    }
}

/// A query with its cohorts fixed, and the plan that answers it.
#[derive(Debug, Clone)]
pub struct Question {
    query: Query,
    /// Both sides as they are counted.
    sides: [Segment; 2],
    now: DateTime<Utc>,
    current: Period,
    cohorts: Vec<Asked>,
    distinct: usize,
    distinct_complete: usize,
    plan: Plan,
}

/// Where the counts of one cohort stand among the plan's roots.
#[derive(Debug, Clone)]
struct Asked {
    period: Period,
    size: usize,
    cells: Vec<(Period, State, usize)>,
}

impl Question {
    fn new(query: Query, now: DateTime<Utc>, current: Period, periods: Vec<Period>) -> Self {
        // Cells, and beside them two sets for each period: more where a side is made of several events.
        let columns = query.cols() as usize;
        let mut plan = Plan::with_capacity(periods.len() * (columns + 3) + columns);
        let mut cohorts = Vec::with_capacity(periods.len());
        let (mut complete, mut rest) = (Vec::new(), Vec::new());
        // Each period is come back to by many cohorts: its set is built once. By how many periods it is after the first.
        let mut returning: Vec<Option<NodeId>> = vec![None; periods.len() + columns];
        for (row, period) in periods.into_iter().enumerate() {
            let who = plan.add(&query.cohort.at(period));
            let size = plan.count(who);
            let windows = query.windows(period, current);
            let returned: Vec<NodeId> = windows
                .iter()
                .zip(&mut returning[row..])
                .map(|(window, back)| {
                    let back = *back.get_or_insert_with(|| plan.add(&query.returning.at(window.from)));
                    plan.and([who, back])
                })
                .collect();
            let nodes = suffix_unions(&mut plan, &windows, returned);
            let cells: Vec<_> =
                windows.iter().zip(nodes).map(|(window, node)| (window.from, window.state, plan.count(node))).collect();
            let is_complete = cells.iter().any(|(_, state, _)| *state == State::Complete);
            if is_complete {
                complete.push(who)
            } else {
                rest.push(who)
            }
            cohorts.push(Asked { period, size, cells });
        }
        let complete = plan.or(complete);
        rest.push(complete);
        let all = plan.or(rest);
        let (distinct, distinct_complete) = (plan.count(all), plan.count(complete));
        let sides = [query.cohort.clone(), query.returning.clone()];
        Question { query, sides, now, current, cohorts, distinct, distinct_complete, plan }
    }

    /// The same question whose table tells another wording of the same query: one that names saved segments.
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
        Recorded::of([&self.sides[0], &self.sides[1]], all, self.now)
    }

    /// The same to be found by counting. `None` without cohorts.
    pub fn search(&self) -> Option<Search> {
        Some(Search::new([&self.sides[0], &self.sides[1]], self.first()?, self.now))
    }

    /// What a store has to count.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The table, from the counts of [`plan`](Self::plan) in order.
    pub fn table(&self, counts: &[u64]) -> Table {
        let at = |root: usize| counts.get(root).copied().unwrap_or(0);
        let cols = self.query.cols() as usize;
        let rows: Vec<Row> = self
            .cohorts
            .iter()
            .map(|asked| {
                let size = at(asked.size);
                let mut cells = vec![None; cols];
                if size > 0 {
                    for (cell, (period, state, root)) in cells.iter_mut().zip(&asked.cells) {
                        // A store that counts in several steps may see a mark between two of them.
                        let retained = at(*root).min(size);
                        *cell = Some(Cell { period: *period, state: *state, retained, size });
                    }
                }
                let state = if asked.period < self.current { State::Complete } else { State::InProgress };
                Row { period: asked.period, state, size, cells }
            })
            .collect();
        let in_averages = |row: &&Row| row.cells.iter().flatten().any(|c| c.state == State::Complete);
        let entries = rows.iter().map(|r| r.size).sum();
        let complete_entries: u64 = rows.iter().filter(in_averages).map(|r| r.size).sum();
        let complete_people = at(self.distinct_complete).min(complete_entries);
        let disjoint = complete_people == complete_entries;
        let averages = (0..cols).map(|k| Average::of(&rows, k, self.query.averaging, disjoint)).collect();
        Table {
            query: self.query.clone(),
            now: self.now,
            current: self.current,
            entries,
            people: at(self.distinct).min(entries),
            complete_entries,
            complete_people,
            rows,
            averages,
            recorded: Recorded::default(),
            labels: Labels::new(),
        }
    }
}

/// For each window the union of the nodes of its periods, given one node for each `from`. Windows of more than one
/// period end together, so each is its own first period and the window behind it.
fn suffix_unions(plan: &mut Plan, windows: &[Window], nodes: Vec<NodeId>) -> Vec<NodeId> {
    let mut unions = nodes;
    for k in (0..unions.len().saturating_sub(1)).rev() {
        if windows[k].until > windows[k].from {
            unions[k] = plan.or([unions[k], unions[k + 1]]);
        }
    }
    unions
}

/// The periods in which coming back counts for one cell, both ends included, and whether that can still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The period of the cell.
    pub from: Period,
    /// The last period that counts and has begun: `from` again, or for *on or after* that of the last column.
    pub until: Period,
    /// Whether all of it is over.
    pub state: State,
}

/// One number of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The period of coming back.
    pub period: Period,
    /// Whether that can still change.
    pub state: State,
    /// How many came back.
    pub retained: u64,
    /// Out of how many; never 0.
    pub size: u64,
}

impl Cell {
    /// The share that came back, 0–1.
    pub fn rate(&self) -> f64 {
        rate(self.retained, self.size).unwrap_or(0.0)
    }

    /// Its 95 % interval (Wilson), both ends 0–1.
    pub fn interval(&self) -> (f64, f64) {
        wilson(self.retained, self.size).unwrap_or((0.0, 1.0))
    }
}

/// One cohort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When its users did the starting event.
    pub period: Period,
    /// Whether its size can still change.
    pub state: State,
    /// How many users.
    pub size: u64,
    /// As many as the table has columns; `None` where the period has not begun, and everywhere when the size is 0.
    pub cells: Vec<Option<Cell>>,
}

/// One column of the average row, over the complete cells of the column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Average {
    /// The average share, 0–1.
    pub rate: f64,
    /// How many cohorts went in.
    pub cohorts: u32,
    /// The users retained in those, added up.
    pub retained: u64,
    /// The sizes of those, added up.
    pub size: u64,
    /// The 95 % interval; only where the average is weighted and the cohorts share nobody.
    pub interval: Option<(f64, f64)>,
}

impl Average {
    #[allow(clippy::cast_precision_loss)]
    fn of(rows: &[Row], column: usize, averaging: Averaging, disjoint: bool) -> Option<Average> {
        let cells: Vec<Cell> =
            rows.iter().filter_map(|r| r.cells[column]).filter(|c| c.state == State::Complete).collect();
        let cohorts = u32::try_from(cells.len()).ok().filter(|n| *n > 0)?;
        let (retained, size) = (cells.iter().map(|c| c.retained).sum(), cells.iter().map(|c| c.size).sum());
        Some(Average {
            rate: match averaging {
                Averaging::Weighted => rate(retained, size)?,
                Averaging::Simple => cells.iter().map(Cell::rate).sum::<f64>() / f64::from(cohorts),
            },
            cohorts,
            retained,
            size,
            interval: (disjoint && averaging == Averaging::Weighted).then(|| wilson(retained, size)).flatten(),
        })
    }
}

/// A retention table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The question.
    pub query: Query,
    /// As of when.
    pub now: DateTime<Utc>,
    /// The period that holds `now`.
    pub current: Period,
    /// The cohorts, oldest first. Cohorts of the future are left out.
    pub rows: Vec<Row>,
    /// The average row; `None` for a column without complete cells.
    pub averages: Vec<Option<Average>>,
    /// The sizes of all cohorts, added up: somebody in three cohorts counts thrice.
    pub entries: u64,
    /// The distinct people behind `entries`.
    pub people: u64,
    /// The sizes of the cohorts that have a complete cell, added up: what the average row stands on.
    pub complete_entries: u64,
    /// The distinct people behind `complete_entries`.
    pub complete_people: u64,
    /// Since when its events are recorded; nothing is known of that until [`recorded_since`](Table::recorded_since).
    pub recorded: Recorded,
    /// What its events are called where it speaks to people; by their names until [`called`](Table::called).
    pub labels: Labels,
}

impl Table {
    /// The same table, calling its events by these labels where it speaks to people.
    pub fn called(mut self, labels: &Labels) -> Self {
        let mut names = self.query.cohort.names();
        names.extend(self.query.returning.names());
        names.extend(self.recorded.later.iter().map(|(name, _)| name));
        let known = names.into_iter().filter_map(|name| Some((name.clone(), labels.get(name)?.clone())));
        self.labels = known.collect();
        self
    }

    /// The starting segment for people.
    pub fn cohort(&self) -> String {
        self.query.cohort.called(&self.labels)
    }

    /// The returning segment for people.
    pub fn returning(&self) -> String {
        self.query.returning.called(&self.labels)
    }

    /// The same table, knowing since when its events are recorded. What somebody was counted before is not believed: a
    /// list of bitmaps may be older than the counts.
    pub fn recorded_since(mut self, recorded: Recorded) -> Self {
        let Recorded { cohort, returning, later } = recorded;
        let cells = || self.rows.iter().flat_map(|row| row.cells.iter().flatten());
        let nobody_before = |first: &Period| self.rows.iter().all(|row| row.size == 0 || !row.period.is_before(*first));
        let nobody_back = |first: &Period| cells().all(|cell| cell.retained == 0 || !cell.period.is_before(*first));
        // On or after counts people who came back later than the cell's own period.
        let on = self.query.measure == Measure::On;
        self.recorded = Recorded {
            cohort: cohort.filter(nobody_before),
            returning: returning.filter(|first| !on || nobody_back(first)),
            later,
        };
        self
    }

    /// Whether the cohort's period ended before anything was recorded that could put anybody into it.
    pub fn is_unrecorded(&self, row: &Row) -> bool {
        self.recorded.cohort.is_some_and(|first| row.period.is_before(first))
    }

    /// Whether records begin within the cohort's period, so that it holds a part of it only.
    pub fn is_partial(&self, row: &Row) -> bool {
        let within = |first: Period| row.period.start() < first.start() && first.start() < row.period.end();
        self.recorded.cohort.is_some_and(within)
    }

    /// Whether no cohort holds anybody.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Whether the cohorts behind the averages share nobody, so that an interval of the weighted average means
    /// something.
    pub fn is_disjoint(&self) -> bool {
        self.complete_people == self.complete_entries
    }

    /// Whether any number shown can still change.
    pub fn has_running(&self) -> bool {
        self.rows.iter().flat_map(|r| r.cells.iter().flatten()).any(|c| c.state == State::InProgress)
    }
}
