//! Times as they are written.

use std::fmt;

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};

use crate::calendar::{CalendarError, MAX_YEAR, MIN_YEAR, parse_moment};
use crate::values::text::clean;

/// The unit of a number that stands for a time: how many of them passed since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Thousandths of a second.
    Milliseconds,
    /// Millionths of a second.
    Microseconds,
    /// Billionths of a second.
    Nanoseconds,
}

impl Unit {
    /// All units, the longest first.
    pub const ALL: [Unit; 4] = [
        Unit::Seconds,
        Unit::Milliseconds,
        Unit::Microseconds,
        Unit::Nanoseconds,
    ];

    /// How many of this unit are a second.
    const fn per_second(self) -> i64 {
        match self {
            Unit::Seconds => 1,
            Unit::Milliseconds => 1_000,
            Unit::Microseconds => 1_000_000,
            Unit::Nanoseconds => 1_000_000_000,
        }
    }

    /// The unit in which a number is a time between 1973 and 5138. Smaller numbers are seconds.
    const fn of_size(number: i64) -> Unit {
        match number.unsigned_abs() {
            0..100_000_000_000 => Unit::Seconds,
            100_000_000_000..100_000_000_000_000 => Unit::Milliseconds,
            100_000_000_000_000..100_000_000_000_000_000 => Unit::Microseconds,
            _ => Unit::Nanoseconds,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Seconds => "seconds",
            Unit::Milliseconds => "milliseconds",
            Unit::Microseconds => "microseconds",
            Unit::Nanoseconds => "nanoseconds",
        })
    }
}

/// A time that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Unix seconds, rounded down, in the years 1 to 9999.
    pub seconds: i64,
    /// The unit, if the time was written as a number.
    pub unit: Option<Unit>,
}

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// There is no time.
    #[error("the time is missing")]
    Missing,
    /// The text is not UTF-8.
    #[error("`{0}` is not UTF-8")]
    NotUtf8(String),
    /// The text has no known form.
    #[error(
        "`{0}` is not a time: write 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00+01:00 or Unix seconds"
    )]
    Unknown(String),
    /// The text may be one of two dates.
    #[error("{0}")]
    DayOrMonth(CalendarError),
    /// The text may be a date without dashes, or a number.
    #[error("{0}")]
    DateOrNumber(CalendarError),
    /// The text does not have the form that was asked for.
    #[error("`{text}` does not have the form {format}")]
    Form {
        /// The text.
        text: String,
        /// The form.
        format: String,
    },
    /// The text is not a number, and a unit was asked for.
    #[error("`{text}` is not a number of {unit}")]
    NotANumber {
        /// The text.
        text: String,
        /// The unit.
        unit: Unit,
    },
    /// The year is not plausible.
    #[error("`{text}` is in the year {year}, which is not between {first} and {last}")]
    Implausible {
        /// The text.
        text: String,
        /// Its year.
        year: i32,
        /// The first plausible year.
        first: i32,
        /// The last plausible year.
        last: i32,
    },
    /// The year is not supported.
    #[error("`{0}` is outside the years {MIN_YEAR} to {MAX_YEAR}")]
    OutOfRange(String),
}

impl TimeError {
    /// The forms in which a text that may be one of two dates can be meant, for `--time-format`.
    pub fn formats(&self) -> Vec<String> {
        let TimeError::DayOrMonth(CalendarError::DayOrMonth {
            text,
            day_first,
            month_first,
        }) = self
        else {
            return Vec::new();
        };
        let Some(separator) = text.chars().find(|c| !c.is_ascii_digit()) else {
            return Vec::new();
        };
        let (date, time) = text
            .find([' ', ',', 'T'])
            .map_or((text.as_str(), ""), |at| text.split_at(at));
        let year = match date.rsplit(separator).next().map(str::len) {
            Some(2) => "%y",
            _ => "%Y",
        };
        let mut rest = String::new();
        let mut fields = ["%H", "%M", "%S"].iter();
        let has_half = time.to_ascii_uppercase().ends_with('M');
        for c in time.chars() {
            match c {
                '0'..='9' if rest.ends_with(|c: char| c.is_ascii_alphabetic() && c != 'T') => {}
                '0'..='9' => match fields.next() {
                    Some(&"%H") if has_half => rest += "%I",
                    Some(field) => rest += field,
                    None => break,
                },
                '.' => {
                    rest += "%.f";
                    break;
                }
                'a' | 'A' | 'p' | 'P' if has_half => {
                    rest += "%p";
                    break;
                }
                c => rest.push(c),
            }
        }
        [(day_first, "%d", "%m"), (month_first, "%m", "%d")]
            .into_iter()
            .filter(|(date, ..)| date.is_some())
            .map(|(_, a, b)| format!("{a}{separator}{b}{separator}{year}{rest}"))
            .collect()
    }
}

