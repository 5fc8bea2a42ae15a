//! Calendar periods in UTC: hours, days, ISO weeks, months and years.
//!
//! A [`Period`] is one calendar unit of a [`Grain`]: the half-open interval `[start, end)`. It is
//! stored as a number of units since 1970, so shifts and comparisons are integer arithmetic and
//! never produce a date that does not exist. The supported years are [`MIN_YEAR`] to [`MAX_YEAR`],
//! as in Python's `datetime`, which bitmapist uses.
//!
//! This module is pure: it does not read the clock.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc,
};

/// The first supported year.
pub const MIN_YEAR: i32 = 1;
/// The last supported year.
pub const MAX_YEAR: i32 = 9999;

/// The size of a [`Period`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// 60 minutes, from minute 0.
    Hour,
    /// A calendar day in UTC.
    #[default]
    Day,
    /// An ISO 8601 week, from Monday to Sunday. Week 1 contains the first Thursday of the year.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Grain {
    /// All grains, shortest first.
    pub const ALL: [Grain; 5] = [
        Grain::Hour,
        Grain::Day,
        Grain::Week,
        Grain::Month,
        Grain::Year,
    ];

    /// Returns the singular noun, such as `day`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Grain::Hour => "hour",
            Grain::Day => "day",
            Grain::Week => "week",
            Grain::Month => "month",
            Grain::Year => "year",
        }
    }

    /// Returns the adjective, such as `daily`.
    pub const fn adjective(self) -> &'static str {
        match self {
            Grain::Hour => "hourly",
            Grain::Day => "daily",
            Grain::Week => "weekly",
            Grain::Month => "monthly",
            Grain::Year => "yearly",
        }
    }
}

impl fmt::Display for Grain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Grain {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Grain::ALL
            .into_iter()
            .find(|g| g.as_str() == text)
            .ok_or_else(|| CalendarError::Grain(text.to_owned()))
    }
}

/// Why a date, period or moment is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// The text is not the name of a grain.
    #[error("`{0}` is not a period: write hour, day, week, month or year")]
    Grain(String),
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
    /// The text is not a date.
    #[error("`{0}` is not a date: write it as 2026-11-23")]
    Date(String),
    /// The result is outside the supported years.
    #[error("the year must lie between {MIN_YEAR} and {MAX_YEAR}")]
    OutOfRange,
}

/// One hour, day, ISO week, month or year, in UTC.
///
/// ```
/// use cohortist::calendar::{Grain, Period};
/// // 1 January 2021 is a Friday, so its ISO week belongs to 2020.
/// let day: Period = "2021-01-01".parse()?;
/// assert_eq!(day.within(Grain::Week).to_string(), "2020-W53");
/// let leap: Period = "2024-02-29".parse()?;
/// assert_eq!(leap.shift(1)?.to_string(), "2024-03-01");
/// let month: Period = "2026-11".parse()?;
/// assert_eq!(month.shift(-11)?.to_string(), "2025-12");
/// # Ok::<(), cohortist::calendar::CalendarError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    grain: Grain,
    /// The number of units since the one that contains 1970-01-01T00:00Z. For years, the year
    /// itself. A small type, because a store has millions of keys; the hours of all supported years
    /// fit in 32 bits.
    number: i32,
}

/// The first day of [`MIN_YEAR`], in days since 1970-01-01.
const FIRST_DAY: i64 = -719_162;
/// The last day of [`MAX_YEAR`], in days since 1970-01-01.
const LAST_DAY: i64 = 2_932_896;

/// The Monday of the week that contains 1970-01-01, in days since that date.
const EPOCH_MONDAY: i64 = -3;

