//! The periods that a report shows, from the fields of its question.

use chrono::NaiveDate;

use crate::calendar::{Grain, Period, Zone};
use crate::reports::coverage::Coverage;
use crate::reports::error::QueryError;
use crate::reports::limits::MAX_PERIODS;

/// Consecutive periods: by default the last ones, up to the current period or the one in which the
/// data ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The length of a period.
    pub grain: Grain,
    /// The first period is the one that contains this date.
    pub from: Option<NaiveDate>,
    /// How many periods, 1–[`MAX_PERIODS`].
    pub rows: Option<u32>,
    /// The zone in which periods begin and end.
    pub zone: Zone,
}

impl Range {
    /// The last periods, as many as is usual for the grain.
    pub const fn last(grain: Grain) -> Self {
        Range {
            grain,
            from: None,
            rows: None,
            zone: Zone::UTC,
        }
    }

    /// Returns the default number of periods.
    pub const fn default_rows(grain: Grain) -> u32 {
        match grain {
            Grain::Hour => 48,
            Grain::Day => 30,
            Grain::Week(_) => 26,
            Grain::Month => 12,
            Grain::Year => 5,
        }
    }

    /// Returns the periods in a store with this coverage, oldest first, at least one. None of them
    /// is in the future.
    ///
    /// # Errors
    /// If the first date is in the future, or there are too many periods.
    pub fn periods(&self, coverage: &Coverage) -> Result<Vec<Period>, QueryError> {
        let grain = self.grain;
        let rows = i64::from(self.rows.unwrap_or(Self::default_rows(grain)));
        let current = coverage.current(grain);
        let newest = coverage.last(grain).unwrap_or(current);
        let dated = |error| QueryError::Date {
            field: "from",
            error,
        };
        let (first, last) = match self.from {
            None => (newest.shift(1 - rows).map_err(dated)?, newest),
            Some(from) => {
                let first = coverage.zone().of_date(grain, from).map_err(dated)?;
                if current.is_before(first) {
                    return Err(QueryError::Future {
                        from,
                        grain,
                        current,
                    });
                }
                let last = match self.rows {
                    Some(_) => first.shift(rows - 1).unwrap_or(current).min(current),
                    None => newest.max(first),
                };
                (first, last)
            }
        };
        let count = last.since(first).expect("both have the same grain") + 1;
        match u32::try_from(count) {
            Ok(count) if (1..=MAX_PERIODS).contains(&count) => Ok(first.range(count).collect()),
            _ => Err(QueryError::Field {
                field: "rows",
                message: format!("{count} {grain}s: ask for 1 to {MAX_PERIODS}, or a later date"),
            }),
        }
    }
}
