//! Named ranges: the last seven days, the year to date.

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use crate::calendar::Grain;
use crate::reports::retention::{Measure, default_size};
use crate::server::query::PageQuery;

/// A named range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Named as they are.
pub enum Range {
    Last7Days,
    Last14Days,
    Last30Days,
    Last90Days,
    Last12Weeks,
    Last12Months,
    YearToDate,
}

impl Range {
    /// All of them, shortest first.
    pub const ALL: [Range; 7] = [
        Range::Last7Days,
        Range::Last14Days,
        Range::Last30Days,
        Range::Last90Days,
        Range::Last12Weeks,
        Range::Last12Months,
        Range::YearToDate,
    ];

    /// Returns word, label, grain, cohorts (`None` if a date determines them) and columns.
    const fn parts(self) -> (&'static str, &'static str, Grain, Option<u32>, u32) {
        match self {
            Range::Last7Days => ("7d", "7 days", Grain::Day, Some(7), 7),
            Range::Last14Days => ("14d", "14 days", Grain::Day, Some(14), 14),
            Range::Last30Days => ("30d", "30 days", Grain::Day, Some(30), 30),
            // Ninety columns would be too wide, and 30 show as much.
            Range::Last90Days => ("90d", "90 days", Grain::Day, Some(90), 30),
            Range::Last12Weeks => ("12w", "12 weeks", Grain::WEEK, Some(12), 12),
            Range::Last12Months => ("12m", "12 months", Grain::Month, Some(12), 12),
            Range::YearToDate => ("ytd", "year to date", Grain::Month, None, 12),
        }
    }

    /// Its value in the query string: `7d`, `12w`, `ytd`.
    pub const fn as_str(self) -> &'static str {
        self.parts().0
    }

    /// `7 days`, `12 weeks`, `year to date`.
    pub const fn label(self) -> &'static str {
        self.parts().1
    }

    pub(super) const fn grain(self) -> Grain {
        self.parts().2
    }

    /// Cohorts and columns.
    pub(super) const fn size(self) -> (Option<u32>, u32) {
        let (_, _, _, rows, cols) = self.parts();
        (rows, cols)
    }

    /// Returns the date of the first cohort, if it is not counted back from `last`, the date of the
    /// last one.
    pub(super) fn from(self, last: NaiveDate) -> Option<NaiveDate> {
        (self == Range::YearToDate)
            .then(|| NaiveDate::from_ymd_opt(last.year(), 1, 1))
            .flatten()
    }

    /// Whether a question has this range as of `now`, or as of `ends` if the data ends before.
    pub fn is_of(self, asked: &PageQuery, now: DateTime<Utc>, ends: Option<NaiveDate>) -> bool {
        let last = ends.unwrap_or(now.date_naive());
        let asked = &asked.bare;
        let (rows, cols) = self.size();
        // Without dates "on or after" ends at the last cohort whose whole window is over.
        let up_to_now = asked.measure != Measure::OnOrAfter || asked.from.is_some();
        let is_size = asked.brackets.is_some() || asked.cols() == cols;
        up_to_now
            && is_size
            && (asked.grain, asked.from, asked.to) == (self.grain(), self.from(last), None)
            && rows.is_none_or(|rows| rows == asked.rows.unwrap_or(default_size(asked.grain)))
    }
}