impl Period {
    /// Returns the period of a grain that contains a moment.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] if the moment is outside the supported years.
    pub fn containing(grain: Grain, moment: DateTime<Utc>) -> Result<Self, CalendarError> {
        let day = days_since_epoch(moment.date_naive());
        let number = match grain {
            Grain::Hour => day * 24 + i64::from(moment.hour()),
            Grain::Day => day,
            Grain::Week => (day - EPOCH_MONDAY).div_euclid(7),
            Grain::Month => months_since_epoch(moment.year(), moment.month()),
            Grain::Year => i64::from(moment.year()),
        };
        Self::checked(grain, number)
    }

    /// Returns the period of a grain that contains the start of a UTC date.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] if the date is outside the supported years.
    pub fn of_date(grain: Grain, date: NaiveDate) -> Result<Self, CalendarError> {
        Self::containing(grain, date.and_time(NaiveTime::MIN).and_utc())
    }

    /// Returns an hour of a day, or `None` if the date does not exist or the hour is not 0 to 23.
    pub fn hour(year: i32, month: u32, day: u32, hour: u32) -> Option<Self> {
        let date = NaiveDate::from_ymd_opt(year, month, day)?;
        (hour < 24).then(|| {
            Self::checked(Grain::Hour, days_since_epoch(date) * 24 + i64::from(hour)).ok()
        })?
    }

    /// Returns a day, or `None` if the date does not exist.
    pub fn day(year: i32, month: u32, day: u32) -> Option<Self> {
        Self::of_date(Grain::Day, NaiveDate::from_ymd_opt(year, month, day)?).ok()
    }

    /// Returns a week of an ISO year, or `None` if that year has no such week.
    pub fn week(iso_year: i32, week: u32) -> Option<Self> {
        let monday = NaiveDate::from_isoywd_opt(iso_year, week, chrono::Weekday::Mon)?;
        Self::of_date(Grain::Week, monday).ok()
    }

    /// Returns a month, or `None` if `month` is not 1 to 12.
    pub fn month(year: i32, month: u32) -> Option<Self> {
        Self::of_date(Grain::Month, NaiveDate::from_ymd_opt(year, month, 1)?).ok()
    }

    /// Returns a year, or `None` if it is not supported.
    pub fn year(year: i32) -> Option<Self> {
        Self::checked(Grain::Year, i64::from(year)).ok()
    }

    /// Returns the numbers of the first and of the last supported period of a grain.
    fn numbers(grain: Grain) -> (i64, i64) {
        match grain {
            Grain::Hour => (FIRST_DAY * 24, LAST_DAY * 24 + 23),
            Grain::Day => (FIRST_DAY, LAST_DAY),
            // 1 January 0001 is a Monday, so the first week lies completely in the supported years.
            Grain::Week => (
                (FIRST_DAY - EPOCH_MONDAY) / 7,
                (LAST_DAY - EPOCH_MONDAY) / 7,
            ),
            Grain::Month => (
                months_since_epoch(MIN_YEAR, 1),
                months_since_epoch(MAX_YEAR, 12),
            ),
            Grain::Year => (i64::from(MIN_YEAR), i64::from(MAX_YEAR)),
        }
    }

    fn checked(grain: Grain, number: i64) -> Result<Self, CalendarError> {
        let (first, last) = Self::numbers(grain);
        match i32::try_from(number) {
            Ok(short) if (first..=last).contains(&number) => Ok(Period {
                grain,
                number: short,
            }),
            _ => Err(CalendarError::OutOfRange),
        }
    }

    /// Returns the first supported period of a grain.
    pub fn earliest(grain: Grain) -> Self {
        let (first, _) = Self::numbers(grain);
        Self::checked(grain, first).expect("the first supported period is supported")
    }

    /// Returns the grain of the period.
    pub const fn grain(self) -> Grain {
        self.grain
    }

    /// Returns the first moment of the period.
    pub fn start(self) -> DateTime<Utc> {
        start_of(self.grain, self.number.into())
    }

    /// Returns the first moment *after* the period.
    pub fn end(self) -> DateTime<Utc> {
        start_of(self.grain, i64::from(self.number) + 1)
    }

