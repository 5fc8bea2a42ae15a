//! The answer to a retention question. By its types, a cell that is not recorded has no number.

use chrono::{DateTime, Utc};

use crate::calendar::Period;
use crate::reports::coverage::State;
use crate::reports::first_recorded::Recorded;
use crate::reports::retention::query::{Averaging, Measure, Query};
use crate::sets::{Labels, Offsets, Segment};
use crate::stats::{AtRisk, kaplan_meier, rate, wilson};

/// One cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Empty: its period has not begun, or its cohort has no users.
    Blank,
    /// Its period has begun and is not recorded.
    NotRecorded(Period),
    /// A number.
    Number(Number),
}

impl Cell {
    /// Returns its number, if it has one.
    pub fn number(&self) -> Option<Number> {
        match self {
            Cell::Number(number) => Some(*number),
            Cell::Blank | Cell::NotRecorded(_) => None,
        }
    }

    /// Returns its number, if it is final.
    pub fn complete(&self) -> Option<Number> {
        self.number()
            .filter(|number| number.state == State::Complete)
    }
}

/// One number of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The first period of its column.
    pub period: Period,
    /// Complete, in progress, or partly recorded: then the number is a lower bound.
    pub state: State,
    /// The users who came back.
    pub retained: u64,
    /// The users of the cohort, never 0.
    pub size: u64,
}

impl Number {
    /// Returns the share that came back, 0–1.
    pub fn rate(&self) -> f64 {
        rate(self.retained, self.size).expect("cells of empty cohorts are blank")
    }

    /// Returns its 95 % interval (Wilson), both ends 0–1. `None` for a lower bound.
    pub fn interval(&self) -> Option<(f64, f64)> {
        wilson(self.retained, self.size).filter(|_| self.state != State::PartlyRecorded)
    }
}

/// One cohort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When its users did the starting event.
    pub period: Period,
    /// Complete, in progress or not recorded.
    pub state: State,
    /// Whether nothing is recorded before it, so that everybody looks new to `first` and `before`.
    /// Averages leave the cohort out.
    pub is_first_recorded: bool,
    /// The number of users. `None` if its period is not recorded.
    pub size: Option<u64>,
    /// Its cells, one per column.
    pub cells: Vec<Cell>,
}

impl Row {
    /// Returns the known number of users, 0 if it is not recorded.
    pub fn people(&self) -> u64 {
        self.size.unwrap_or(0)
    }

    /// Returns the state in files: that of its period, or `not_recorded_before`.
    pub fn state_word(&self) -> &'static str {
        if self.is_first_recorded {
            "not_recorded_before"
        } else {
            self.state.as_str()
        }
    }

    /// Returns the number of a column if averages and comparisons include it.
    pub fn averaged(&self, column: usize) -> Option<Number> {
        let cell = self.cells.get(column)?;
        cell.complete().filter(|_| !self.is_first_recorded)
    }

    /// Whether averages include any of its numbers.
    pub fn is_averaged(&self) -> bool {
        (0..self.cells.len()).any(|column| self.averaged(column).is_some())
    }

    /// Its numbers, in the order of their columns.
    pub fn numbers(&self) -> impl Iterator<Item = Number> {
        self.cells.iter().filter_map(Cell::number)
    }
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
    /// The sizes of those, added up. For [`Averaging::Survival`] those at risk: who remained until
    /// the column before, in the same cohorts.
    pub size: u64,
    /// The 95 % interval: Wilson's of a weighted average, or that of the Kaplan–Meier estimate.
    /// Only if [the people are independent](Table::is_independent); not for simple averages.
    pub interval: Option<(f64, f64)>,
}

/// The fewest people at risk for which a point of a survival curve is drawn.
pub const FEWEST_AT_RISK: u64 = 10;

/// A rate of fewer people is too uncertain for decimals, a band or a verdict.
pub const FEWEST_PEOPLE: u64 = 30;

/// From this rate on column 1 can be read beside any column 0.
const READABLE: f64 = 0.4;

/// Whether so few entries are repeats that the people behind them count as independent: at most
/// 1 %.
pub(in crate::reports) fn are_independent(entries: u64, people: u64) -> bool {
    (entries - people).saturating_mul(100) <= entries
}

/// Returns the average row.
pub(super) fn averages(
    rows: &[Row],
    columns: usize,
    averaging: Averaging,
    independent: bool,
) -> Vec<Option<Average>> {
    match averaging {
        Averaging::Survival => survival(rows, columns, independent),
        Averaging::Weighted | Averaging::Simple => (0..columns)
            .map(|k| Average::of(rows, k, averaging, independent))
            .collect(),
    }
}

