//! Why a question cannot be answered.

use chrono::NaiveDate;

use crate::calendar::{CalendarError, Grain, Period, Zone};
use crate::reports::limits::{MAX_CELLS, MAX_COLS, MAX_ROWS};
use crate::sets::{ExpandError, TooLarge};

/// Why a question cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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
    /// An unknown word.
    #[error("`{given}` is none of {}", known.join(", "))]
    Word {
        /// The given word.
        given: String,
        /// The valid words.
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
    /// A rule of one report was violated.
    #[error("{message}")]
    Field {
        /// The query parameter.
        field: &'static str,
        /// What is wrong, and a valid example.
        message: String,
    },
    /// A zone other than that in which the store is kept.
    #[error(
        "this store is kept in {kept}: its periods begin and end there, and it cannot count by {asked}. Leave the zone away, or write {kept}"
    )]
    KeptIn {
        /// The zone of the store.
        kept: Zone,
        /// The zone that was asked for.
        asked: Zone,
    },
    /// Its segments are too long for so many periods.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A pattern in its segments matches too many events.
    #[error(transparent)]
    Expand(ExpandError),
}

impl From<ExpandError> for QueryError {
    fn from(error: ExpandError) -> Self {
        match error {
            ExpandError::TooLarge(error) => QueryError::TooLarge(error),
            other => QueryError::Expand(other),
        }
    }
}

impl QueryError {
    /// Returns the query parameter that caused the error, if there is one.
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
            QueryError::Field { field, .. } => Some(field),
            QueryError::Calendar(CalendarError::PartHours { .. }) | QueryError::KeptIn { .. } => {
                Some("zone")
            }
            QueryError::Word { .. } | QueryError::Calendar(_) | QueryError::Expand(_) => None,
        }
    }
}
