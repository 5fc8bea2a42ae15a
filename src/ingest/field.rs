//! One field of a line: a user id, a moment, and how to show what is neither.

use chrono::{NaiveDate, NaiveTime};

use crate::calendar::{CalendarError, parse_moment};
use crate::sets::UserId;

/// Unix milliseconds of 1973 and Unix seconds of the year 5138: a whole number from here on counts milliseconds.
const MILLISECONDS: i64 = 100_000_000_000;

/// Reads a user id: a whole number from 0 to 2³²−1, in digits.
///
/// # Errors
/// What a user id looks like.
pub fn parse_user(text: &str) -> Result<UserId, String> {
    user(text.as_bytes())
}

pub(super) fn user(field: &[u8]) -> Result<UserId, String> {
    let digits = field.trim_ascii();
    let number = digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    match number.and_then(|number| UserId::try_from(number).ok()) {
        Some(user) if !digits.is_empty() => Ok(user),
        _ => {
            let text = digits.iter().any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
            let more = if text { "; text ids are not supported yet" } else { "" };
            Err(format!("`{}` is not a user id: a whole number from 0 to 4294967295{more}", excerpt(digits)))
        }
    }
}

/// Whether a whole number may stand for milliseconds where seconds are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unix {
    /// It is counted in seconds.
    Seconds,
    /// Great numbers are counted in milliseconds.
    Either,
}

/// Reads a moment as Unix seconds, rounded down.
pub(super) fn moment(field: &[u8], unix: Unix) -> Result<i64, String> {
    let field = field.trim_ascii();
    if let Some(moment) = common_moment(field) {
        return Ok(moment);
    }
    let text = utf8(field)?;
    if unix == Unix::Either
        && let Ok(number) = text.parse::<i64>()
        && let Some(seconds) = unix_moment(number, unix)
    {
        return Ok(seconds);
    }
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

/// Unix seconds of a number that is surely a time of 1973 to 5138, or later when it counts milliseconds. `None` says
/// nothing but "ask [`moment`]": a number of eight digits may be a date.
pub(super) fn unix_moment(number: i64, unix: Unix) -> Option<i64> {
    /// The last second of the year 9999.
    const LAST: i64 = 253_402_300_799;
    match unix {
        _ if (100_000_000..MILLISECONDS).contains(&number) => Some(number),
        Unix::Either if number >= MILLISECONDS => Some(number / 1000).filter(|seconds| *seconds <= LAST),
        _ => None,
    }
}

/// The forms that nearly every file has, at a tenth of the price: `2026-11-23`, and `2026-11-23[T ]14:00:00` with or
/// without a fraction, and `Z` or (behind a `T`) `+00:00`. `None` says nothing but "ask `parse_moment`".
fn common_moment(field: &[u8]) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| {
        field.get(range)?.iter().try_fold(0_u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| field.get(at).is_some_and(|byte| wanted.contains(byte));
    if !is(4, b"-") || !is(7, b"-") {
        return None;
    }
    let year = i32::try_from(number(0..4)?).ok().filter(|year| *year > 0)?;
    let date = NaiveDate::from_ymd_opt(year, number(5..7)?, number(8..10)?)?;
    let time = match field.len() {
        10 => NaiveTime::MIN,
        19.. if is(10, b"T ") && is(13, b":") && is(16, b":") && ends_well(&field[19..], field[10]) => {
            NaiveTime::from_hms_opt(number(11..13)?, number(14..16)?, number(17..19)?)?
        }
        _ => return None,
    };
    Some(date.and_time(time).and_utc().timestamp())
}

/// Whether what stands behind the seconds changes nothing about them.
fn ends_well(rest: &[u8], separator: u8) -> bool {
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

/// A field as it may be printed: short, and without control characters.
pub(super) fn excerpt(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_way_agrees_with_the_calendar() {
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