/// Why a form of times cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeFormatError {
    /// It has an unknown part.
    #[error("`{0}` is not a form of times: write it as for strftime, such as %d/%m/%Y %H:%M")]
    Unknown(String),
    /// It does not tell the day.
    #[error("`{0}` does not tell the day: name year, month and day, such as %d/%m/%Y, or %s")]
    NoDay(String),
}

/// How times are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    format: Option<String>,
    unit: Option<Unit>,
    first_year: i32,
    last_year: i32,
    /// The Unix seconds of these years.
    first: i64,
    last: i64,
}

impl Default for Times {
    /// Reads times of any supported year.
    fn default() -> Self {
        Times::between(MIN_YEAR, MAX_YEAR)
    }
}

impl Times {
    /// The first plausible year of an event.
    const FIRST_PLAUSIBLE: i32 = 1990;

    /// Refuses times that are hardly meant: before 1990, and after the year that follows `now`.
    pub fn plausible(now: DateTime<Utc>) -> Self {
        let last = (now.year() + 1).clamp(Times::FIRST_PLAUSIBLE, MAX_YEAR);
        Times::between(Times::FIRST_PLAUSIBLE, last)
    }

    fn between(first_year: i32, last_year: i32) -> Self {
        let start = |year| {
            let day = NaiveDate::from_ymd_opt(year, 1, 1).expect("a supported year");
            day.and_time(NaiveTime::MIN).and_utc().timestamp()
        };
        Times {
            format: None,
            unit: None,
            first_year,
            last_year,
            first: start(first_year),
            last: start(last_year + 1) - 1,
        }
    }

    /// Reads only texts of this form, written as for `strftime`.
    ///
    /// # Errors
    /// Returns an error if the form is unknown or does not tell the day.
    pub fn with_format(mut self, format: &str) -> Result<Self, TimeFormatError> {
        if StrftimeItems::new(format).any(|item| item == Item::Error) {
            return Err(TimeFormatError::Unknown(format.to_owned()));
        }
        let sample = DateTime::from_timestamp(1_795_442_400, 0).expect("a supported moment");
        // Formatting fails for parts that need a name of the zone.
        let mut shown = String::new();
        if fmt::write(&mut shown, format_args!("{}", sample.format(format))).is_err() {
            return Err(TimeFormatError::Unknown(format.to_owned()));
        }
        if of_format(&shown, format).is_none() {
            return Err(TimeFormatError::NoDay(format.to_owned()));
        }
        self.format = Some(format.to_owned());
        Ok(self)
    }

    /// Reads only numbers in this unit.
    pub fn with_unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Reads a time.
    ///
    /// # Errors
    /// Returns why it is not a time.
    pub fn read(&self, field: &[u8]) -> Result<Time, TimeError> {
        let field = field.trim_ascii();
        if self.format.is_none()
            && self.unit.is_none()
            && let Some(seconds) = common_moment(field)
        {
            return self.checked(seconds, None, || {
                String::from_utf8_lossy(field).into_owned()
            });
        }
        let text = std::str::from_utf8(field)
            .map_err(|_| TimeError::NotUtf8(shown(&String::from_utf8_lossy(field))))?;
        self.text(&clean(text))
    }

    fn text(&self, text: &str) -> Result<Time, TimeError> {
        let short = || shown(text);
        if is_missing(text) {
            return Err(TimeError::Missing);
        }
        if let Some(format) = &self.format {
            let seconds = of_format(text, format).ok_or_else(|| TimeError::Form {
                text: short(),
                format: format.clone(),
            })?;
            return self.checked(seconds, None, short);
        }
        if let Some(whole) = number(text) {
            return self.whole(whole, text);
        }
        if let Some(unit) = self.unit {
            return Err(TimeError::NotANumber {
                text: short(),
                unit,
            });
        }
        match parse_moment(text) {
            Ok(moment) => self.checked(moment.timestamp(), None, short),
            Err(CalendarError::OutOfRange) => Err(TimeError::OutOfRange(short())),
            Err(error @ CalendarError::DayOrMonth { .. }) => Err(TimeError::DayOrMonth(error)),
            Err(_) => Err(TimeError::Unknown(short())),
        }
    }

