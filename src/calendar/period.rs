//! One hour, day, week, month or year.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc,
};

use crate::calendar::error::{CalendarError, MAX_YEAR, MIN_YEAR};
use crate::calendar::grain::{Grain, WeekStart};
use crate::calendar::zone::Zone;

/// One hour, day, week, month or year, in UTC or in a time zone.
///
/// ```
/// use cohortist::calendar::{Grain, Period, WeekStart};
/// // 1 January 2021 is a Friday, so its ISO week belongs to 2020.
/// let day: Period = "2021-01-01".parse()?;
/// assert_eq!(day.within(Grain::WEEK).to_string(), "2020-W53");
/// assert_eq!(day.within(Grain::Week(WeekStart::Sunday)).to_string(), "2020-12-27--P1W");
/// let leap: Period = "2024-02-29".parse()?;
/// assert_eq!(leap.shift(1)?.to_string(), "2024-03-01");
/// let month: Period = "2026-11".parse()?;
/// assert_eq!(month.shift(-11)?.to_string(), "2025-12");
/// # Ok::<(), cohortist::calendar::CalendarError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    grain: Grain,
    zone: Zone,
    /// The number of units since the one that contains 1970-01-01T00:00, by the clocks of the zone;
    /// hours are counted in UTC, because one may come twice, unless the zone is kept: then both are
    /// one bitmap. For years, the year itself. A small
    /// type, because a store has millions of keys; the hours of all supported years fit in 32 bits.
    number: i32,
}

/// The first day of [`MIN_YEAR`], in days since 1970-01-01.
const FIRST_DAY: i64 = -719_162;
/// The last day of [`MAX_YEAR`], in days since 1970-01-01.
const LAST_DAY: i64 = 2_932_896;

impl Zone {
    /// Returns the period of a grain that contains a moment.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] if it is outside the supported years, and
    /// [`CalendarError::PartHours`] if the zone cannot be used in its years.
    pub fn period(self, grain: Grain, moment: DateTime<Utc>) -> Result<Period, CalendarError> {
        match grain {
            Grain::Hour => {
                let time = match self.is_kept() {
                    true => self.local(moment),
                    false => moment.naive_utc(),
                };
                let day = days_since_epoch(time.date());
                Period::checked(grain, self, day * 24 + i64::from(time.hour()))
            }
            _ => Period::dated(grain, self, self.local(moment).date()),
        }
    }

    /// Returns the period of a grain that contains the beginning of a date.
    ///
    /// # Errors
    /// As for [`period`](Self::period).
    pub fn of_date(self, grain: Grain, date: NaiveDate) -> Result<Period, CalendarError> {
        match grain {
            Grain::Hour if !self.is_kept() => self.period(grain, self.start_of(date)),
            _ => Period::dated(grain, self, date),
        }
    }

    /// Returns an early period of a grain: the first one in UTC, and one of the first of the years
    /// up to `now` in which another zone can be used.
    ///
    /// # Errors
    /// As for [`period`](Self::period), for the year of `now`.
    pub fn earliest(self, grain: Grain, now: DateTime<Utc>) -> Result<Period, CalendarError> {
        if self.has_bitmaps() {
            return self.same_named(Period::earliest(grain));
        }
        let year = self.whole_hours_since(self.local(now).year());
        // A week that contains 1 January belongs to two years.
        let date = NaiveDate::from_ymd_opt(year, 1, 8).ok_or(CalendarError::OutOfRange)?;
        self.of_date(grain, date)
    }

