//! Parses the fields of a line.

use crate::calendar::{CalendarError, parse_moment};
use crate::sets::whole_number;

/// The smallest number that counts as milliseconds. As milliseconds it is in 1973, as seconds in
/// the year 5138.
const MIN_MILLISECONDS: i64 = 100_000_000_000;

/// The unit of numbers that stand for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unix {
    /// Seconds.
    Seconds,
    /// Seconds, or milliseconds from [`MIN_MILLISECONDS`] on.
    Either,
}

/// Parses a moment. Returns Unix seconds, rounded down.
pub(super) fn moment(field: &[u8], unix: Unix) -> Result<i64, String> {
    let field = field.trim_ascii();
    let seconds = || unix_moment(i64::try_from(whole_number(field)?).ok()?, unix);
    if let Some(moment) = common_moment(field).or_else(seconds) {
        return Ok(moment);
    }
    let text = utf8(field)?;
    parse_moment(text).map(|moment| moment.timestamp()).map_err(|error| match error {
        CalendarError::OutOfRange if text.len() == 13 => {
            format!("`{text}` looks like milliseconds: Unix time is counted in seconds here")
        }
        CalendarError::OutOfRange => format!("`{}`: {error}", excerpt(field)),
        _ => format!(
            "`{}` is not a time: 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00Z or Unix seconds",
            excerpt(field)
        ),
    })
}

/// Returns the Unix seconds of a number that certainly stands for a moment. Returns `None` for a
/// number that [`moment`] must parse: for example, a number of eight digits may be a date.
pub(super) fn unix_moment(number: i64, unix: Unix) -> Option<i64> {
    /// The last second of the year 9999.
    const LAST: i64 = 253_402_300_799;
    match unix {
        _ if (100_000_000..MIN_MILLISECONDS).contains(&number) => Some(number),
        Unix::Either if number >= MIN_MILLISECONDS => {
            Some(number / 1000).filter(|seconds| *seconds <= LAST)
        }
        _ => None,
    }
}

/// Parses the most common forms in a tenth of the time of `parse_moment`: `2026-11-23`, and
/// `2026-11-23T14:00:00` or `2026-11-23 14:00:00`, optionally with a fraction and with `Z` or
/// (after a `T`) `+00:00`. Returns `None` for a text that `parse_moment` must parse.
fn common_moment(field: &[u8]) -> Option<i64> {
    let (date, time) = field.split_first_chunk()?;
    let [a, b, c, d, b'-', e, f, b'-', g, h] = *date else {
        return None;
    };
    let days = days(two(a, b)? * 100 + two(c, d)?, two(e, f)?, two(g, h)?)?;
    let seconds = match time.split_first_chunk() {
        None if time.is_empty() => 0,
        Some(([separator @ (b'T' | b' '), a, b, b':', c, d, b':', e, f], rest))
            if is_fraction_and_zone(rest, *separator) =>
        {
            let hours = two(*a, *b)?;
            let minutes = two(*c, *d)?;
            let seconds = two(*e, *f)?;
            if hours > 23 || minutes > 59 || seconds > 59 {
                return None;
            }
            (hours * 60 + minutes) * 60 + seconds
        }
        _ => return None,
    };
    Some(days * 86_400 + i64::from(seconds))
}

/// Returns the number that consists of two digits.
fn two(tens: u8, ones: u8) -> Option<u32> {
    let tens = tens.wrapping_sub(b'0');
    let ones = ones.wrapping_sub(b'0');
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

/// Returns the number of days from 1970-01-01 to a date in the years 1 to 9999, or `None` if the
/// date does not exist.
fn days(year: u32, month: u32, day: u32) -> Option<i64> {
    /// For each month, the number of days of the year before it, and its length.
    const MONTHS: [(u32, u32); 12] = [
        (0, 31),
        (31, 28),
        (59, 31),
        (90, 30),
        (120, 31),
        (151, 30),
        (181, 31),
        (212, 31),
        (243, 30),
        (273, 31),
        (304, 30),
        (334, 31),
    ];
    /// The number of days from 0001-01-01 to 1970-01-01.
    const TO_1970: i64 = 719_162;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (before, length) = *MONTHS.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if year == 0 || day == 0 || day > length + u32::from(leap && month == 2) {
        return None;
    }
    let years = year - 1;
    let first = years * 365 + years / 4 - years / 100 + years / 400;
    Some(i64::from(first + before + u32::from(leap && month > 2) + day - 1) - TO_1970)
}

/// Returns whether a text is an optional fraction of a second and an optional time zone for UTC.
fn is_fraction_and_zone(rest: &[u8], separator: u8) -> bool {
    let zone = match rest.strip_prefix(b".") {
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &rest[digits..]
        }
        None => rest,
    };
    zone.is_empty() || zone == b"Z" || (zone == b"+00:00" && separator == b'T')
}

pub(super) fn utf8(field: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(field).map_err(|_| format!("`{}` is not UTF-8", excerpt(field)))
}

/// Returns a field for use in a message: at most 40 characters, with control characters escaped.
pub(super) fn excerpt(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        format!("{short}…")
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_moments_are_those_of_the_calendar() {
        for text in [
            "2026-11-23",
            "2024-02-29",
            "0001-01-01",
            "1969-12-31 23:59:59.5",
            "2026-11-23 14:05:59",
            "2026-11-23T14:05:59",
            "2026-11-23T14:05:59Z",
            "2021-12-09 00:45:29.430000",
            "2022-07-06T19:37:43.095295+00:00",
            "2022-07-06T19:37:43.095295Z",
        ] {
            let slow = parse_moment(text).map(|moment| moment.timestamp());
            assert_eq!(common_moment(text.as_bytes()), slow.ok(), "{text}");
        }
        for text in [
            "2026-02-30",
            "0000-01-01",
            "2026-11-23T24:00:00",
            "2026-11-23T14:05:59X",
            "2026-11-23T14:05:59.",
            "2026-11-23T14:05:59+01:00",
            "2026-11-23T14:05:60Z",
            "2026/11/23",
            "x",
        ] {
            assert_eq!(common_moment(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let first = parse_moment("0001-01-01").unwrap();
        // Steps of eleven days reach every day of the year, and the last day of 9999.
        for day in (0..3_652_059).rev().step_by(11) {
            let at = first + chrono::Days::new(day);
            let text = at.format("%Y-%m-%d").to_string();
            assert_eq!(
                common_moment(text.as_bytes()),
                Some(at.timestamp()),
                "{text}"
            );
        }
        for (year, month, day) in [
            (2026, 2, 29),
            (1900, 2, 29),
            (2000, 2, 30),
            (2026, 0, 1),
            (2026, 13, 1),
            (0, 1, 1),
        ] {
            assert_eq!(days(year, month, day), None, "{year} {month} {day}");
        }
        assert_eq!(
            (days(2026, 4, 31), days(2026, 4, 0), days(2000, 2, 29)),
            (None, None, Some(11_016))
        );
    }

    #[test]
    fn whole_numbers_are_seconds_or_milliseconds() {
        for (text, unix, expected) in [
            ("1601412131", Unix::Either, Some(1_601_412_131)),
            ("1618716477123", Unix::Either, Some(1_618_716_477)),
            ("1618716477123", Unix::Seconds, None),
            ("20261123", Unix::Either, None),
            ("0", Unix::Seconds, Some(0)),
        ] {
            assert_eq!(moment(text.as_bytes(), unix).ok(), expected, "{text}");
        }
    }
}
