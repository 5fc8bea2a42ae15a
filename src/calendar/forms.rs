//! The forms in which databases, languages and tools write moments: ISO 8601, RFC 2822, and forms
//! with the name of the month.
//!
//! Every form names its year and month without doubt. `11/12/2026` does not, so it is refused.

use chrono::{Duration, NaiveDate, NaiveDateTime, NaiveTime, Weekday};

/// The offset of a zone from UTC, in seconds.
type Offset = i32;

/// Parses a moment in any form but Unix seconds. Returns it in UTC.
pub(super) fn parse(text: &str) -> Option<NaiveDateTime> {
    iso(text)
        .or_else(|| with_month_name(text))
        .or_else(|| git_raw(text))
}

/// A date whose first two numbers are a day and a month, in an order that it does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DayAndMonth {
    /// The date if the day comes first.
    pub day_first: Option<NaiveDate>,
    /// The date if the month comes first.
    pub month_first: Option<NaiveDate>,
}

/// Recognizes texts such as `11/12/2026`, `11.12.2026 14:00` and `11-12-26`.
pub(super) fn day_and_month(text: &str) -> Option<DayAndMonth> {
    let (first, rest) = digits(text, 1, 2)?;
    let separator = rest.chars().next().filter(|c| "/.-".contains(*c))?;
    let (second, rest) = digits(&rest[1..], 1, 2)?;
    let rest = rest.strip_prefix(separator)?;
    let (year, rest) = digits(rest, 4, 4)
        .or_else(|| digits(rest, 2, 2).map(|(year, rest)| (2000 + year, rest)))?;
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let date = |month, day| NaiveDate::from_ymd_opt(year.try_into().ok()?, month, day);
    Some(DayAndMonth {
        day_first: date(second, first),
        month_first: date(first, second),
    })
}

/// Reads between `least` and `most` digits. Returns the number and what follows.
fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let len = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    let (number, rest) = text.split_at(len);
    (len >= least)
        .then(|| number.parse().ok())
        .flatten()
        .map(|number| (number, rest))
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// ISO 8601, and what is close to it: a blank instead of the `T`, slashes in the date, an offset
/// after a blank, a zone's name after the offset.
fn iso(text: &str) -> Option<NaiveDateTime> {
    let (date, rest) = iso_date(text)?;
    if rest.is_empty() {
        return date.and_hms_opt(0, 0, 0);
    }
    let time = match rest.strip_prefix(['T', 't']) {
        Some(time) => time,
        None => rest.strip_prefix([' ', '\u{a0}', '\u{202f}'])?.trim_start(),
    };
    let (time, rest) = time_of_day(time)?;
    let (time, rest) = half_of_day(time, rest)?;
    in_utc(date, time, offset(rest)?)
}

fn iso_date(text: &str) -> Option<(NaiveDate, &str)> {
    let (date, rest) = match leading_digits(text) {
        4 => {
            let (year, rest) = digits(text, 4, 4)?;
            let year = year.try_into().ok()?;
            let separator = rest.chars().next()?;
            match separator {
                'W' => week(year, &rest[1..], false)?,
                '-' if rest[1..].starts_with('W') => week(year, &rest[2..], true)?,
                '-' if leading_digits(&rest[1..]) == 3 => {
                    let (day, rest) = digits(&rest[1..], 3, 3)?;
                    (NaiveDate::from_yo_opt(year, day)?, rest)
                }
                '-' | '/' | '.' => {
                    let (month, rest) = digits(&rest[1..], 1, 2)?;
                    let (day, rest) = digits(rest.strip_prefix(separator)?, 1, 2)?;
                    (NaiveDate::from_ymd_opt(year, month, day)?, rest)
                }
                _ => return None,
            }
        }
        // Without a time of day these may be Unix seconds.
        8 if text.len() > 8 => {
            let (year, rest) = digits(text, 4, 4)?;
            let (month, rest) = digits(rest, 2, 2)?;
            let (day, rest) = digits(rest, 2, 2)?;
            (
                NaiveDate::from_ymd_opt(year.try_into().ok()?, month, day)?,
                rest,
            )
        }
        7 if text.len() > 7 => {
            let (year, rest) = digits(text, 4, 4)?;
            let (day, rest) = digits(rest, 3, 3)?;
            (NaiveDate::from_yo_opt(year.try_into().ok()?, day)?, rest)
        }
        _ => return None,
    };
    (leading_digits(rest) == 0).then_some((date, rest))
}