    /// Returns the period that this zone calls as `period` is called in UTC: the same date, or for
    /// an hour the same time on the clocks. An hour that was written with its offset stays the same
    /// hour.
    ///
    /// # Errors
    /// As for [`period`](Self::period), and [`CalendarError::LocalHour`] if the zone has no such
    /// hour, or has it twice.
    pub fn same_named(self, period: Period) -> Result<Period, CalendarError> {
        let number = i64::from(period.number);
        if period.grain != Grain::Hour {
            return Period::checked(period.grain, self, number);
        }
        if self.is_kept() && period.zone != self && !period.zone.is_utc() {
            return self.period(Grain::Hour, period.start());
        }
        if !period.zone.is_utc() || self.has_bitmaps() {
            return Period::checked(Grain::Hour, self, number);
        }
        let moments = self.moments_of(period.start().naive_utc());
        match moments[..] {
            [moment] => self.period(Grain::Hour, moment),
            _ => Err(CalendarError::LocalHour {
                hour: period.to_string(),
                times: if moments.is_empty() { "never" } else { "twice" },
                zone: self.name(),
            }),
        }
    }
}

impl Period {
    /// Returns the period of a grain that contains a moment, in UTC.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] if the moment is outside the supported years.
    pub fn containing(grain: Grain, moment: DateTime<Utc>) -> Result<Self, CalendarError> {
        Zone::UTC.period(grain, moment)
    }

    /// Returns the period of a grain that contains the start of a UTC date.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] if the date is outside the supported years.
    pub fn of_date(grain: Grain, date: NaiveDate) -> Result<Self, CalendarError> {
        Zone::UTC.of_date(grain, date)
    }

    /// The period of a grain, but for hours, that contains a date.
    fn dated(grain: Grain, zone: Zone, date: NaiveDate) -> Result<Self, CalendarError> {
        let day = days_since_epoch(date);
        let number = match grain {
            Grain::Hour => day * 24,
            Grain::Day => day,
            Grain::Week(start) => (day - start.epoch_day()).div_euclid(7),
            Grain::Month => months_since_epoch(date.year(), date.month()),
            Grain::Year => i64::from(date.year()),
        };
        Self::checked(grain, zone, number)
    }

    /// Returns an hour of a day in UTC, or `None` if the date does not exist or the hour is not 0 to
    /// 23.
    pub fn hour(year: i32, month: u32, day: u32, hour: u32) -> Option<Self> {
        let date = NaiveDate::from_ymd_opt(year, month, day)?;
        let number = days_since_epoch(date) * 24 + i64::from(hour);
        (hour < 24).then(|| Self::checked(Grain::Hour, Zone::UTC, number).ok())?
    }

    /// Returns a day in UTC, or `None` if the date does not exist.
    pub fn day(year: i32, month: u32, day: u32) -> Option<Self> {
        Self::of_date(Grain::Day, NaiveDate::from_ymd_opt(year, month, day)?).ok()
    }

    /// Returns a week of an ISO year in UTC, or `None` if that year has no such week.
    pub fn week(iso_year: i32, week: u32) -> Option<Self> {
        let monday = NaiveDate::from_isoywd_opt(iso_year, week, chrono::Weekday::Mon)?;
        Self::of_date(Grain::WEEK, monday).ok()
    }

    /// Returns a month in UTC, or `None` if `month` is not 1 to 12.
    pub fn month(year: i32, month: u32) -> Option<Self> {
        Self::of_date(Grain::Month, NaiveDate::from_ymd_opt(year, month, 1)?).ok()
    }

    /// Returns a year in UTC, or `None` if it is not supported.
    pub fn year(year: i32) -> Option<Self> {
        Self::checked(Grain::Year, Zone::UTC, i64::from(year)).ok()
    }

    /// Returns the numbers of the first and of the last supported period of a grain.
    fn numbers(grain: Grain) -> (i64, i64) {
        match grain {
            Grain::Hour => (FIRST_DAY * 24, LAST_DAY * 24 + 23),
            Grain::Day => (FIRST_DAY, LAST_DAY),
            // The first and the last week may lie partly outside the supported years.
            Grain::Week(start) => (
                (FIRST_DAY - start.epoch_day()).div_euclid(7),
                (LAST_DAY - start.epoch_day()).div_euclid(7),
            ),
            Grain::Month => (
                months_since_epoch(MIN_YEAR, 1),
                months_since_epoch(MAX_YEAR, 12),
            ),
            Grain::Year => (i64::from(MIN_YEAR), i64::from(MAX_YEAR)),
        }
    }

