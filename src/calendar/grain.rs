//! The sizes of periods.

use std::fmt;
use std::str::FromStr;

use crate::calendar::error::CalendarError;

/// The day on which weeks begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeekStart {
    /// ISO 8601 weeks, of which there are bitmaps. Week 1 contains the first Thursday of the year.
    #[default]
    Monday,
    /// Weeks from Saturday to Friday.
    Saturday,
    /// Weeks from Sunday to Saturday.
    Sunday,
}

impl WeekStart {
    /// All of them; the default is first.
    pub const ALL: [WeekStart; 3] = [WeekStart::Monday, WeekStart::Sunday, WeekStart::Saturday];

    /// Their names in addresses, in the order of [`ALL`](Self::ALL).
    pub const NAMES: &'static [&'static str] = &["monday", "sunday", "saturday"];

    /// Returns its name in addresses, such as `sunday`.
    pub const fn as_str(self) -> &'static str {
        match self {
            WeekStart::Monday => "monday",
            WeekStart::Sunday => "sunday",
            WeekStart::Saturday => "saturday",
        }
    }

    /// Returns its name for people, such as `Sunday`.
    pub const fn name(self) -> &'static str {
        match self {
            WeekStart::Monday => "Monday",
            WeekStart::Sunday => "Sunday",
            WeekStart::Saturday => "Saturday",
        }
    }

    /// Returns the grain of these weeks.
    pub const fn weeks(self) -> Grain {
        Grain::Week(self)
    }

    /// The first day of the week that contains 1970-01-01, a Thursday, in days since that date.
    pub(super) const fn epoch_day(self) -> i64 {
        match self {
            WeekStart::Monday => -3,
            WeekStart::Sunday => -4,
            WeekStart::Saturday => -5,
        }
    }
}

impl fmt::Display for WeekStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WeekStart {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        WeekStart::ALL
            .into_iter()
            .find(|start| start.as_str() == text)
            .ok_or_else(|| CalendarError::WeekStart(text.to_owned()))
    }
}

/// The size of a [`Period`](crate::calendar::Period).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// 60 minutes, from minute 0.
    Hour,
    /// A calendar day.
    #[default]
    Day,
    /// Seven days from this day of the week on.
    Week(WeekStart),
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Grain {
    /// An ISO 8601 week, from Monday to Sunday.
    pub const WEEK: Grain = Grain::Week(WeekStart::Monday);

    /// All grains, shortest first, with ISO weeks.
    pub const ALL: [Grain; 5] = [
        Grain::Hour,
        Grain::Day,
        Grain::WEEK,
        Grain::Month,
        Grain::Year,
    ];

    /// Returns the singular noun, such as `day`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Grain::Hour => "hour",
            Grain::Day => "day",
            Grain::Week(_) => "week",
            Grain::Month => "month",
            Grain::Year => "year",
        }
    }

    /// Returns the adjective, such as `daily`.
    pub const fn adjective(self) -> &'static str {
        match self {
            Grain::Hour => "hourly",
            Grain::Day => "daily",
            Grain::Week(_) => "weekly",
            Grain::Month => "monthly",
            Grain::Year => "yearly",
        }
    }

    /// Returns the same grain; a week begins on this day.
    #[must_use]
    pub const fn with_weeks(self, start: WeekStart) -> Self {
        match self {
            Grain::Week(_) => Grain::Week(start),
            other => other,
        }
    }

    /// Returns the day on which its weeks begin. Monday for other grains.
    pub const fn week_start(self) -> WeekStart {
        match self {
            Grain::Week(start) => start,
            _ => WeekStart::Monday,
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
