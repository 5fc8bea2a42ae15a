//! Parses dates and moments.

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use crate::calendar::error::{CalendarError, MAX_YEAR, MIN_YEAR};
use crate::calendar::forms::{self, DayAndMonth};
use crate::calendar::grain::Grain;
use crate::calendar::period::Period;

/// Parses a date such as `2026-11-23`.
///
/// # Errors
/// Returns [`CalendarError::Date`] if the text is not a date.
pub fn parse_date(text: &str) -> Result<NaiveDate, CalendarError> {
    match text.trim().parse::<Period>() {
        Ok(day) if day.grain() == Grain::Day => Ok(day.local_start().date()),
        _ => Err(CalendarError::Date(text.to_owned())),
    }
}

/// Parses a moment: ISO 8601 with or without an offset, what databases, languages and tools print
/// (`Mon, 23 Nov 2026 12:00:00 GMT`), or Unix seconds. Without an offset it is in UTC.
///
/// ```
/// use cohortist::calendar::parse_moment;
/// let noon = parse_moment("2026-11-23T12:00:00Z")?;
/// assert_eq!(parse_moment("2026-11-23 12:00")?, noon);
/// assert_eq!(parse_moment("2026-11-23 13:00:00.5+01")?, noon);
/// assert_eq!(parse_moment("Mon Nov 23 2026 13:00:00 GMT+0100")?, noon);
/// assert_eq!(parse_moment("1795435200")?, noon);
/// assert!(parse_moment("yesterday").is_err());
/// // These may mean two things.
/// assert!(parse_moment("11.12.2026").is_err() && parse_moment("20261123").is_err());
/// # Ok::<(), cohortist::calendar::CalendarError>(())
/// ```
///
/// # Errors
/// Returns [`CalendarError::Moment`] if the text has none of these forms,
/// [`CalendarError::Ambiguous`] if it has four or eight digits, [`CalendarError::DayOrMonth`] if
/// its day and month may be meant in either order, and [`CalendarError::OutOfRange`] if the year is
/// not supported, which is the case for Unix *milli*seconds.
pub fn parse_moment(text: &str) -> Result<DateTime<Utc>, CalendarError> {
    let text = text.trim();
    let moment = if let Some(seconds) = unix_seconds(text) {
        if matches!(text.len(), 4 | 8) && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CalendarError::Ambiguous(text.to_owned()));
        }
        DateTime::from_timestamp(seconds, 0).ok_or(CalendarError::OutOfRange)?
    } else if let Some(moment) = forms::parse(text) {
        moment.and_utc()
    } else if let Some(DayAndMonth {
        day_first,
        month_first,
    }) = forms::day_and_month(text)
    {
        return Err(CalendarError::DayOrMonth {
            text: text.to_owned(),
            day_first,
            month_first,
        });
    } else {
        return Err(CalendarError::Moment(text.to_owned()));
    };
    if (MIN_YEAR..=MAX_YEAR).contains(&moment.year()) {
        Ok(moment)
    } else {
        Err(CalendarError::OutOfRange)
    }
}

/// Parses Unix seconds, such as `1795435200` or `1795435200.25`. Fractions are rounded down.
fn unix_seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole.strip_prefix('-').unwrap_or(whole)) || !all_digits(fraction) {
        return None;
    }
    let seconds = whole.parse::<i64>().ok()?;
    let down = whole.starts_with('-') && fraction.bytes().any(|b| b != b'0');
    Some(seconds - i64::from(down))
}
