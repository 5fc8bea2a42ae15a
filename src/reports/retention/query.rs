//! A retention question with its defaults and limits.

use std::fmt;

use chrono::{NaiveDate, TimeDelta};

use crate::calendar::{Calendar, CalendarError, Grain, Period, Zone};
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::limits::{MAX_CELLS, MAX_COLS, MAX_ROWS};
use crate::reports::retention::columns::{Brackets, Column};
use crate::sets::{ExpandError, Segment, SetContext};

choice! {
    /// Whether a chart shows the cohorts just before as well.
    PreviousRange {
        /// It does not.
        #[default]
        Hidden = "0",
        /// It does.
        Shown = "1",
    }
}

choice! {
    /// What a cell counts.
    Measure {
        /// Users of the cohort who came back *in* the period: |A(c) ∩ B(c+k)|.
        #[default]
        On = "on",
        /// Users of the cohort who came back in the period or any later one shown: |A(c) ∩ (B(c+k)
        /// ∪ … ∪ B(c+cols−1))|. A union, never a sum, so it cannot rise along a row.
        OnOrAfter = "on_or_after",
        /// Users of the cohort who came back in any period from the first one after the cohort's to
        /// the column's: |A(c) ∩ (B(c+1) ∪ … ∪ B(c+k))|. Column 0 is as for [`On`](Self::On).
        OnOrBefore = "on_or_before",
        /// Users of the cohort who came back in every period up to the column's: |A(c) ∩ B(c+1) ∩ …
        /// ∩ B(c+k)|. Column 0 is the cohort.
        Unbroken = "unbroken",
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
        /// Kaplan–Meier: the share that remains, step by step, of all cohorts that are observed for
        /// that long. Only for [`Measure::Unbroken`].
        Survival = "survival",
    }
}

impl Averaging {
    /// Returns the average row of a measure if none is asked for. The weighted average of unbroken
    /// returns can rise along the row, because fewer cohorts reach the later columns.
    pub const fn default_for(measure: Measure) -> Self {
        match measure {
            Measure::Unbroken => Averaging::Survival,
            Measure::On | Measure::OnOrAfter | Measure::OnOrBefore => Averaging::Weighted,
        }
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
        /// The share of the column before it, in percent. Only for measures whose columns are
        /// nested.
        Previous = "previous",
    }
}

impl Averaging {
    /// Returns its name for people: `weighted average`.
    pub const fn words(self) -> &'static str {
        match self {
            Averaging::Weighted => "weighted average",
            Averaging::Simple => "simple average",
            Averaging::Survival => "survival",
        }
    }

    /// The same at the beginning of a line: `Weighted average`.
    pub const fn heading(self) -> &'static str {
        match self {
            Averaging::Weighted => "Weighted average",
            Averaging::Simple => "Simple average",
            Averaging::Survival => "Survival",
        }
    }
}

impl Measure {
    /// Returns the word for when a return counts: `on`, `in`, or `on or after`.
    pub const fn words(self, grain: Grain) -> &'static str {
        match self {
            Measure::On => preposition(grain),
            Measure::OnOrAfter => "on or after",
            Measure::OnOrBefore => "on or before",
            Measure::Unbroken => match grain {
                Grain::Day => "on every day up to",
                Grain::Hour => "in every hour up to",
                Grain::Week(_) => "in every week up to",
                Grain::Month => "in every month up to",
                Grain::Year => "in every year up to",
            },
        }
    }

    /// Whether the people of each column are among those of the column before it.
    pub const fn is_nested(self) -> bool {
        matches!(self, Measure::OnOrAfter | Measure::Unbroken)
    }
}

/// Returns the preposition of a period: `on` a day, `in` a week.
pub const fn preposition(grain: Grain) -> &'static str {
    match grain {
        Grain::Day => "on",
        Grain::Hour | Grain::Week(_) | Grain::Month | Grain::Year => "in",
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
    /// Ranges of periods as the columns, instead of `cols` single ones.
    pub brackets: Option<Brackets>,
    /// The period that holds this date is the first cohort.
    pub from: Option<NaiveDate>,
    /// The period that contains this date is the last cohort; by hour it is the last hour of the
    /// date. A date in the future means the current period.
    pub to: Option<NaiveDate>,
    /// What a cell counts.
    pub measure: Measure,
    /// How the average row is made.
    pub averaging: Averaging,
    /// The zone in which periods begin and end.
    pub zone: Zone,
}