    fn checked(grain: Grain, zone: Zone, number: i64) -> Result<Self, CalendarError> {
        let (first, last) = Self::numbers(grain);
        let number = i32::try_from(number)
            .ok()
            .filter(|number| (first..=last).contains(&i64::from(*number)))
            .ok_or(CalendarError::OutOfRange)?;
        let period = Period {
            grain,
            zone,
            number,
        };
        if !zone.has_bitmaps() {
            let [from, to] = [0, 1].map(|by| naive_start_of(grain, i64::from(number) + by));
            let last = to - TimeDelta::seconds(1);
            zone.check_years(from.year(), last.year())?;
        }
        Ok(period)
    }

    /// Returns the first supported period of a grain, in UTC.
    pub fn earliest(grain: Grain) -> Self {
        let (first, _) = Self::numbers(grain);
        Self::checked(grain, Zone::UTC, first).expect("the first supported period is supported")
    }

    /// Returns the grain of the period.
    pub const fn grain(self) -> Grain {
        self.grain
    }

    /// Returns the zone by whose clocks it begins and ends.
    pub const fn zone(self) -> Zone {
        self.zone
    }

    /// Returns the first moment of the period.
    pub fn start(self) -> DateTime<Utc> {
        self.start_after(0)
    }

    /// Returns the first moment *after* the period. It is the first one if the zone skips the whole
    /// period.
    pub fn end(self) -> DateTime<Utc> {
        self.start_after(1)
    }

    fn start_after(self, by: i64) -> DateTime<Utc> {
        let start = naive_start_of(self.grain, i64::from(self.number) + by);
        match self.grain {
            Grain::Hour if !self.zone.is_kept() => start.and_utc(),
            _ => self.zone.first_moment(start),
        }
    }

    /// Returns what the clocks of its zone show when it begins. For everything but hours it is
    /// midnight, even if the clocks skip that.
    pub fn local_start(self) -> NaiveDateTime {
        self.local_start_after(0)
    }

    /// Returns what the clocks of its zone show when it is over: for everything but hours the
    /// midnight after its last day.
    pub fn local_end(self) -> NaiveDateTime {
        self.local_start_after(1)
    }

    fn local_start_after(self, by: i64) -> NaiveDateTime {
        let start = naive_start_of(self.grain, i64::from(self.number) + by);
        match self.grain {
            Grain::Hour if !self.zone.is_kept() => self.zone.local(start.and_utc()),
            _ => start,
        }
    }

    /// Returns its last day.
    pub fn last_day(self) -> NaiveDate {
        match self.grain {
            Grain::Hour => self.local_start().date(),
            _ => (self.local_end() - TimeDelta::days(1)).date(),
        }
    }

    /// Returns start and exclusive end as ISO dates, by the clocks of its zone; for hours as
    /// date-times with their offset, because dates would be equal.
    pub fn iso_bounds(self) -> [String; 2] {
        let bounds = [0, 1].map(|by| (self.start_after(by), self.local_start_after(by)));
        bounds.map(|(moment, local)| match self.grain {
            Grain::Hour if self.zone.is_utc() => local.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            Grain::Hour => {
                let offset = self.zone.offset_text(moment);
                let minutes = if offset.contains(':') { "" } else { ":00" };
                format!("{}{offset}{minutes}", local.format("%Y-%m-%dT%H:%M:%S"))
            }
            _ => local.format("%Y-%m-%d").to_string(),
        })
    }

    /// Returns the period that is `by` units later, or earlier if `by` is negative.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`] if the result is outside the supported years, and
    /// [`CalendarError::PartHours`] if the zone cannot be used there.
    pub fn shift(self, by: i64) -> Result<Self, CalendarError> {
        let number = i64::from(self.number)
            .checked_add(by)
            .ok_or(CalendarError::OutOfRange)?;
        Self::checked(self.grain, self.zone, number)
    }

