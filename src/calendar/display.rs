//! By which zone and weeks numbers are shown.

use crate::calendar::grain::WeekStart;
use crate::calendar::zone::Zone;

/// The zone in which periods begin and end, and the day on which weeks do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calendar {
    /// The zone.
    pub zone: Zone,
    /// The first day of a week.
    pub week: WeekStart,
}

impl Calendar {
    /// Names the zone, and the first day of the week unless it is Monday: `UTC`, `Europe/Berlin,
    /// weeks from Sunday`.
    pub fn words(self) -> String {
        match self.week {
            WeekStart::Monday => self.zone.words(),
            week => format!("{}, weeks from {}", self.zone.words(), week.name()),
        }
    }
}