    /// Reads a time that is a whole number.
    ///
    /// # Errors
    /// Returns why it is not a time.
    pub fn number(&self, number: i64) -> Result<Time, TimeError> {
        if self.format.is_some() {
            return self.text(&number.to_string());
        }
        let unit = self.unit.unwrap_or(Unit::of_size(number));
        let seconds = number.div_euclid(unit.per_second());
        // A number of few digits may be a date.
        if seconds < self.first || number.unsigned_abs() < 100_000_000 || seconds > self.last {
            return self.whole(number, &number.to_string());
        }
        Ok(Time {
            seconds,
            unit: Some(unit),
        })
    }

    /// Checks a time that needs no reading, in Unix seconds.
    ///
    /// # Errors
    /// Returns an error if its year is not plausible.
    pub fn moment(&self, seconds: i64) -> Result<Time, TimeError> {
        self.checked(seconds, None, || {
            let moment = DateTime::from_timestamp(seconds, 0);
            moment.map_or_else(|| seconds.to_string(), |moment| moment.to_string())
        })
    }

    fn whole(&self, number: i64, text: &str) -> Result<Time, TimeError> {
        let unit = self.unit.unwrap_or(Unit::of_size(number));
        let seconds = number.div_euclid(unit.per_second());
        let is_plain = self.unit.is_none() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_implausible = !(self.first..=self.last).contains(&seconds);
        // Where a number is no plausible time in any unit, its digits may be those of a date.
        if is_plain
            && is_implausible
            && let Some(seconds) = of_digits(text)
            && (self.first..=self.last).contains(&seconds)
        {
            return Ok(Time {
                seconds,
                unit: None,
            });
        }
        if is_plain && !is_implausible && matches!(text.len(), 4 | 8) {
            return Err(TimeError::DateOrNumber(CalendarError::Ambiguous(
                text.to_owned(),
            )));
        }
        self.checked(seconds, Some(unit), || shown(text))
    }

    fn checked(
        &self,
        seconds: i64,
        unit: Option<Unit>,
        text: impl Fn() -> String,
    ) -> Result<Time, TimeError> {
        if (self.first..=self.last).contains(&seconds) {
            return Ok(Time { seconds, unit });
        }
        let year = DateTime::from_timestamp(seconds, 0).map(|moment| moment.year());
        match year.filter(|year| (MIN_YEAR..=MAX_YEAR).contains(year)) {
            Some(year) => Err(TimeError::Implausible {
                text: text(),
                year,
                first: self.first_year,
                last: self.last_year,
            }),
            None => Err(TimeError::OutOfRange(text())),
        }
    }
}

/// Returns whether a text stands for no time.
fn is_missing(text: &str) -> bool {
    matches!(
        text,
        "" | "NULL" | "null" | "None" | "NaN" | "nan" | "NaT" | "undefined" | "\\N"
    )
}

/// Reads a number, rounded down: `1609720200`, `1609720200.5`, `1.6097202E9`.
fn number(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.trim_start_matches('+'))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || exponent.is_some_and(|text| !is_number(text)) {
        return None;
    }
    // Moves the point by the exponent, so that no digit is rounded away.
    let places: usize = exponent.map_or(Some(0), |text| text.parse().ok())?;
    if places > 30 {
        return None;
    }
    let fraction = format!("{fraction:0<places$}");
    let (moved, rest) = fraction.split_at(places);
    let number: i64 = format!("{whole}{moved}").parse().ok()?;
    let is_negative = unsigned.len() < text.len();
    let has_rest = rest.bytes().any(|byte| byte != b'0');
    Some(match is_negative {
        true => -number - i64::from(has_rest),
        false => number,
    })
}

