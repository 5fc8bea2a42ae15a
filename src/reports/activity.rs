//! The answer of the trend report: users in each period.

use chrono::{DateTime, Utc};

use crate::calendar::{Grain, Period};
use crate::reports::coverage::State;
use crate::reports::spans::Span;
use crate::sets::Segment;

/// How many people were in a segment, period by period.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    /// Who is counted.
    pub segment: Segment,
    /// The length of a period.
    pub grain: Grain,
    /// The moment of the answer.
    pub now: DateTime<Utc>,
    /// When the store's data ends, if before now.
    pub data_ends: Option<Period>,
    /// Whether the current period may include marks made after a chosen *now*.
    pub may_include_later_marks: bool,
    /// When its events were recorded. `None` if none of them is dated.
    pub span: Option<Span>,
    /// Oldest first. The last one is in progress, or the one in which the data ends.
    pub points: Vec<Point>,
}

impl Activity {
    /// The last period that is over.
    pub fn last_complete(&self) -> Option<&Point> {
        self.points
            .iter()
            .rev()
            .find(|point| point.state == State::Complete)
    }

    /// Returns the points from the first recorded period, at least the last point. Earlier zeros
    /// would be misleading.
    pub fn recorded(&self) -> &[Point] {
        let begun = |point: &Point| {
            self.span
                .is_some_and(|span| span.first.start() < point.period.end())
        };
        let first = self
            .points
            .iter()
            .position(begun)
            .unwrap_or(self.points.len().saturating_sub(1));
        self.points.get(first..).unwrap_or_default()
    }

    /// The period with the most people, if it has any.
    pub fn greatest(&self) -> Option<&Point> {
        self.points
            .iter()
            .max_by_key(|point| point.people)
            .filter(|point| point.people > 0)
    }
}

/// One period of an [`Activity`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The period.
    pub period: Period,
    /// Whether its number is known, and can still change.
    pub state: State,
    /// The number of people, 0 if it is not recorded.
    pub people: u64,
    /// The change from the previous period as a share of it; for a day from the same weekday a week
    /// before. Only if both are complete, the earlier one is not 0 and is fully recorded.
    pub change: Option<f64>,
    /// Its days, for weeks and months that were recorded from their first day.
    pub daily: Option<Daily>,
}

impl Point {
    /// How many people; `None` if the period is not recorded.
    pub(super) fn recorded_people(&self) -> Option<u64> {
        (self.state != State::NotRecorded).then_some(self.people)
    }

    /// Returns the stickiness: mean people per day ÷ people in the whole period, 0–1. The mean
    /// covers the complete days. In a period in progress both are as of now. `None` for a period
    /// that was not recorded from its first day.
    #[allow(clippy::cast_precision_loss)] // Counts stay far below 2⁵³.
    pub fn stickiness(&self) -> Option<f64> {
        let daily = self.daily.filter(|_| self.people > 0)?;
        Some(daily.mean / self.people as f64)
    }
}

/// The complete days of a week or month.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Daily {
    /// Mean people a day.
    pub mean: f64,
    /// Over how many days.
    pub days: u64,
}
