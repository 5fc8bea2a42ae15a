//! Windows of days that end on consecutive days.

use std::fmt;
use std::str::FromStr;

use crate::reports::error::QueryError;
use crate::sets::{Offsets, Segment};

/// The length of a rolling window: 7, 28 or 30 days.
///
/// ```
/// use cohortist::reports::trends::Rolling;
/// assert_eq!("28d".parse::<Rolling>()?.days(), 28);
/// assert!("14d".parse::<Rolling>().is_err());
/// # Ok::<(), cohortist::reports::QueryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rolling {
    /// A week: WAU.
    Week,
    /// Four weeks, in which each weekday counts the same: MAU.
    FourWeeks,
    /// About a month.
    Month,
}

impl Rolling {
    /// Every length.
    pub const ALL: [Rolling; 3] = [Rolling::Week, Rolling::FourWeeks, Rolling::Month];

    /// The number of days.
    pub const fn days(self) -> u32 {
        match self {
            Rolling::Week => 7,
            Rolling::FourWeeks => 28,
            Rolling::Month => 30,
        }
    }

    /// Returns the segment of the users who were in a segment on any day of the window that ends
    /// with a day.
    pub fn window_of(self, segment: Segment) -> Segment {
        let offsets = Offsets::last(self.days()).expect("a window has 7 to 30 days");
        Segment::Within(Box::new(segment), offsets)
    }
}

impl fmt::Display for Rolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}d", self.days())
    }
}

impl FromStr for Rolling {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let known = Rolling::ALL
            .into_iter()
            .find(|rolling| rolling.to_string() == text);
        known.ok_or_else(|| QueryError::Word {
            given: text.to_owned(),
            known: &["7d", "28d", "30d"],
        })
    }
}