/// Returns the Kaplan–Meier estimate. Column 0 is the cohorts: everybody.
fn survival(rows: &[Row], columns: usize, independent: bool) -> Vec<Option<Average>> {
    // Who is retained in one column and the next, of the cohorts that are complete in both.
    let step = |k: usize| {
        let pairs = rows
            .iter()
            .filter_map(|row| row.averaged(k - 1).zip(row.averaged(k)));
        pairs.fold((0, 0, 0), |(cohorts, before, after), (from, to)| {
            assert!(to.retained <= from.retained, "unbroken returns never rise");
            (cohorts + 1, before + from.retained, after + to.retained)
        })
    };
    let steps: Vec<(u32, u64, u64)> = (1..columns).map(step).collect();
    let estimate = kaplan_meier(steps.iter().map(|(_, before, after)| AtRisk {
        at_risk: *before,
        lost: before - after,
    }));
    let later = steps
        .iter()
        .zip(&estimate)
        .map(|((cohorts, before, after), survival)| Average {
            rate: survival.rate,
            cohorts: *cohorts,
            retained: *after,
            size: *before,
            interval: survival.interval.filter(|_| independent),
        });
    let start = Average::of(rows, 0, Averaging::Weighted, false).filter(|_| columns > 0);
    let mut averages = vec![start];
    averages.extend(later.map(Some));
    averages.resize(columns, None);
    averages
}

impl Average {
    #[allow(clippy::cast_precision_loss)]
    fn of(rows: &[Row], column: usize, averaging: Averaging, independent: bool) -> Option<Average> {
        let cells: Vec<Number> = rows.iter().filter_map(|row| row.averaged(column)).collect();
        let cohorts = u32::try_from(cells.len()).ok().filter(|n| *n > 0)?;
        let retained = cells.iter().map(|cell| cell.retained).sum();
        let size = cells.iter().map(|cell| cell.size).sum();
        Some(Average {
            rate: match averaging {
                Averaging::Weighted => rate(retained, size)?,
                Averaging::Survival => {
                    unreachable!("the survival of a column needs the one before")
                }
                Averaging::Simple => {
                    cells.iter().map(Number::rate).sum::<f64>() / f64::from(cohorts)
                }
            },
            cohorts,
            retained,
            size,
            interval: (independent && averaging == Averaging::Weighted)
                .then(|| wilson(retained, size))
                .flatten(),
        })
    }
}

/// A retention table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The question.
    pub query: Query,
    /// The moment of the answer.
    pub now: DateTime<Utc>,
    /// The period that contains `now`.
    pub current: Period,
    /// The first recorded period of the store. `None` if it records none of this grain.
    pub begins: Option<Period>,
    /// When the store's data ends, if before `now`: the day of the newest mark if there are daily
    /// bitmaps.
    pub data_ends: Option<Period>,
    /// The cohorts, oldest first. Cohorts of the future are left out.
    pub rows: Vec<Row>,
    /// The average row; `None` for a column without complete cells.
    pub averages: Vec<Option<Average>>,
    /// The sizes of all cohorts, added up. A user in three cohorts counts three times.
    pub entries: u64,
    /// The distinct users of all cohorts.
    pub people: u64,
    /// The sizes of the cohorts that have a complete cell, added up: the basis of the average row.
    pub complete_entries: u64,
    /// The distinct users of those cohorts.
    pub complete_people: u64,
    /// Since when its events are recorded.
    pub recorded: Recorded,
    /// The labels of its events.
    pub labels: Labels,
}

impl Table {
    /// Describes the question.
    pub fn title(&self) -> String {
        self.query.title(self.cohort(), self.returning())
    }

    /// The starting segment in words.
    pub fn cohort(&self) -> String {
        self.query.cohort.phrase(&self.labels, self.query.grain)
    }

    /// The returning segment in words.
    pub fn returning(&self) -> String {
        self.query.returning.phrase(&self.labels, self.query.grain)
    }

    /// Every number, row by row.
    pub fn numbers(&self) -> impl Iterator<Item = Number> {
        self.rows.iter().flat_map(Row::numbers)
    }

    /// Whether recording of the starting segment began within the cohort's period, so that the
    /// cohort is incomplete.
    pub fn is_partial(&self, row: &Row) -> bool {
        let within =
            |first: Period| row.period.start() < first.start() && first.start() < row.period.end();
        row.size.is_some() && self.recorded.cohort.is_some_and(within)
    }

    /// Whether any of its cohorts is recorded.
    pub fn is_recorded(&self) -> bool {
        self.rows.iter().any(|row| row.size.is_some())
    }

    /// Whether any cell is not recorded, and whether any number is a lower bound.
    pub fn has_gaps(&self) -> (bool, bool) {
        let cells = || self.rows.iter().flat_map(|row| &row.cells);
        let missing = cells().any(|cell| matches!(cell, Cell::NotRecorded(_)));
        (
            missing,
            self.numbers()
                .any(|number| number.state == State::PartlyRecorded),
        )
    }

