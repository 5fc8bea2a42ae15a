//! A retention question with its defaults and limits.

use std::fmt;

use chrono::{NaiveDate, TimeDelta};

use crate::calendar::{CalendarError, Grain, Period};
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::limits::{MAX_CELLS, MAX_COLS, MAX_ROWS};
use crate::sets::{ExpandError, Segment, SetContext};

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

choice! {
    /// What a cell of a table shows.
    Show {
        /// The share of the cohort, in percent.
        #[default]
        Percent = "percent",
        /// How many users.
        Count = "count",
    }
}

impl Measure {
    /// Returns the word for when a return counts: `on`, `in`, or `on or after`.
    pub const fn words(self, grain: Grain) -> &'static str {
        match self {
            Measure::On => preposition(grain),
            Measure::OnOrAfter => "on or after",
        }
    }
}

/// Returns the preposition of a period: `on` a day, `in` a week.
pub const fn preposition(grain: Grain) -> &'static str {
    match grain {
        Grain::Day => "on",
        Grain::Hour | Grain::Week | Grain::Month | Grain::Year => "in",
    }
}

/// A retention question. [`Query::new`] fills in the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The segment that starts a cohort.
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
    /// The period that contains this date is the last cohort; by hour it is the last hour of the
    /// date. A date in the future means the current period.
    pub to: Option<NaiveDate>,
    /// What a cell counts.
    pub measure: Measure,
    /// How the average row is made.
    pub averaging: Averaging,
}

/// Returns the default number of cohorts and columns of a grain.
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

    /// Returns the numbers of cohorts and columns. `None` if they are invalid.
    pub fn size(&self) -> Option<(u32, u32)> {
        let rows = match (self.from, self.to) {
            (Some(from), Some(to)) => {
                let first = Period::of_date(self.grain, from).ok()?;
                let last = Period::of_date(self.grain, to).ok()?;
                u32::try_from(last.since(first)? + 1).ok()?
            }
            _ => self.rows.unwrap_or(default_size(self.grain)),
        };
        Some((rows, self.cols()))
    }

    /// Describes the question, given labels for both sides: `signup → active, daily cohorts,
    /// counted on the day`.
    pub fn title(&self, cohort: impl fmt::Display, returning: impl fmt::Display) -> String {
        format!(
            "{cohort} → {returning}, {} cohorts, counted {} the {}",
            self.grain.adjective(),
            self.measure.words(self.grain),
            self.grain
        )
    }

    /// The window of each cell in the row of `cohort`, from column 0 to the last that has begun.
    pub fn windows(&self, cohort: Period, coverage: &Coverage) -> Vec<Window> {
        let cols = i64::from(self.cols());
        let current = coverage.current(self.grain);
        let begun: Vec<Period> = (0..cols)
            .map_while(|k| cohort.shift(k).ok().filter(|p| *p <= current))
            .collect();
        let last = begun.last().copied();
        // "On or after" is complete only when the whole row is, because its cells can rise until
        // then.
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
    pub fn expanded(&self, context: SetContext<'_>) -> Result<Query, ExpandError> {
        Ok(Query {
            cohort: context.expand(&self.cohort)?,
            returning: context.expand(&self.returning)?,
            ..self.clone()
        })
    }

    /// The periods of the cohorts in a store with this coverage, oldest first.
    ///
    /// # Errors
    /// If a limit is exceeded or the dates contradict each other.
    pub fn cohorts(&self, coverage: &Coverage) -> Result<Vec<Period>, QueryError> {
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
        let count = last
            .since(first)
            .expect("both periods have the grain of the query")
            + 1;
        let rows = match u32::try_from(count) {
            Ok(rows) if rows <= MAX_ROWS => rows,
            _ => {
                let from = first.start().date_naive();
                let to = last.start().date_naive();
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
        Ok(first.range(rows).collect())
    }

    /// Returns the last cohort if no date is given. It is the one in which the data ends; for *on
    /// or after*, the last one whose whole window is over, unless the table would then begin before
    /// the data.
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

/// The periods in which a return counts for one cell, both ends included, and their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The period of the cell.
    pub from: Period,
    /// The last period that counts and has begun: `from`, or the last column for *on or after*.
    pub until: Period,
    /// The state of the cell.
    pub state: State,
    /// Whether `from` is recorded. Returns only count in recorded periods.
    pub is_recorded: bool,
}
