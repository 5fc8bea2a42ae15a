//! Windows of days that end on consecutive days.

use std::fmt;
use std::str::FromStr;

use crate::reports::error::QueryError;
use crate::sets::{NodeId, Plan};

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

/// Returns the union of each `length` consecutive days, oldest first, in at most 3 unions a day.
///
/// The days are cut into blocks of this length. A window is the end of one block and the beginning
/// of the next one, and each of these is one union more than a shorter one.
pub(super) fn unions(plan: &mut Plan, days: &[NodeId], length: usize) -> Vec<NodeId> {
    assert!(length > 0, "a window has at least one day");
    let Some(windows) = (days.len() + 1).checked_sub(length) else {
        return Vec::new();
    };
    // From each day to the end of its block. A window that begins in a block contains its end, so
    // these blocks are whole.
    let blocks = windows.div_ceil(length);
    let mut ends = days[..(blocks * length).min(days.len())].to_vec();
    for at in (0..ends.len()).rev() {
        if at % length != length - 1 && at + 1 < ends.len() {
            ends[at] = plan.or([days[at], ends[at + 1]]);
        }
    }
    // From the beginning of its block to each day.
    let mut beginnings = days.to_vec();
    for at in length..days.len() {
        // The last day of a block ends a window that is this block.
        if at % length != 0 && at % length != length - 1 {
            beginnings[at] = plan.or([beginnings[at - 1], days[at]]);
        }
    }
    let window = |first: usize| match first % length {
        0 => ends[first],
        _ => plan.or([ends[first], beginnings[first + length - 1]]),
    };
    (0..windows).map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::{EventName, Key, Node};

    fn keys(plan: &mut Plan, count: usize) -> Vec<NodeId> {
        let key = |at: usize| Key::ever(EventName::new(&at.to_string()).unwrap());
        (0..count).map(|at| plan.key(key(at))).collect()
    }

    /// The keys in a union.
    fn members(plan: &Plan, node: NodeId, found: &mut Vec<usize>) {
        match plan.node(node) {
            Node::Key(key) => found.push(key.event().as_str().parse().unwrap()),
            other => {
                let operands = other.operands().iter();
                operands.for_each(|operand| members(plan, *operand, found));
            }
        }
    }

    #[test]
    fn each_window_is_the_union_of_its_days_in_few_unions() {
        for length in [1, 2, 7, 28, 30] {
            for count in [1, 6, 7, 8, 30, 57, 100, 117] {
                let mut plan = Plan::new();
                let days = keys(&mut plan, count);
                let windows = unions(&mut plan, &days, length);
                assert_eq!(windows.len(), (count + 1).saturating_sub(length));
                for (first, window) in windows.into_iter().enumerate() {
                    let mut found = Vec::new();
                    members(&plan, window, &mut found);
                    found.sort_unstable();
                    let expected: Vec<usize> = (first..first + length).collect();
                    assert_eq!(found, expected, "{length} of {count}");
                }
                let steps = |node: &Node| node.operands().len().saturating_sub(1);
                let operations: usize = plan.nodes().iter().map(steps).sum();
                assert!(operations <= 3 * count, "{operations}: {length} of {count}");
            }
        }
    }
}
