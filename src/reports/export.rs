//! The common interface of all answers, from which files, commands and the API are made.

use serde_json::json;

use crate::calendar::{Calendar, Period};
use crate::reports::comparison::Compared;
use crate::reports::frame::Frame;
use crate::reports::frequency::Habits;
use crate::reports::lifecycle::Growth;
use crate::reports::retention::{Benchmarks, Show, Table};
use crate::reports::trends::Lines;
use crate::sets::Segment;

/// An answer that can be exported.
pub trait Exports {
    /// Describes the question.
    fn title(&self) -> String;

    /// Returns the parts of a file's name, without an extension: `["retention", "signup", "active",
    /// "day"]`.
    fn name(&self) -> Vec<String>;

    /// Returns by which zone and weeks it is counted.
    fn calendar(&self) -> Calendar {
        Calendar::default()
    }

    /// Returns the table for pages and terminals.
    fn wide(&self) -> Frame;

    /// Returns the table for terminals, if it is not the wide one.
    fn summary(&self) -> Frame {
        self.wide()
    }

    /// Returns the table for programs: one number per row.
    fn tidy(&self) -> Frame;

    /// Returns everything as one JSON object, indented.
    fn json(&self) -> String {
        let object = json!({
            "title": self.title(),
            "may_include_later_marks": self.may_include_later_marks(),
            "rows": self.tidy().to_json(),
        });
        format!("{object:#}")
    }

    /// Returns about how many values its files have; 0 if they are always few. A server renders only
    /// a few large answers at once.
    fn values(&self) -> usize {
        0
    }

    /// Whether each row of the wide table is a period, oldest first. Pages show the newest first.
    fn is_by_period(&self) -> bool {
        true
    }

    /// Whether numbers may include marks made after a chosen *now*.
    fn may_include_later_marks(&self) -> bool {
        false
    }

    /// Returns the question and its periods if the store has no data of any of them: an empty table
    /// would look like zeros.
    fn unrecorded(&self) -> Option<(&str, &[Period])> {
        None
    }

    /// Returns the chart, if the answer has one.
    fn chart(&self) -> Option<Chart<'_>> {
        None
    }

    /// Returns the cohort grid and what its cells show, which terminals print in colour.
    fn grid(&self) -> Option<(&Table, Show)> {
        None
    }

    /// Returns the part of the file's name for a variant of the wide table, such as counts instead
    /// of rates.
    fn variant(&self) -> Option<&'static str> {
        None
    }

    /// Returns the segments of the question, for notes on events that were never recorded.
    fn segments(&self) -> Vec<&Segment> {
        Vec::new()
    }

    /// Whether all numbers are 0: then a name may be misspelt.
    fn is_empty(&self) -> bool {
        false
    }
}

/// A chart, by its contents.
#[derive(Debug, Clone, Copy)]
pub enum Chart<'a> {
    /// The curves of a retention table, and what they are read against.
    Retention(&'a Table, &'a Benchmarks),
    /// The curves of several groups, and a share in percent to draw as a line.
    Comparison(&'a Compared, Option<u32>),
    /// People of several segments, period by period.
    Trends(&'a Lines),
    /// New, returning, resurrected and dormant people.
    Lifecycle(&'a Growth),
    /// People by the number of their active days.
    Frequency(&'a Habits),
}