    /// Whether no cohort has users.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Whether the cohorts behind the averages have no common users.
    pub fn is_disjoint(&self) -> bool {
        self.repeats() == 0
    }

    /// Returns how many entries of the cohorts behind the averages are of people who are in another
    /// of them as well.
    pub fn repeats(&self) -> u64 {
        self.complete_entries - self.complete_people
    }

    /// Whether so few of those entries are repeats, at most 1 %, that averages have an interval.
    pub fn is_independent(&self) -> bool {
        are_independent(self.complete_entries, self.complete_people)
    }

    /// Whether a column of the average row is drawn: not where too few people are at risk.
    pub fn is_drawn(&self, average: &Average) -> bool {
        self.query.averaging != Averaging::Survival || average.size >= FEWEST_AT_RISK
    }

    /// Returns the text of the set of those who came back, each once, of the cohorts behind an
    /// average. `None` if these cohorts do not follow each other, or are too many.
    pub fn averaged_set(&self, column: usize) -> Option<String> {
        let query = &self.query;
        let is_averaged = |row: &Row| row.averaged(column).is_some();
        let first = self.rows.iter().position(is_averaged)?;
        let last = self.rows.iter().rposition(is_averaged)?;
        let rows = &self.rows[first..=last];
        // A cohort without people adds nobody.
        if !rows
            .iter()
            .all(|row| is_averaged(row) || row.size == Some(0))
        {
            return None;
        }
        let column = query.column(column)?;
        let counted = query.counted(column);
        let offsets = |from: usize, until: usize| {
            Offsets::new(i32::try_from(from).ok()?, i32::try_from(until).ok()?)
        };
        let returning = Box::new(query.returning.clone());
        let within = offsets(counted.first as usize, counted.last as usize)?;
        let who = match query.measure {
            _ if query.is_whole_cohort(column) => query.cohort.clone(),
            Measure::Unbroken => {
                let all = counted.last - counted.first + 1;
                let back = Segment::AtLeast(all, returning, within);
                query.cohort.clone().and_all([back])
            }
            _ => query
                .cohort
                .clone()
                .and_all([Segment::Within(returning, within)]),
        };
        let all = Segment::Within(Box::new(who), offsets(0, rows.len() - 1)?);
        Some(all.in_period(rows[0].period))
    }

    /// The averages that are drawn.
    pub fn drawn(&self) -> impl Iterator<Item = Option<Average>> + '_ {
        let averages = self.averages.iter().copied();
        averages.map(|average| average.filter(|average| self.is_drawn(average)))
    }

    /// Returns the same question of as many cohorts just before. `None` without cohorts.
    pub fn previous_query(&self) -> Option<Query> {
        let first = self.rows.first()?.period;
        let count = i64::try_from(self.rows.len()).ok()?;
        let date = |back: i64| Some(first.shift(-back).ok()?.local_start().date());
        let single = self.query.brackets.is_none();
        Some(Query {
            rows: None,
            cols: single.then(|| self.query.cols()),
            from: Some(date(count)?),
            to: Some(date(1)?),
            ..self.query.clone()
        })
    }

    /// Whether column 0 is so far above the others that it would leave them flat and alike.
    pub fn first_dwarfs(&self) -> bool {
        if self.averages.len() < 3 || self.query.brackets.is_some() {
            return false;
        }
        match (self.averages[0], self.averages[1]) {
            (Some(first), Some(next)) => next.rate < READABLE && first.rate > next.rate * 1.5,
            _ => false,
        }
    }

    /// Returns the share of the column before that a column retains, over all cohorts that are
    /// complete in both, and how many cohorts those are. `None` where nobody is left in them.
    pub fn all_of_previous(&self, column: usize) -> Option<(f64, u32)> {
        let before = column.checked_sub(1)?;
        let pairs = self
            .rows
            .iter()
            .filter_map(|row| row.averaged(before).zip(row.averaged(column)));
        let (from, to, cohorts) = pairs.fold((0, 0, 0), |(from, to, cohorts), pair| {
            (from + pair.0.retained, to + pair.1.retained, cohorts + 1)
        });
        Some((rate(to, from)?, cohorts))
    }

    /// Returns the share of the column before that a cell retains. `None` in column 0, where nobody
    /// is left to be retained, and where a number is a lower bound.
    pub fn of_previous(&self, row: &Row, column: usize) -> Option<f64> {
        let number = |column: usize| {
            let number = row.cells.get(column)?.number()?;
            (number.state != State::PartlyRecorded).then_some(number.retained)
        };
        rate(number(column)?, number(column.checked_sub(1)?)?)
    }

    /// Whether any number shown can still change.
    pub fn has_running(&self) -> bool {
        self.numbers()
            .any(|number| number.state == State::InProgress)
    }
}
