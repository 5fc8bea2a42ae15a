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
    /// As of when.
    pub now: DateTime<Utc>,
    /// When the store's data ends, where that is before now.
    pub data_ends: Option<Period>,
    /// Whether the running period may include marks made after a *now* that was chosen.
    pub may_include_later_marks: bool,
    /// When its events were recorded; `None` when none of them is dated.
    pub span: Option<Span>,
    /// Oldest first; the last one is running, or the one in which the data ends.
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

    /// The points from the first period on in which anything was recorded; at least the running
    /// one. Before it there is nothing to see, not even that nobody came.
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
    /// How many people; 0 where it is not recorded.
    pub people: u64,
    /// The change from the period before, for a day from the same weekday a week before, as a share
    /// of it. Only where both are complete, the earlier one had anybody, and records do not begin
    /// within it.
    pub change: Option<f64>,
    /// The days in it, for weeks and months that were recorded from their first day on.
    pub daily: Option<Daily>,
}

impl Point {
    /// How many people; `None` if the period is not recorded.
    pub(super) fn recorded_people(&self) -> Option<u64> {
        (self.state != State::NotRecorded).then_some(self.people)
    }

    /// Stickiness: mean people a day ÷ people in the whole period, 0–1. The mean is over the
    /// period's complete days. For a running period both are as of now; for one that was not
    /// recorded from its first day on there is none.
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