/// The day of an ISO week: `01-1`, or `011` in the basic form.
fn week(year: i32, text: &str, is_extended: bool) -> Option<(NaiveDate, &str)> {
    let (week, rest) = digits(text, 2, 2)?;
    let rest = if is_extended {
        rest.strip_prefix('-')?
    } else {
        rest
    };
    let (day, rest) = digits(rest, 1, 1)?;
    let day = Weekday::try_from(u8::try_from(day.checked_sub(1)?).ok()?).ok()?;
    Some((NaiveDate::from_isoywd_opt(year, week, day)?, rest))
}

/// Seconds since midnight, and what follows: `14`, `14:05`, `14:05:59.25`, `1405`, `140559`.
/// Fractions of a second are dropped. `24:00` is the end of the day.
fn time_of_day(text: &str) -> Option<(u32, &str)> {
    let (hours, minutes, seconds, rest) = match leading_digits(text) {
        1 | 2 => {
            let (hours, rest) = digits(text, 1, 2)?;
            match rest.strip_prefix(':') {
                None => (hours, 0, 0, rest),
                Some(rest) => {
                    let (minutes, rest) = digits(rest, 2, 2)?;
                    match rest.strip_prefix(':') {
                        None => (hours, minutes, 0, rest),
                        Some(rest) => {
                            let (seconds, rest) = digits(rest, 2, 2)?;
                            (hours, minutes, seconds, without_fraction(rest)?)
                        }
                    }
                }
            }
        }
        4 => {
            let (number, rest) = digits(text, 4, 4)?;
            (number / 100, number % 100, 0, rest)
        }
        6 => {
            let (number, rest) = digits(text, 6, 6)?;
            let rest = without_fraction(rest)?;
            (number / 10_000, number / 100 % 100, number % 100, rest)
        }
        _ => return None,
    };
    let is_end = hours == 24 && minutes == 0 && seconds == 0;
    // A leap second belongs to the second before it, as in Unix time.
    let is_valid = hours < 24 && minutes < 60 && seconds <= 60;
    (is_valid || is_end).then(|| (hours * 3600 + minutes * 60 + seconds.min(59), rest))
}

fn without_fraction(text: &str) -> Option<&str> {
    match text.strip_prefix(['.', ',']) {
        None => Some(text),
        Some(fraction) => {
            let len = leading_digits(fraction);
            (len > 0).then(|| &fraction[len..])
        }
    }
}

/// Applies `AM` or `PM`, if it follows.
fn half_of_day(time: u32, rest: &str) -> Option<(u32, &str)> {
    let trimmed = rest.trim_start_matches([' ', '\u{a0}', '\u{202f}']);
    let is_half = |half: &str| {
        trimmed
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case(half))
    };
    let hours = match (is_half("am"), is_half("pm")) {
        (false, false) => return Some((time, rest)),
        (true, _) => 0,
        (_, true) => 12,
    };
    let hour = time / 3600;
    let is_valid = (1..=12).contains(&hour);
    is_valid.then(|| (time % 3600 + (hour % 12 + hours) * 3600, &trimmed[2..]))
}

/// The offset that a text consists of. An empty text stands for UTC.
fn offset(text: &str) -> Option<Offset> {
    let text = text.trim_start();
    let after_name = ["UTC", "GMT", "Z", "UT"].iter().find_map(|name| {
        let start = text.get(..name.len())?;
        let rest = &text[name.len()..];
        let ends = !rest.starts_with(|c: char| c.is_alphanumeric());
        (start.eq_ignore_ascii_case(name) && ends).then_some(rest)
    });
    let signed = after_name.unwrap_or(text);
    match numeric_offset(signed) {
        Some((offset, rest)) => is_zone_name(rest).then_some(offset),
        None if after_name.is_some() || signed.is_empty() => is_zone_name(signed).then_some(0),
        None => None,
    }
}

