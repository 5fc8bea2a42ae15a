//! What every answer offers, so that files, commands and the API are made the same way for all
//! reports.

use serde_json::json;

use crate::calendar::Period;
use crate::reports::activity::Activity;
use crate::reports::frame::Frame;
use crate::reports::retention::{Show, Table};
use crate::sets::Segment;

/// What every answer offers.
pub trait Exports {
    /// The question in words.
    fn title(&self) -> String;

    /// The parts of a file's name, without an ending: `["retention", "signup", "active", "day"]`.
    fn name(&self) -> Vec<String>;

    /// What a page or a terminal shows.
    fn wide(&self) -> Frame;

    /// What programs read: a number a row.
    fn tidy(&self) -> Frame;

    /// Everything in one JSON object, indented.
    fn json(&self) -> String {
        let object = json!({
            "title": self.title(),
            "may_include_later_marks": self.may_include_later_marks(),
            "rows": self.tidy().to_json(),
        });
        format!("{object:#}")
    }

    /// Whether numbers may include marks made after a *now* that was chosen.
    fn may_include_later_marks(&self) -> bool {
        false
    }

    /// What was asked for and its periods, if the store has no data of any of them: then a table
    /// without rows would say that nobody did it.
    fn unrecorded(&self) -> Option<(&str, &[Period])> {
        None
    }

    /// The chart, if the answer has one.
    fn chart(&self) -> Option<Chart<'_>> {
        None
    }

    /// The cohort grid and what its cells show, which terminals print in colour.
    fn grid(&self) -> Option<(&Table, Show)> {
        None
    }

    /// Whether the wide table has other numbers on request, such as counts in place of rates:
    /// a part of the file's name then.
    fn variant(&self) -> Option<&'static str> {
        None
    }

    /// The segments that were asked about, for notes on events that were never recorded.
    fn segments(&self) -> Vec<&Segment> {
        Vec::new()
    }

    /// Whether nobody is in any of its numbers: then a name may be misspelt.
    fn is_empty(&self) -> bool {
        false
    }
}

/// A chart, by what it draws.
#[derive(Debug, Clone, Copy)]
pub enum Chart<'a> {
    /// The curves of a retention table.
    Retention(&'a Table),
    /// People period by period.
    Trend(&'a Activity),
}
