//! The answer of the frequency report.

use crate::calendar::{Period, WeekStart};
use crate::reports::coverage::State;
use crate::reports::frequency::window::Window;
use crate::sets::{Offsets, Segment};
use crate::stats::rate;

/// On how many days (or weeks) of a window users were in a segment, and of some weeks before.
#[derive(Debug, Clone, PartialEq)]
pub struct Habits {
    /// The segment.
    pub segment: Segment,
    /// The length of the window.
    pub window: Window,
    /// The day on which weeks begin.
    pub week: WeekStart,
    /// The window.
    pub curve: Curve,
    /// The days of each of the last complete weeks, oldest first. Empty for windows of weeks.
    pub weeks: Vec<Curve>,
    /// Since when the segment is recorded: a day if there are daily bitmaps.
    pub begins: Option<Period>,
    /// When the store's data ends, if before now.
    pub data_ends: Option<Period>,
    /// Whether numbers may include marks made after a chosen *now*.
    pub may_include_later_marks: bool,
}

/// The number of users by the number of periods in which they were in the segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// The first period.
    pub from: Period,
    /// The last period.
    pub until: Period,
    /// Whether the numbers are known, and can still change.
    pub state: State,
    /// The number of users in exactly 1, 2, … of the periods. `None` if it is not recorded.
    pub exactly: Option<Vec<u64>>,
}

impl Curve {
    /// Returns the number of users in at least 1, 2, … of the periods. Empty if it is not recorded.
    pub fn at_least(&self) -> Vec<u64> {
        let mut sums: Vec<u64> = self.exactly.clone().unwrap_or_default();
        for k in (1..sums.len()).rev() {
            sums[k - 1] += sums[k];
        }
        sums
    }

    /// Returns the number of users in at least `least` of the periods, `least` being at least 1.
    /// `None` if it is not recorded.
    pub fn people(&self, least: usize) -> Option<u64> {
        let skipped = least.checked_sub(1)?;
        Some(self.exactly.as_ref()?.iter().skip(skipped).sum())
    }

    /// Returns the sum of the users of each period. `None` if it is not recorded.
    pub fn total(&self) -> Option<u64> {
        let exactly = self.exactly.as_ref()?.iter();
        Some((1..).zip(exactly).map(|(k, people)| k * people).sum())
    }

    /// Returns the mean number of periods of a user. `None` without users.
    pub fn mean(&self) -> Option<f64> {
        rate(self.total()?, self.people(1)?)
    }

    /// Returns the share of users in at least `least` of the periods. `None` without users.
    pub fn share(&self, least: usize) -> Option<f64> {
        rate(self.people(least)?, self.people(1)?)
    }

    /// Returns the smallest number of periods that at least half of the users do not exceed. `None`
    /// without users.
    pub fn median(&self) -> Option<usize> {
        let all = self.people(1).filter(|all| *all > 0)?;
        (1..).find(|k| self.people(k + 1).is_some_and(|more| more * 2 <= all))
    }
}

impl Habits {
    fn in_at_least(&self, least: u32) -> Segment {
        let offsets = Offsets::last(self.window.length()).expect("a window has 1 to 366 periods");
        Segment::AtLeast(least, Box::new(self.segment.clone()), offsets)
    }

    /// Returns the text of the set of the users in at least `least` periods of the window.
    pub fn members_of_at_least(&self, least: u32) -> String {
        self.in_at_least(least).in_period(self.curve.until)
    }

    /// Returns the text of the set of the users in exactly this many periods of the window.
    pub fn members_of_exactly(&self, count: u32) -> String {
        if count >= self.window.length() {
            return self.members_of_at_least(count);
        }
        let more = Box::new(self.in_at_least(count + 1));
        Segment::Diff(Box::new(self.in_at_least(count)), more).in_period(self.curve.until)
    }
}