    /// Returns the next period of the same grain.
    ///
    /// # Errors
    /// As for [`shift`](Self::shift), for the last supported period.
    pub fn next(self) -> Result<Self, CalendarError> {
        self.shift(1)
    }

    /// Returns the previous period of the same grain.
    ///
    /// # Errors
    /// As for [`shift`](Self::shift), for the first supported period.
    pub fn previous(self) -> Result<Self, CalendarError> {
        self.shift(-1)
    }

    /// Returns the number of units from `earlier` to this period: 0 for the same period, negative
    /// if this period comes first. Returns `None` if the grains or zones differ.
    pub fn since(self, earlier: Period) -> Option<i64> {
        (self.grain == earlier.grain && self.zone == earlier.zone)
            .then(|| i64::from(self.number) - i64::from(earlier.number))
    }

    /// Returns whether this period has ended when `other` starts. The grains may differ.
    pub fn is_before(self, other: Period) -> bool {
        self.end() <= other.start()
    }

    /// Returns the period of another grain, in the same zone, that contains the start of this one.
    pub fn within(self, grain: Grain) -> Self {
        let within = match self.grain {
            Grain::Hour if grain == Grain::Hour => Ok(self),
            Grain::Hour if !self.zone.is_kept() => self.zone.period(grain, self.start()),
            _ => self.zone.of_date(grain, self.local_start().date()),
        };
        // The first week of other days than Monday begins before the supported years.
        within.expect("a period starts in years in which its zone can be used")
    }

    /// Returns the periods of a grain that start in this one, in order, such as the 12 months of a
    /// year.
    pub fn split(self, grain: Grain) -> impl Iterator<Item = Period> {
        let starts_before = move |a: Period, bound: (DateTime<Utc>, NaiveDateTime)| match grain {
            Grain::Hour if !self.zone.is_kept() => a.start() < bound.0,
            // A day that the zone skips begins when it ends.
            _ => a.local_start() < bound.1,
        };
        let end = (self.end(), self.local_end());
        let first = self.within(grain);
        let mut next = if starts_before(first, (self.start(), self.local_start())) {
            first.next().ok()
        } else {
            Some(first)
        };
        std::iter::from_fn(move || {
            let current = next.filter(|p| starts_before(*p, end))?;
            next = current.next().ok();
            Some(current)
        })
    }

    /// Returns `count` consecutive periods, starting with this one, or fewer at the end of the
    /// supported years.
    pub fn range(self, count: u32) -> impl Iterator<Item = Period> {
        (0..i64::from(count)).map_while(move |by| self.shift(by).ok())
    }

    /// Returns the grain of the bitmaps that tell in which periods like this one something was
    /// recorded: the shortest of those that [`stored`](Self::stored) may name, but months for years.
    pub fn unit(self) -> Grain {
        match self.grain {
            _ if !self.zone.has_bitmaps() => Grain::Hour,
            Grain::Year => Grain::Month,
            Grain::Week(start) if start != WeekStart::Monday => Grain::Day,
            grain => grain,
        }
    }

    /// Whether there are bitmaps for exactly such periods: hours, days, ISO weeks and months in UTC,
    /// or in the zone in which a store is [kept](Zone::kept).
    pub fn is_stored(self) -> bool {
        self.zone.has_bitmaps() && self.unit() == self.grain
    }