/// Parses `+01`, `+0100`, `+01:00` or `+01:00:30`. Returns what follows.
fn numeric_offset(text: &str) -> Option<(Offset, &str)> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' | '\u{2212}' => -1,
        _ => return None,
    };
    let text = text.trim_start_matches(['+', '-', '\u{2212}']);
    let (hours, minutes, seconds, rest) = match leading_digits(text) {
        2 => {
            let (hours, rest) = digits(text, 2, 2)?;
            match rest.strip_prefix(':') {
                None => (hours, 0, 0, rest),
                Some(rest) => {
                    let (minutes, rest) = digits(rest, 2, 2)?;
                    match rest.strip_prefix(':') {
                        None => (hours, minutes, 0, rest),
                        Some(rest) => {
                            let (seconds, rest) = digits(rest, 2, 2)?;
                            (hours, minutes, seconds, rest)
                        }
                    }
                }
            }
        }
        4 => {
            let (number, rest) = digits(text, 4, 4)?;
            (number / 100, number % 100, 0, rest)
        }
        6 => {
            let (number, rest) = digits(text, 6, 6)?;
            (number / 10_000, number / 100 % 100, number % 100, rest)
        }
        _ => return None,
    };
    let is_valid = hours < 24 && minutes < 60 && seconds < 60;
    let offset = Offset::try_from(hours * 3600 + minutes * 60 + seconds).ok()?;
    is_valid.then_some((sign * offset, rest))
}

/// Returns whether a text after an offset only names the same zone once more: ` CEST`,
/// ` (Central European Time)`, `[Europe/Berlin]`, ` +03`, and Go's ` m=+0.0012`.
fn is_zone_name(text: &str) -> bool {
    let rest: Vec<&str> = text
        .split_whitespace()
        .skip_while(|word| {
            let is_abbreviation = word.bytes().all(|byte| byte.is_ascii_uppercase())
                || numeric_offset(word).is_some_and(|(_, rest)| rest.is_empty());
            (word.len() <= 5 && is_abbreviation) || word.starts_with("m=")
        })
        .collect();
    match rest[..] {
        [] => true,
        [first, .., last] => is_bracketed(first, last),
        [only] => is_bracketed(only, only),
    }
}

fn is_bracketed(first: &str, last: &str) -> bool {
    (first.starts_with('(') && last.ends_with(')'))
        || (first.starts_with('[') && last.ends_with(']'))
}

fn in_utc(date: NaiveDate, time: u32, offset: Offset) -> Option<NaiveDateTime> {
    let seconds = i64::from(time) - i64::from(offset);
    date.and_time(NaiveTime::MIN)
        .checked_add_signed(Duration::seconds(seconds))
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// The index of a name, of which at least three letters are written.
fn name_index(names: &[&str], word: &str) -> Option<usize> {
    let word = word.trim_end_matches('.').to_ascii_lowercase();
    let is_name = |name: &&str| word.len() >= 3 && name.starts_with(&word);
    names
        .iter()
        .position(is_name)
        .or_else(|| (word == "sept").then_some(8))
}

/// Forms with the name of the month, in any order: `Mon, 04 Jan 2021 00:30:00 GMT`,
/// `Mon Jan 4 00:30:00 2021 +0000`, `Mon Jan 04 2021 01:30:00 GMT+0100 (CET)`,
/// `04/Jan/2021:00:30:00 +0000`, `Jan 4, 2021 12:30 AM`.
fn with_month_name(text: &str) -> Option<NaiveDateTime> {
    if !text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let text = match text.split_once('(') {
        Some((text, comment)) if comment.ends_with(')') => text,
        _ => text,
    };
    let spread = spread_date(text);
    let mut year = None;
    let mut month = None;
    let mut day = None;
    let mut time: Option<u32> = None;
    let mut zone: Option<Offset> = None;
    let words = spread
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty());
    for word in words {
        if word.contains(':') && leading_digits(word) > 0 && time.is_none() {
            let (seconds, rest) = time_of_day(word)?;
            let (seconds, rest) = half_of_day(seconds, rest)?;
            time = Some(seconds);
            if !rest.is_empty() {
                zone = Some(offset(rest)?);
            }
        } else if let Some(number) = ordinal(word) {
            match word.len() {
                4 if year.is_none() && word.bytes().all(|byte| byte.is_ascii_digit()) => {
                    year = Some(i32::try_from(number).ok()?);
                }
                _ if day.is_none() && number <= 31 => day = Some(number),
                _ => return None,
            }
        } else if let Some(index) = name_index(&MONTHS, word)
            && month.is_none()
        {
            month = Some(u32::try_from(index).ok()? + 1);
        } else if name_index(&WEEKDAYS, word).is_some() {
        } else if ["am", "pm"]
            .iter()
            .any(|half| word.eq_ignore_ascii_case(half))
        {
            time = Some(half_of_day(time?, word)?.0);
        } else if zone.is_none() {
            zone = Some(offset(word)?);
        } else if !is_zone_name(word) {
            return None;
        }
    }
    let date = NaiveDate::from_ymd_opt(year?, month?, day?)?;
    in_utc(date, time.unwrap_or(0), zone.unwrap_or(0))
}

