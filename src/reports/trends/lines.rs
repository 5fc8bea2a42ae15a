//! The answer of the trends report.

use crate::calendar::{Grain, Period, Zone};
use crate::reports::comparison::{Basis, GroupKind, Values};
use crate::reports::coverage::State;
use crate::reports::trends::rolling::Rolling;
use crate::sets::Segment;

/// How many users were in some segments, period by period.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// The length of a period.
    pub grain: Grain,
    /// The zone in which they begin and end.
    pub zone: Zone,
    /// The length of the window that ends with each day. `None` if periods are counted.
    pub rolling: Option<Rolling>,
    /// The segments or groups, at least one, each with the same periods.
    pub series: Vec<Series>,
    /// How the groups divide a segment. `None` if the series are segments.
    pub breakdown: Option<Breakdown>,
    /// When the store's data ends, if before now.
    pub data_ends: Option<Period>,
    /// Whether numbers may include marks made after a chosen *now*.
    pub may_include_later_marks: bool,
}

/// How the groups of [`Lines`] divide the users of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakdown {
    /// The segment.
    pub segment: Segment,
    /// The values.
    pub values: Values,
    /// When it was known who belongs to a group.
    pub basis: Basis,
    /// The distinct users of all groups in all periods.
    pub people: u64,
    /// The distinct users of each group, added up.
    pub people_of_groups: u64,
    /// How many values have nobody in the periods.
    pub empty_values: usize,
}

/// One segment or group of [`Lines`].
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is: a segment, or a group of a breakdown.
    pub kind: GroupKind,
    /// The segment whose users are counted, from which lists of them are made. `None` if its text
    /// would be too long.
    pub segment: Option<Segment>,
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
    /// Returns the text of the set of the users of a series in a period or window. `None` if it
    /// would be too long.
    pub fn members(&self, series: &Series, period: Period) -> Option<String> {
        let segment = series.segment.as_ref()?;
        Some(match self.rolling {
            None => segment.in_period(period),
            Some(rolling) => rolling.window_of(segment.clone()).in_period(period),
        })
    }

    /// The periods, oldest first.
    pub fn periods(&self) -> impl Iterator<Item = Period> + '_ {
        let first = self.series.first().into_iter();
        first.flat_map(|series| series.points.iter().map(|point| point.period))
    }
}
