//! The answer to a comparison: a table for each group, and their differences.

use crate::calendar::Period;
use crate::reports::comparison::difference::Difference;
use crate::reports::comparison::grouping::Grouping;
use crate::reports::retention::{Query, Table};
use crate::sets::{EventName, Segment};

/// When it was known who belongs to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Marked with the value up to and including the cohort's period.
    KnownThen,
    /// In the value's undated bitmap, as it is today. People who stay for long enough get into it,
    /// so that its group looks loyal.
    KnownToday,
    /// In the segment, in the cohort's period.
    Segments,
    /// In a cohort on one side of a date.
    Date,
}

impl Basis {
    /// The name used in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Basis::KnownThen => "known_by_cohort",
            Basis::KnownToday => "known_today",
            Basis::Segments => "segment",
            Basis::Date => "date",
        }
    }
}

/// Which people a group has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKind {
    /// Those known by a value of a breakdown.
    Value(EventName),
    /// Those known by none of the values.
    None,
    /// Those known by one of the values that have no group of their own; how many values.
    Other(usize),
    /// Those in a segment.
    Segment(Segment),
    /// The cohorts before a date.
    Before,
    /// The cohorts from a date on.
    After,
}

impl GroupKind {
    /// The name in files: that of the event, the text of the segment, or a fixed word.
    pub fn name(&self) -> String {
        match self {
            GroupKind::Value(name) => name.to_string(),
            GroupKind::None => "(none)".to_owned(),
            GroupKind::Other(_) => "(other)".to_owned(),
            GroupKind::Segment(segment) => segment.to_string(),
            GroupKind::Before => "before".to_owned(),
            GroupKind::After => "after".to_owned(),
        }
    }

    /// Whether it holds what the other groups leave over.
    pub fn is_rest(&self) -> bool {
        matches!(self, GroupKind::None | GroupKind::Other(_))
    }
}

/// One group and its table.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Which people it has.
    pub kind: GroupKind,
    /// The starting segment with the group's condition, from which lists of its people are made.
    /// `None` if its text would be too long.
    pub cohort: Option<Segment>,
    /// Its table. That of a date's side has the cohorts of the side.
    pub table: Table,
}

/// The answer to a [`Comparison`](crate::reports::comparison::Comparison).
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// The question.
    pub query: Query,
    /// What the groups are.
    pub grouping: Grouping,
    /// When it was known who belongs to them.
    pub basis: Basis,
    /// The groups: of a breakdown the values with the most people first, then the rest.
    pub groups: Vec<Group>,
    /// The first group minus each other one, column by column. Of a date, after minus before.
    pub differences: Vec<Difference>,
    /// How many tests were made: Holm's correction covers all of them.
    pub tests: usize,
    /// The distinct people of all groups.
    pub people: u64,
    /// The distinct people of each group, added up.
    pub people_of_groups: u64,
    /// How many values of a breakdown have nobody in the cohorts.
    pub empty_values: usize,
    /// The cohort that belongs to neither side of a date, because the date lies within it.
    pub left_out: Option<Period>,
}

impl Compared {
    /// Describes the question.
    pub fn title(&self) -> String {
        let title = match self.groups.first() {
            Some(group) => {
                let labels = &group.table.labels;
                let grain = self.query.grain;
                let side = |segment: &Segment| segment.phrase(labels, grain);
                self.query
                    .title(side(&self.query.cohort), side(&self.query.returning))
            }
            None => self.query.title(&self.query.cohort, &self.query.returning),
        };
        format!("{title}, {}", self.by())
    }

    /// What the groups are: `by country:*`.
    pub fn by(&self) -> String {
        match &self.grouping {
            Grouping::Breakdown(values) => format!("by {values}"),
            Grouping::Compare(_) => {
                let names = self.groups.iter().map(|group| group.kind.name());
                format!("{} compared", names.collect::<Vec<_>>().join(", "))
            }
            Grouping::Split(date) => format!("before and after {date}"),
        }
    }

    /// Whether anybody is in several groups.
    pub fn is_overlapping(&self) -> bool {
        self.people < self.people_of_groups
    }

    /// The differences of a group, column by column. There are none of the first.
    pub fn differences_of(&self, group: usize) -> impl Iterator<Item = &Difference> {
        let differences = self.differences.iter();
        differences.filter(move |difference| {
            group > 0 && (difference.minus == group || difference.of == group)
        })
    }
}
