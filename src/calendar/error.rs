//! Why a date, period or zone is not valid.

use chrono::NaiveDate;

/// The first supported year.
pub const MIN_YEAR: i32 = 1;
/// The last supported year.
pub const MAX_YEAR: i32 = 9999;

/// Why a date, period, moment or zone is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// The text is not the name of a grain.
    #[error("`{0}` is not a period: write hour, day, week, month or year")]
    Grain(String),
    /// The text is not a day on which weeks begin.
    #[error("`{0}` is not a day on which weeks begin: write monday, sunday or saturday")]
    WeekStart(String),
    /// The text is not a period.
    #[error("`{0}` is not a period: write 2026-11-23T14, 2026-11-23, 2026-W48, 2026-11 or 2026")]
    Period(String),
    /// The text is not a moment.
    #[error(
        "`{0}` is not a time: write 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00Z or Unix seconds such as 1795442400"
    )]
    Moment(String),
    /// The text has four or eight digits, which may be a date without dashes or Unix seconds.
    #[error("`{0}` may be a date or Unix seconds: write a date as 2026-11-23")]
    Ambiguous(String),
    /// The text is a date whose day and month may be meant in either order.
    #[error("`{text}` {}", what_it_may_be(*.day_first, *.month_first))]
    DayOrMonth {
        /// The text.
        text: String,
        /// The date if the day comes first.
        day_first: Option<NaiveDate>,
        /// The date if the month comes first.
        month_first: Option<NaiveDate>,
    },
    /// The text is not a date.
    #[error("`{0}` is not a date: write it as 2026-11-23")]
    Date(String),
    /// The result is outside the supported years.
    #[error("the year must lie between {MIN_YEAR} and {MAX_YEAR}")]
    OutOfRange,
    /// The text is not the name of a time zone.
    #[error("`{0}` is not a time zone: write a name such as Europe/Berlin, or UTC")]
    Zone(String),
    /// The zone has no hours that begin when hours in UTC do.
    #[error(
        "{zone} cannot be used for {year}: in that year it differs from UTC by a part of an hour, and bitmaps hold whole hours in UTC"
    )]
    PartHours {
        /// The name of the zone.
        zone: &'static str,
        /// The year.
        year: i32,
    },
    /// An hour that does not exist in a zone, or exists twice.
    #[error(
        "{hour} exists {times} in {zone}, where the clocks are changed: write its offset, as in 2026-10-25T02+02"
    )]
    LocalHour {
        /// The hour, without an offset.
        hour: String,
        /// `twice` or `never`.
        times: &'static str,
        /// The name of the zone.
        zone: &'static str,
    },
}

fn what_it_may_be(day_first: Option<NaiveDate>, month_first: Option<NaiveDate>) -> String {
    match (day_first, month_first) {
        (Some(a), Some(b)) if a != b => {
            format!("may be {a} or {b}: write the year first")
        }
        (Some(date), _) | (_, Some(date)) => format!("must be written with the year first: {date}"),
        (None, None) => "is not a date: write it as 2026-11-23".to_owned(),
    }
}