    /// Returns the period that is `by` units later, or earlier if `by` is negative.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] if the result is outside the supported years.
    pub fn shift(self, by: i64) -> Result<Self, CalendarError> {
        let number = i64::from(self.number)
            .checked_add(by)
            .ok_or(CalendarError::OutOfRange)?;
        Self::checked(self.grain, number)
    }

    /// Returns the next period of the same grain.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] for the last supported period.
    pub fn next(self) -> Result<Self, CalendarError> {
        self.shift(1)
    }

    /// Returns the previous period of the same grain.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] for the first supported period.
    pub fn previous(self) -> Result<Self, CalendarError> {
        self.shift(-1)
    }

    /// Returns the number of units from `earlier` to this period: 0 for the same period, negative
    /// if this period comes first. Returns `None` if the grains differ.
    pub fn since(self, earlier: Period) -> Option<i64> {
        (self.grain == earlier.grain).then(|| i64::from(self.number) - i64::from(earlier.number))
    }

    /// Returns whether this period has ended when `other` starts. The grains may differ.
    pub fn is_before(self, other: Period) -> bool {
        self.end() <= other.start()
    }

    /// Returns the period of another grain that contains the start of this one.
    pub fn within(self, grain: Grain) -> Self {
        Self::containing(grain, self.start()).expect("a period starts in the supported years")
    }

    /// Returns the periods of a grain that start in this one, in order, such as the 12 months of a
    /// year.
    pub fn split(self, grain: Grain) -> impl Iterator<Item = Period> {
        let end = self.end();
        let first = self.within(grain);
        let mut next = if first.start() < self.start() {
            first.next().ok()
        } else {
            Some(first)
        };
        std::iter::from_fn(move || {
            let current = next.filter(|p| p.start() < end)?;
            next = current.next().ok();
            Some(current)
        })
    }

    /// Returns `count` consecutive periods, starting with this one, or fewer at the end of the
    /// supported years.
    pub fn range(self, count: u32) -> impl Iterator<Item = Period> {
        (0..i64::from(count)).map_while(move |by| self.shift(by).ok())
    }

    /// Returns the period in the form that is shown to people: `23 Nov 14:00`, `Mon 23 Nov 2026`,
    /// `23 – 29 Nov 2026 (W48)`, `Nov 2026` or `2026`.
    ///
    /// ```
    /// # use cohortist::calendar::Period;
    /// let label = |text: &str| text.parse::<Period>().map(Period::label);
    /// assert_eq!(label("2026-W48")?, "23 – 29 Nov 2026 (W48)");
    /// assert_eq!(label("2020-W53")?, "28 Dec 2020 – 3 Jan 2021 (W53)");
    /// # Ok::<(), cohortist::calendar::CalendarError>(())
    /// ```
    pub fn label(self) -> String {
        let start = self.start();
        match self.grain {
            Grain::Hour => start.format("%-d %b %H:%M").to_string(),
            Grain::Day => start.format("%a %-d %b %Y").to_string(),
            Grain::Month => start.format("%b %Y").to_string(),
            Grain::Year => start.format("%Y").to_string(),
            Grain::Week => {
                let first = start.date_naive();
                let last = first + Days::new(6);
                let from = if first.year() != last.year() {
                    "%-d %b %Y"
                } else if first.month() != last.month() {
                    "%-d %b"
                } else {
                    "%-d"
                };
                format!(
                    "{} – {} (W{})",
                    first.format(from),
                    last.format("%-d %b %Y"),
                    first.iso_week().week()
                )
            }
        }
    }

    /// Returns a shorter label, such as for an axis. Hours, days and weeks have no year.
    pub fn short_label(self) -> String {
        let start = self.start();
        match self.grain {
            Grain::Hour => start.format("%-d %b %H:%M").to_string(),
            Grain::Day | Grain::Week => start.format("%-d %b").to_string(),
            Grain::Month => start.format("%b %Y").to_string(),
            Grain::Year => start.format("%Y").to_string(),
        }
    }
}