    /// Returns the fewest hours, days and months in UTC whose union it is, or those of the zone in
    /// which a store is [kept](Zone::kept); only itself if there are [bitmaps](Self::is_stored) for
    /// it. Empty if the zone skips the whole period.
    ///
    /// ```
    /// use cohortist::calendar::{Period, Zone};
    /// let count = |zone: &str, text: &str| -> Result<usize, cohortist::calendar::CalendarError> {
    ///     let zone: Zone = zone.parse()?;
    ///     Ok(zone.same_named(text.parse()?)?.stored().len())
    /// };
    /// assert_eq!(count("UTC", "2026-W48")?, 1);
    /// assert_eq!(count("UTC", "2026-11-22--P1W")?, 7);
    /// assert_eq!(count("UTC", "2026")?, 12);
    /// assert_eq!(count("America/New_York", "2026-03-08")?, 23);
    /// assert_eq!(count("Europe/Berlin", "2026-11")?, 29 + 24, "29 days in UTC, and 24 hours");
    /// assert_eq!(count("Pacific/Apia", "2011-12-30")?, 0, "Samoa skipped this day");
    /// # Ok::<(), cohortist::calendar::CalendarError>(())
    /// ```
    pub fn stored(self) -> Vec<Period> {
        if self.is_stored() {
            return vec![self];
        }
        if self.zone.is_kept() {
            return self.split(self.unit()).collect();
        }
        let grains: &[Grain] = match self.grain {
            Grain::Year => &[Grain::Month, Grain::Day, Grain::Hour],
            Grain::Month | Grain::Week(_) => &[Grain::Day, Grain::Hour],
            Grain::Day | Grain::Hour => &[Grain::Hour],
        };
        let end = self.end();
        let mut at = self.start();
        let mut parts = Vec::new();
        while at < end {
            let fitting = grains.iter().find_map(|grain| {
                let part = Period::containing(*grain, at).ok()?;
                (part.start() == at && part.end() <= end).then_some(part)
            });
            // Nothing is recorded outside the supported years.
            let Some(part) = fitting else { break };
            parts.push(part);
            at = part.end();
        }
        parts
    }

    /// Returns the period in the form that is shown to people: `23 Nov 14:00`, `Mon 23 Nov 2026`,
    /// `23 – 29 Nov 2026 (W48)`, `Nov 2026` or `2026`. Only ISO weeks have numbers.
    ///
    /// ```
    /// # use cohortist::calendar::Period;
    /// let label = |text: &str| text.parse::<Period>().map(Period::label);
    /// assert_eq!(label("2026-W48")?, "23 – 29 Nov 2026 (W48)");
    /// assert_eq!(label("2020-W53")?, "28 Dec 2020 – 3 Jan 2021 (W53)");
    /// assert_eq!(label("2026-11-22--P1W")?, "22 – 28 Nov 2026");
    /// # Ok::<(), cohortist::calendar::CalendarError>(())
    /// ```
    pub fn label(self) -> String {
        let start = self.local_start();
        match self.grain {
            Grain::Hour => self.hour_label(),
            Grain::Day => start.format("%a %-d %b %Y").to_string(),
            Grain::Month => start.format("%b %Y").to_string(),
            Grain::Year => start.format("%Y").to_string(),
            Grain::Week(starts) => {
                let first = start.date();
                let last = first + Days::new(6);
                let from = if first.year() != last.year() {
                    "%-d %b %Y"
                } else if first.month() != last.month() {
                    "%-d %b"
                } else {
                    "%-d"
                };
                let dates = format!("{} – {}", first.format(from), last.format("%-d %b %Y"));
                match starts {
                    WeekStart::Monday => format!("{dates} (W{})", first.iso_week().week()),
                    WeekStart::Sunday | WeekStart::Saturday => dates,
                }
            }
        }
    }

    /// An hour with its offset where the clocks show it twice.
    fn hour_label(self) -> String {
        let local = self.local_start();
        let label = local.format("%-d %b %H:%M").to_string();
        if self.zone.has_bitmaps() || self.zone.moments_of(local).len() == 1 {
            label
        } else {
            format!("{label} {}", self.zone.offset_text(self.start()))
        }
    }