/// Returns the default number of cohorts and columns of a grain.
pub const fn default_size(grain: Grain) -> u32 {
    match grain {
        Grain::Hour => 24,
        Grain::Day => 14,
        Grain::Week(_) | Grain::Month => 12,
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
            brackets: None,
            from: None,
            to: None,
            measure: Measure::default(),
            averaging: Averaging::default(),
            zone: Zone::UTC,
        }
    }

    /// Returns by which zone and weeks it is counted.
    pub fn calendar(&self) -> Calendar {
        Calendar {
            zone: self.zone,
            week: self.grain.week_start(),
        }
    }

    /// How many columns.
    pub fn cols(&self) -> u32 {
        match &self.brackets {
            Some(brackets) => u32::try_from(brackets.columns().len()).expect("there are few"),
            None => self.cols.unwrap_or(default_size(self.grain)),
        }
    }

    /// Returns a column by its place. `None` if the table does not have it.
    pub fn column(&self, place: usize) -> Option<Column> {
        match &self.brackets {
            Some(brackets) => brackets.columns().get(place).copied(),
            None => u32::try_from(place)
                .ok()
                .filter(|offset| *offset < self.cols())
                .map(Column::single),
        }
    }

    /// The columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = Column> + '_ {
        (0..self.cols() as usize).filter_map(|place| self.column(place))
    }

    /// Returns the last period of the last column, counted from the cohort's own.
    pub fn last_offset(&self) -> u32 {
        match &self.brackets {
            Some(brackets) => brackets.last(),
            None => self.cols().saturating_sub(1),
        }
    }

    /// Returns the periods in which a return counts for a column, counted from the cohort's own.
    /// For [`Measure::Unbroken`] it counts only in all of them.
    pub fn counted(&self, column: Column) -> Column {
        match self.measure {
            Measure::On => column,
            Measure::OnOrAfter => Column {
                first: column.first,
                last: self.last_offset(),
            },
            Measure::OnOrBefore | Measure::Unbroken => Column {
                first: column.last.min(1),
                last: column.last,
            },
        }
    }

    /// Whether a column counts the whole cohort: column 0 of [`Measure::Unbroken`].
    pub fn is_whole_cohort(&self, column: Column) -> bool {
        self.measure == Measure::Unbroken && column.last == 0
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
        let grain = self.grain;
        let counted = match (&self.brackets, self.measure) {
            (Some(_), _) => {
                let columns = self.columns().map(|column| self.counted(column).label());
                let columns: Vec<String> = columns.collect();
                format!("{} {grain}s {}", preposition(grain), columns.join(", "))
            }
            (None, Measure::Unbroken) => {
                format!("{} every {grain} since", preposition(grain))
            }
            (None, measure) => format!("{} the {grain}", measure.words(grain)),
        };
        format!(
            "{cohort} → {returning}, {} cohorts, counted {counted}",
            grain.adjective(),
        )
    }

    /// The window of each cell in the row of `cohort`, from the first column to the last that has
    /// begun.
    pub fn windows(&self, cohort: Period, coverage: &Coverage) -> Vec<Window> {
        let current = coverage.current(self.grain);
        let is_recorded = coverage.is_recorded(cohort);
        let at = |offset: u32| cohort.shift(offset.into()).ok();
        let begun = |column: &Column| at(column.first).is_some_and(|first| first <= current);
        let window = |column: Column| {
            let counted = self.counted(column);
            let from = at(counted.first).expect("it is not after the column, which has begun");
            // Beyond the last supported year there is nothing to count.
            let end = at(counted.last).unwrap_or(current);
            Window {
                column,
                from,
                until: end.min(current),
                state: if is_recorded {
                    coverage.state(from, end)
                } else {
                    State::NotRecorded
                },
            }
        };
        self.columns().take_while(begun).map(window).collect()
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
        self.check_fields()?;
        let asked = self.rows.unwrap_or(default_size(self.grain));
        if !(1..=MAX_ROWS).contains(&asked) {
            return Err(QueryError::Rows(asked.into()));
        }
        let dated = |field| move |error| QueryError::Date { field, error };
        let zone = coverage.zone();
        let first_on = |date| zone.of_date(self.grain, date).map_err(dated("from"));
        // The last hour of a day; for all other grains the period that holds it.
        let last_on = |date: NaiveDate| {
            match self.grain {
                Grain::Hour => {
                    let end = zone.of_date(Grain::Day, date).map_err(dated("to"))?.end();
                    zone.period(Grain::Hour, end - TimeDelta::microseconds(1))
                }
                grain => zone.of_date(grain, date),
            }
            .map_err(dated("to"))
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
                let from = first.local_start().date();
                let to = last.local_start().date();
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

    /// Checks that its fields go together.
    fn check_fields(&self) -> Result<(), QueryError> {
        let refused = |field, message: &str| {
            Err(QueryError::Field {
                field,
                message: message.to_owned(),
            })
        };
        if self.brackets.is_some() {
            if self.cols.is_some() {
                return refused(
                    "cols",
                    "`brackets` are the columns: leave out `cols`, or `brackets`",
                );
            }
            if matches!(self.measure, Measure::OnOrBefore | Measure::Unbroken) {
                return refused(
                    "brackets",
                    "brackets go with `measure=on` and `measure=on_or_after` only: `on_or_before` \
                     and `unbroken` count from the first period on",
                );
            }
        }
        if self.averaging == Averaging::Survival && self.measure != Measure::Unbroken {
            return refused(
                "average",
                "`survival` goes with `measure=unbroken` only: other shares can rise along a row. \
                 Use `weighted` or `simple`",
            );
        }
        Ok(())
    }

    /// Returns the last cohort if no date is given. It is the one in which the data ends; for *on
    /// or after*, the last one whose whole window is over, unless the table would then begin before
    /// the data.
    fn newest_cohort(&self, rows: u32, coverage: &Coverage) -> Result<Period, CalendarError> {
        let newest = coverage
            .last(self.grain)
            .unwrap_or(coverage.current(self.grain));
        if self.measure != Measure::OnOrAfter {
            return Ok(newest);
        }
        let whole = newest.shift(-i64::from(self.last_offset()) - 1)?;
        let begins = coverage
            .first(self.grain)
            .and_then(|first| first.shift(i64::from(rows) - 1).ok());
        Ok(begins.map_or(whole, |from_the_first_on| {
            whole.max(from_the_first_on.min(newest))
        }))
    }
}

/// The periods in which a return counts for one cell, and their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The column of the cell.
    pub column: Column,
    /// The first period that counts.
    pub from: Period,
    /// The last period that counts and has begun.
    pub until: Period,
    /// The state of the cell.
    pub state: State,
}