/// Writes the ISO 8601 form: `2026-11-23T14`, `2026-11-23`, `2026-W48`, `2026-11` or `2026`.
/// `parse` reads it back.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start();
        let year = start.year();
        let month = start.month();
        let day = start.day();
        match self.grain {
            Grain::Hour => write!(f, "{year:04}-{month:02}-{day:02}T{:02}", start.hour()),
            Grain::Day => write!(f, "{year:04}-{month:02}-{day:02}"),
            Grain::Week => {
                let week = start.iso_week();
                write!(f, "{:04}-W{:02}", week.year(), week.week())
            }
            Grain::Month => write!(f, "{year:04}-{month:02}"),
            Grain::Year => write!(f, "{year:04}"),
        }
    }
}

impl FromStr for Period {
    type Err = CalendarError;

    /// Parses the form that `Display` writes. Leading zeros are optional.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || CalendarError::Period(text.to_owned());
        let (date, hour) = match text.split_once('T') {
            Some((date, hour)) => (date, Some(digits(hour, 2).ok_or_else(bad)?)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year = parts
            .next()
            .and_then(|t| digits(t, 4))
            .and_then(|y| i32::try_from(y).ok())
            .ok_or_else(bad)?;
        let second = parts.next();
        let third = parts.next();
        if parts.next().is_some() {
            return Err(bad());
        }
        let period = match (second, third, hour) {
            (None, None, None) => Period::year(year),
            (Some(week), None, None) if week.starts_with('W') => {
                digits(&week[1..], 2).and_then(|w| Period::week(year, w))
            }
            (Some(month), None, None) => digits(month, 2).and_then(|m| Period::month(year, m)),
            (Some(month), Some(day), hour) => match (digits(month, 2), digits(day, 2), hour) {
                (Some(m), Some(d), None) => Period::day(year, m, d),
                (Some(m), Some(d), Some(h)) => Period::hour(year, m, d, h),
                _ => None,
            },
            _ => None,
        };
        period.ok_or_else(bad)
    }
}

/// Parses a date such as `2026-11-23`.
///
/// # Errors
/// Returns [`CalendarError::Date`] if the text is not a date.
pub fn parse_date(text: &str) -> Result<NaiveDate, CalendarError> {
    match text.trim().parse::<Period>() {
        Ok(day) if day.grain() == Grain::Day => Ok(day.start().date_naive()),
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

/// Parses a number of 1 to `most` ASCII digits.
fn digits(text: &str, most: usize) -> Option<u32> {
    let fits = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

fn epoch() -> NaiveDate {
    NaiveDate::default()
}

fn days_since_epoch(date: NaiveDate) -> i64 {
    date.signed_duration_since(epoch()).num_days()
}

fn months_since_epoch(year: i32, month: u32) -> i64 {
    (i64::from(year) - 1970) * 12 + i64::from(month) - 1
}

/// Returns the start of the period of a grain with a number. The period must be supported, or be
/// the one after the last supported period.
fn start_of(grain: Grain, number: i64) -> DateTime<Utc> {
    let midnight = epoch().and_time(NaiveTime::MIN);
    let start = match grain {
        Grain::Hour => midnight + TimeDelta::hours(number),
        Grain::Day => midnight + TimeDelta::days(number),
        Grain::Week => midnight + TimeDelta::days(number * 7 + EPOCH_MONDAY),
        Grain::Month => first_of_month(number.div_euclid(12) + 1970, number.rem_euclid(12) + 1),
        Grain::Year => first_of_month(number, 1),
    };
    start.and_utc()
}

fn first_of_month(year: i64, month: i64) -> NaiveDateTime {
    i32::try_from(year)
        .ok()
        .zip(u32::try_from(month).ok())
        .and_then(|(year, month)| NaiveDate::from_ymd_opt(year, month, 1))
        .expect("supported years are far from the limits of the type")
        .and_time(NaiveTime::MIN)
}
