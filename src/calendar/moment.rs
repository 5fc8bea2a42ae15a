//! Parses dates and moments.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use crate::calendar::error::{CalendarError, MAX_YEAR, MIN_YEAR};
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

/// Parses a moment: RFC 3339, `YYYY-MM-DD`, `YYYY-MM-DD hh:mm[:ss[.fff]]` in UTC, or Unix seconds.
///
/// ```
/// use cohortist::calendar::parse_moment;
/// let noon = parse_moment("2026-11-23T12:00:00Z")?;
/// assert_eq!(parse_moment("2026-11-23 12:00:00")?, noon);
/// assert_eq!(parse_moment("2026-11-23T13:00:00+01:00")?, noon);
/// assert_eq!(parse_moment("1795435200")?, noon);
/// assert!(parse_moment("yesterday").is_err());
/// // Dates with dots or without dashes are not treated as Unix seconds.
/// assert!(parse_moment("23.11.2026").is_err() && parse_moment("20261123").is_err());
/// # Ok::<(), cohortist::calendar::CalendarError>(())
/// ```
///
/// # Errors
/// Returns [`CalendarError::Moment`] if the text has none of these forms,
/// [`CalendarError::Ambiguous`] if it has four or eight digits, and [`CalendarError::OutOfRange`] if
/// the year is not supported, which is the case for Unix *milli*seconds.
pub fn parse_moment(text: &str) -> Result<DateTime<Utc>, CalendarError> {
    let text = text.trim();
    let bad = || CalendarError::Moment(text.to_owned());
    let moment = if let Some(seconds) = unix_seconds(text) {
        if matches!(text.len(), 4 | 8) && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CalendarError::Ambiguous(text.to_owned()));
        }
        DateTime::from_timestamp(seconds, 0).ok_or(CalendarError::OutOfRange)?
    } else if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        moment.to_utc()
    } else if let Some(naive) = [
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M",
    ]
    .into_iter()
    .find_map(|format| NaiveDateTime::parse_from_str(text.trim_end_matches(" UTC"), format).ok())
    {
        naive.and_utc()
    } else {
        parse_date(text)
            .map_err(|_| bad())?
            .and_time(NaiveTime::MIN)
            .and_utc()
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