/// Reads `20210104` and `20210104003000`.
fn of_digits(text: &str) -> Option<i64> {
    let date = NaiveDate::parse_from_str(text.get(..8)?, "%Y%m%d").ok()?;
    let time = match &text[8..] {
        "" => NaiveTime::MIN,
        time if time.len() == 6 => NaiveTime::parse_from_str(time, "%H%M%S").ok()?,
        _ => return None,
    };
    Some(date.and_time(time).and_utc().timestamp())
}

/// Reads a text of a form that is written as for `strftime`. A missing time of day is midnight, a
/// missing offset is UTC.
fn of_format(text: &str, format: &str) -> Option<i64> {
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, StrftimeItems::new(format)).ok()?;
    if let Some(seconds) = parsed.timestamp() {
        return Some(seconds);
    }
    let date = parsed.to_naive_date().ok()?;
    // Without an hour there is no time of day.
    let has_hour = parsed.hour_mod_12().is_some() || parsed.hour_div_12().is_some();
    let time = match has_hour {
        true => {
            let _ = parsed.minute().is_none() && parsed.set_minute(0).is_ok();
            parsed.to_naive_time().ok()?
        }
        false => NaiveTime::MIN,
    };
    let offset = i64::from(parsed.offset().unwrap_or(0));
    Some(date.and_time(time).and_utc().timestamp() - offset)
}

/// Returns a text for use in a message: at most 40 characters, with control characters escaped.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        format!("{short}…")
    } else {
        short
    }
}

