//! Calendar periods: hours, days, weeks, months and years, in UTC or in a time zone.
//!
//! A [`Period`] is one calendar unit of a [`Grain`] in a [`Zone`]: the half-open interval `[start,
//! end)`. It is stored as a number of units since 1970, so shifts and comparisons are integer
//! arithmetic and never produce a date that does not exist. The supported years are [`MIN_YEAR`] to
//! [`MAX_YEAR`], as in Python's `datetime`, which bitmapist uses.
//!
//! A period knows its zone and on which day its week begins, so it never means two things. Bitmaps
//! exist for hours, days, ISO weeks and months in UTC, or in the zone in which a store is
//! [kept](Zone::kept); [`Period::stored`] writes every other period
//! as a union of those.
//!
//! This module is pure: it does not read the clock. Time zone rules are compiled in.

mod display;
mod error;
mod forms;
mod grain;
mod moment;
mod period;
mod zone;

pub use display::Calendar;
pub use error::{CalendarError, MAX_YEAR, MIN_YEAR};
pub use grain::{Grain, WeekStart};
pub use moment::{parse_date, parse_moment};
pub use period::Period;
pub use zone::Zone;
