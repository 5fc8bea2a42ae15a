//! The answer of the trends report.

use crate::calendar::{Grain, Period, Zone};
use crate::reports::coverage::State;
use crate::reports::trends::rolling::Rolling;
use crate::sets::{Offsets, Segment};

/// How many users were in some segments, period by period.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// The length of a period.
    pub grain: Grain,
    /// The zone in which they begin and end.
    pub zone: Zone,
    /// The length of the window that ends with each day. `None` if periods are counted.
    pub rolling: Option<Rolling>,
    /// The segments, at least one, each with the same periods.
    pub series: Vec<Series>,
    /// When the store's data ends, if before now.
    pub data_ends: Option<Period>,
    /// Whether numbers may include marks made after a chosen *now*.
    pub may_include_later_marks: bool,
}

/// One segment of [`Lines`].
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The segment.
    pub segment: Segment,
    /// Since when it is recorded: a day if there are daily bitmaps.
    pub begins: Option<Period>,
    /// Whether the users of a window are the union of those who were in the whole segment on one of
    /// its days, which may be fewer than those who were in it over the window.
    pub is_on_the_same_day: bool,
    /// The periods, oldest first.
    pub points: Vec<Point>,
}

/// One period of a [`Series`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The period; of a rolling window its last day.
    pub period: Period,
    /// Whether the number is known, and can still change.
    pub state: State,
    /// The number of users. `None` if it is not recorded.
    pub people: Option<u64>,
    /// For complete windows of 28 days: the mean number of users a day ÷ the users of the window.
    pub stickiness: Option<f64>,
}

impl Series {
    /// The last period that is over and recorded whole.
    pub fn last_complete(&self) -> Option<&Point> {
        let mut points = self.points.iter().rev();
        points.find(|point| point.state == State::Complete)
    }
}

impl Lines {
    /// Returns the text of the set of the users of a series in a period or window.
    pub fn members(&self, series: &Series, period: Period) -> String {
        let Some(rolling) = self.rolling else {
            return series.segment.in_period(period);
        };
        let offsets = Offsets::last(rolling.days()).expect("a window has 7 to 30 days");
        Segment::Within(Box::new(series.segment.clone()), offsets).in_period(period)
    }

    /// The periods, oldest first.
    pub fn periods(&self) -> impl Iterator<Item = Period> + '_ {
        let first = self.series.first().into_iter();
        first.flat_map(|series| series.points.iter().map(|point| point.period))
    }
}