/// Parses the most common forms in a tenth of the time of `parse_moment`: `2026-11-23`, and
/// `2026-11-23T14:00:00` or `2026-11-23 14:00:00`, optionally with a fraction and an offset of zero. Returns `None` for a text that `parse_moment` must parse.
fn common_moment(field: &[u8]) -> Option<i64> {
    let (date, time) = field.split_first_chunk()?;
    let [a, b, c, d, b'-', e, f, b'-', g, h] = *date else {
        return None;
    };
    let days = days(two(a, b)? * 100 + two(c, d)?, two(e, f)?, two(g, h)?)?;
    let seconds = match time.split_first_chunk() {
        None if time.is_empty() => 0,
        Some(([b'T' | b' ', a, b, b':', c, d, b':', e, f], rest)) if is_fraction_and_zone(rest) => {
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
fn is_fraction_and_zone(rest: &[u8]) -> bool {
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
    matches!(zone, b"" | b"Z" | b"+00:00" | b"+00" | b" UTC")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        parse_moment("2026-11-23").unwrap()
    }

    fn read(times: &Times, text: &str) -> String {
        match times.read(text.as_bytes()) {
            Ok(Time { seconds, unit }) => {
                let moment = DateTime::from_timestamp(seconds, 0).unwrap();
                let unit = unit.map_or(String::new(), |unit| format!(", {unit}"));
                format!("{}{unit}", moment.format("%Y-%m-%d %H:%M:%S"))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        let times = Times::plausible(now());
        for text in ["1609720200", "1609720200.75", "1.6097202E9", " 1609720200 "] {
            assert_eq!(read(&times, text), "2021-01-04 00:30:00, seconds", "{text}");
        }
        for (text, unit) in [
            ("1609720200000", Unit::Milliseconds),
            ("1609720200999.0", Unit::Milliseconds),
            ("1609720200000000", Unit::Microseconds),
            ("1609720200000000123", Unit::Nanoseconds),
        ] {
            assert_eq!(read(&times, text), format!("2021-01-04 00:30:00, {unit}"));
        }
        assert_eq!(
            times.number(1_609_720_200_000),
            times.read(b"1609720200000")
        );
        let milliseconds = Times::default().with_unit(Unit::Milliseconds);
        assert_eq!(
            read(&milliseconds, "86400000"),
            "1970-01-02 00:00:00, milliseconds"
        );
        assert!(milliseconds.read(b"2021-01-04").is_err());
    }

    #[test]
    fn years_that_are_hardly_meant_are_refused() {
        let times = Times::plausible(now());
        for text in ["1990-01-01", "2027-12-31 23:59:59"] {
            assert!(times.read(text.as_bytes()).is_ok(), "{text}");
        }
        for text in [
            "1989-12-31 23:59:59",
            "2028-01-01",
            "0",
            "-1",
            "52980-01-01",
            "2021",
            "99999999999999999999",
        ] {
            assert!(times.read(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(times.number(0), times.read(b"0"));
        assert_eq!(read(&Times::default(), "0"), "1970-01-01 00:00:00, seconds");
        assert_eq!(read(&Times::default(), "1066-10-14"), "1066-10-14 00:00:00");
    }

    #[test]
    fn digits_are_a_date_where_they_are_no_plausible_number() {
        let times = Times::plausible(now());
        assert_eq!(read(&times, "20210104"), "2021-01-04 00:00:00");
        assert_eq!(read(&times, "20210104003000"), "2021-01-04 00:30:00");
        assert_eq!(times.number(20_210_104), times.read(b"20210104"));
        assert!(times.read(b"20211304").is_err());
        assert!(Times::default().read(b"20210104").is_err());
        assert!(Times::default().number(20_210_104).is_err());
    }

    #[test]
    fn two_dates_in_one_are_refused_with_the_forms_that_tell() {
        let times = Times::plausible(now());
        let formats = |text: &str| times.read(text.as_bytes()).unwrap_err().formats();
        assert_eq!(formats("11/12/2026"), ["%d/%m/%Y", "%m/%d/%Y"]);
        assert_eq!(formats("23.11.2026 14:05"), ["%d.%m.%Y %H:%M"]);
        assert_eq!(formats("11/23/26, 2:05:07 PM"), ["%m/%d/%y, %I:%M:%S %p"]);
        for text in [
            "11/12/2026",
            "23.11.2026 14:05",
            "11/12/2026 14:05:01.25",
            "11/23/26, 2:05:07 PM",
        ] {
            for format in formats(text) {
                let read = times
                    .clone()
                    .with_format(&format)
                    .unwrap()
                    .read(text.as_bytes());
                assert!(read.is_ok(), "{text} as {format}: {read:?}");
            }
        }
    }

    #[test]
    fn a_form_is_read_as_it_is_written() {
        let form = |format: &str| Times::plausible(now()).with_format(format);
        assert_eq!(
            read(&form("%d/%m/%Y").unwrap(), "11/12/2026"),
            "2026-12-11 00:00:00"
        );
        assert_eq!(
            read(
                &form("%d.%m.%Y %H:%M %z").unwrap(),
                "04.01.2021 02:30 +0200"
            ),
            "2021-01-04 00:30:00"
        );
        assert_eq!(
            read(&form("%s").unwrap(), "1609720200"),
            "2021-01-04 00:30:00"
        );
        assert_eq!(
            read(&form("%Y%m%d%H").unwrap(), "2021010406"),
            "2021-01-04 06:00:00"
        );
        assert!(form("%d/%m/%Y").unwrap().read(b"2026-11-23").is_err());
        assert!(form("%Q").is_err() && form("%H:%M").is_err() && form("").is_err());
    }

    proptest! {
        /// Whatever the text, there is a time in the plausible years or an error, and cleaning it
        /// changes nothing.
        #[test]
        fn any_text_is_a_plausible_time_or_an_error(
            text in "\\PC{0,20}|[0-9TZ:+. /-]{0,24}|[0-9]{1,20}(\\.[0-9]{0,3})?([eE][+]?[0-9]{1,2})?|(1?[0-9][/.-]){2}(20)?2[0-9]( 1?[0-9]:[0-5][0-9]( PM)?)?",
        ) {
            let times = Times::plausible(now());
            let found = times.read(text.as_bytes());
            prop_assert_eq!(&times.read(format!(" {text}\t").as_bytes()), &found);
            match found {
                Ok(time) => {
                    let year = DateTime::from_timestamp(time.seconds, 0).unwrap().year();
                    prop_assert!((1990..=2027).contains(&year), "{} of {}", year, text);
                }
                Err(error) => {
                    for format in error.formats() {
                        prop_assert!(times.clone().with_format(&format).is_ok(), "{}", format);
                    }
                }
            }
            if let Ok(number) = text.parse::<i64>() && !text.starts_with(['0', '+', '-']) {
                prop_assert_eq!(times.number(number), times.read(text.as_bytes()));
                prop_assert_eq!(Times::default().number(number), Times::default().read(text.as_bytes()));
            }
        }
    }

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
            "2026-11-23 14:05:59+00",
            "2026-11-23 14:05:59.5 UTC",
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
}