    /// Returns a shorter label, such as for an axis. Hours, days and weeks have no year.
    pub fn short_label(self) -> String {
        let start = self.local_start();
        match self.grain {
            Grain::Hour => self.hour_label(),
            Grain::Day | Grain::Week(_) => start.format("%-d %b").to_string(),
            Grain::Month => start.format("%b %Y").to_string(),
            Grain::Year => start.format("%Y").to_string(),
        }
    }
}

/// Writes the ISO 8601 form: `2026-11-23T14`, `2026-11-23`, `2026-W48`, `2026-11` or `2026`. A week
/// that begins on another day than Monday is `2026-11-22--P1W`, and an hour in a zone has its offset:
/// `2026-11-23T14+01`. `parse` reads it back, as a period in UTC or with this offset.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.local_start();
        let year = start.year();
        let month = start.month();
        let day = start.day();
        match self.grain {
            Grain::Hour => {
                write!(f, "{year:04}-{month:02}-{day:02}T{:02}", start.hour())?;
                if self.zone.has_bitmaps() {
                    Ok(())
                } else {
                    f.write_str(&self.zone.offset_text(self.start()))
                }
            }
            Grain::Day => write!(f, "{year:04}-{month:02}-{day:02}"),
            Grain::Week(WeekStart::Monday) => {
                let week = start.iso_week();
                write!(f, "{:04}-W{:02}", week.year(), week.week())
            }
            Grain::Week(_) => write!(f, "{year:04}-{month:02}-{day:02}--P1W"),
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
        if let Some(first) = text.strip_suffix("--P1W") {
            return week_from(first).ok_or_else(bad);
        }
        let (date, hour) = match text.split_once('T') {
            Some((date, hour)) => {
                if let Some((hour, offset)) = split_offset(hour) {
                    let hour = digits(hour, 2).ok_or_else(bad)?;
                    let local: Period = format!("{date}T{hour:02}").parse().map_err(|_| bad())?;
                    let zone = Zone::fixed(offset).ok_or_else(bad)?;
                    return local.shift(-offset).and_then(|hour| {
                        Period::checked(Grain::Hour, zone, i64::from(hour.number))
                    });
                }
                (date, Some(digits(hour, 2).ok_or_else(bad)?))
            }
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

/// Splits an hour such as `02+01` into the hour and its offset in hours.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    let (hour, offset) = text.split_at(text.find(['+', '-'])?);
    let hours = i64::from(digits(&offset[1..], 2)?);
    Some((
        hour,
        if offset.starts_with('-') {
            -hours
        } else {
            hours
        },
    ))
}

/// Returns the week that begins on a day. `None` if no weeks do.
fn week_from(text: &str) -> Option<Period> {
    let day: Period = text
        .parse()
        .ok()
        .filter(|day: &Period| day.grain == Grain::Day)?;
    let weeks = WeekStart::ALL.map(|start| day.within(Grain::Week(start)));
    weeks.into_iter().find(|week| week.start() == day.start())
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

/// Returns the midnight or hour at which the period of a grain with a number starts. The period must
/// be supported, or be the one after the last supported period.
fn naive_start_of(grain: Grain, number: i64) -> NaiveDateTime {
    let midnight = epoch().and_time(NaiveTime::MIN);
    match grain {
        Grain::Hour => midnight + TimeDelta::hours(number),
        Grain::Day => midnight + TimeDelta::days(number),
        Grain::Week(start) => midnight + TimeDelta::days(number * 7 + start.epoch_day()),
        Grain::Month => first_of_month(number.div_euclid(12) + 1970, number.rem_euclid(12) + 1),
        Grain::Year => first_of_month(number, 1),
    }
}

fn first_of_month(year: i64, month: i64) -> NaiveDateTime {
    i32::try_from(year)
        .ok()
        .zip(u32::try_from(month).ok())
        .and_then(|(year, month)| NaiveDate::from_ymd_opt(year, month, 1))
        .expect("supported years are far from the limits of the type")
        .and_time(NaiveTime::MIN)
}