/// A number, perhaps as `1st`, `2nd`, `3rd` or `4th`.
fn ordinal(word: &str) -> Option<u32> {
    let len = leading_digits(word);
    let (number, suffix) = word.split_at(len);
    let is_ordinal = ["", "st", "nd", "rd", "th"].contains(&suffix);
    if is_ordinal && (1..=4).contains(&len) {
        number.parse().ok()
    } else {
        None
    }
}

/// Writes the parts of `04/Jan/2021:00:30:00` and `04-Jan-2021` as words of their own.
fn spread_date(text: &str) -> std::borrow::Cow<'_, str> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let Some(separator) = first.chars().find(|c| "/-".contains(*c)) else {
        return text.into();
    };
    let parts: Vec<&str> = first.splitn(3, separator).collect();
    match parts[..] {
        [day, month, year]
            if leading_digits(day) == day.len() && name_index(&MONTHS, month).is_some() =>
        {
            let year = year.replacen(':', " ", 1);
            format!("{day} {month} {year} {rest}").into()
        }
        _ => text.into(),
    }
}

/// What `git log --date=raw` prints: Unix seconds, and the offset of the author's clock.
fn git_raw(text: &str) -> Option<NaiveDateTime> {
    let (seconds, offset) = text.split_once(' ')?;
    let (_, rest) = numeric_offset(offset)?;
    let all_digits = (9..=11).contains(&seconds.len()) && leading_digits(seconds) == seconds.len();
    if !rest.is_empty() || !all_digits {
        return None;
    }
    chrono::DateTime::from_timestamp(seconds.parse().ok()?, 0).map(|moment| moment.naive_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_programs_write_them() {
        // All are 2021-01-04 00:30:00 UTC, some with a fraction of a second.
        for text in [
            // ISO 8601
            "2021-01-04T00:30Z",
            "2021-01-04T00:30:00Z",
            "2021-01-04t00:30:00z",
            "2021-01-04T00:30:00,5Z",
            "2021-01-04T01:30:00+0100",
            "2021-01-04T02:30+02:00",
            "2021-01-03T22:30:00-02",
            "20210104T003000Z",
            "20210104T0030",
            "2021-004T00:30:00Z",
            "2021004T003000Z",
            "2021-W01-1T00:30:00Z",
            "2021W011T003000Z",
            "2021-01-04T00:30:00\u{2212}00:00",
            // PostgreSQL, DuckDB, MySQL, SQLite
            "2021-01-04 00:30:00+00",
            "2021-01-04 02:30:00.745232+02",
            "2021-01-04 06:00:00+05:30",
            "2021-01-04 00:30",
            "2021-01-04 00:30:00.000000",
            "Mon Jan 04 00:30:00 2021 UTC",
            // BigQuery, Snowflake, Trino
            "2021-01-04 00:30:00 UTC",
            "2021-01-04 00:30:00.745232 UTC",
            "2021-01-04 00:30:00.000 Z",
            "2021-01-03 16:30:00.000 -0800",
            "Sun, 03 Jan 2021 16:30:00 -0800",
            // pandas, Python
            "2021-01-04 00:30:00.000000000+00:00",
            "Mon Jan  4 00:30:00 2021",
            // Ruby, Go
            "2021-01-04 00:30:00 +0000",
            "2021-01-04 00:30:00 +0000 UTC",
            "2021-01-04 02:30:00.5 +0200 EET",
            "2021-01-04 03:30:00 +0300 +03",
            "2021-01-04 00:30:00.000012 +0000 UTC m=+0.000012",
            // Java, JavaScript
            "2021-01-04T01:30+01:00[Europe/Berlin]",
            "Mon Jan 04 00:30:00 UTC 2021",
            "Mon Jan 04 2021 01:30:00 GMT+0100 (Central European Standard Time)",
            "Mon, 04 Jan 2021 00:30:00 GMT",
            // git, web servers, Twitter
            "Mon Jan 4 01:30:00 2021 +0100",
            "1609720200 +0100",
            "04/Jan/2021:00:30:00 +0000",
            "Mon Jan 04 00:30:00 +0000 2021",
            // People
            "2021/01/04 00:30",
            "2021-1-4 0:30",
            "Jan 4, 2021 12:30 AM",
            "4 January 2021 12:30am",
            "January 4th, 2021, 00:30 UTC",
            "2021-01-04 12:30:00 AM",
            "04-Jan-2021 00:30:00",
        ] {
            let shown = parse(text).map(|moment| moment.format("%Y-%m-%d %H:%M:%S").to_string());
            assert_eq!(shown.as_deref(), Some("2021-01-04 00:30:00"), "{text}");
        }
        for (text, expected) in [
            ("2021-01-04T24:00Z", "2021-01-05 00:00:00"),
            ("2016-12-31T23:59:60Z", "2016-12-31 23:59:59"),
            ("2021-01-04 12:30 PM", "2021-01-04 12:30:00"),
            ("4 Jan 2021", "2021-01-04 00:00:00"),
            ("1890-01-01 00:00:00+00:53:28", "1889-12-31 23:06:32"),
        ] {
            let shown = parse(text).map(|moment| moment.format("%Y-%m-%d %H:%M:%S").to_string());
            assert_eq!(shown.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_may_mean_two_things_or_nothing_is_refused() {
        for text in [
            "",
            "never",
            "2021",
            "2021-01",
            "2021-W01",
            "20210104",
            "2021-02-30",
            "2021-01-04T",
            "2021-01-04 25:00",
            "2021-01-04 24:01",
            "2021-01-04 13:00 PM",
            "2021-01-04 00:30:00 PST",
            "2021-01-04 00:30:00+1",
            "2021-01-04 00:30:00+24:00",
            "2021-01-04 00:30:00.",
            "2021-01-04 00:30:00 UTC never",
            "2021-01-041",
            "11/12/2026",
            "11.12.2026 14:00",
            "04-Jan-21",
            "Jan 2021",
            "Jan Feb 4 2021",
            "Monday",
            "May",
            "1609720200 +0100 x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_day_and_a_month_are_recognized() {
        let date = |text: &str| text.parse::<NaiveDate>().ok();
        for (text, day_first, month_first) in [
            ("11/12/2026", "2026-12-11", "2026-11-12"),
            ("11.12.26 14:00", "2026-12-11", "2026-11-12"),
            ("23-11-2026", "2026-11-23", ""),
            ("1/23/2026, 1:00 PM", "", "2026-01-23"),
        ] {
            let expected = DayAndMonth {
                day_first: date(day_first),
                month_first: date(month_first),
            };
            assert_eq!(day_and_month(text), Some(expected), "{text}");
        }
        for text in ["2026/11/12", "11/12", "11/12.2026", "11/12/20261", "1.5"] {
            assert_eq!(day_and_month(text), None, "{text}");
        }
    }
}
