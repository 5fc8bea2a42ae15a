//! A lifecycle as a table, for every format.

use serde_json::json;

use crate::reports::export::{Chart, Exports};
use crate::reports::frame::{Frame, People, Value, bounds};
use crate::reports::lifecycle::growth::{Class, Growth, Stage};
use crate::sets::Segment;
use crate::stats::rate;

/// The number of users of a class, with the set of these users.
fn cell(growth: &Growth, stage: &Stage, class: Class) -> Value {
    let people = |count| People {
        count,
        state: stage.state,
        set: growth.members(class, stage.period),
    };
    stage.count(class).map(people).into()
}

impl Exports for Growth {
    fn title(&self) -> String {
        format!(
            "{}: new, returning, resurrected and dormant by {}",
            self.segment, self.grain
        )
    }

    /// `lifecycle_active_by_week_2026-W36`, the period being the first one.
    fn name(&self) -> Vec<String> {
        let mut parts = vec!["lifecycle".to_owned(), self.segment.to_string()];
        parts.extend(["by".to_owned(), self.grain.to_string()]);
        parts.extend(self.stages.first().map(|stage| stage.period.to_string()));
        parts
    }

    fn wide(&self) -> Frame {
        let mut columns = vec![self.grain.as_str()];
        columns.extend(Class::ALL.map(Class::as_str));
        columns.extend(["net", "quick_ratio", "state"]);
        let mut frame = Frame::new(columns);
        for stage in &self.stages {
            let mut row = vec![Value::Word(stage.period.label())];
            row.extend(Class::ALL.map(|class| cell(self, stage, class)));
            let complete = stage.complete();
            row.push(
                complete
                    .map(|classes| Value::Difference(classes.net()))
                    .into(),
            );
            let quick = complete.and_then(|classes| rate(classes.gained(), classes.dormant));
            row.push(quick.into());
            row.push(Value::word(stage.state.as_str()));
            frame.push(row);
        }
        frame
    }

    /// Returns a row per period, oldest first. Numbers that are not recorded are empty.
    fn tidy(&self) -> Frame {
        let mut columns = vec!["period_start", "period_end", "state"];
        columns.extend(Class::ALL.map(Class::as_str));
        let mut frame = Frame::new(columns);
        for stage in &self.stages {
            let mut row = bounds(stage.period).to_vec();
            row.push(Value::word(stage.state.as_str()));
            row.extend(Class::ALL.map(|class| stage.count(class).into()));
            frame.push(row);
        }
        frame
    }

    fn json(&self) -> String {
        let quick = self.quick_ratio();
        let object = json!({
            "title": self.title(),
            "event": self.segment.to_string(),
            "by": self.grain.as_str(),
            "first_recorded": self.begins.map(|period| period.to_string()),
            "data_ends": self.data_ends.map(|period| period.to_string()),
            "may_include_later_marks": self.may_include_later_marks,
            "quick_ratio": {
                "new_and_resurrected": quick.gained,
                "dormant": quick.lost,
                "periods": quick.periods,
                "ratio": quick.ratio(),
            },
            "rows": self.tidy().to_json(),
        });
        format!("{object:#}")
    }

    fn may_include_later_marks(&self) -> bool {
        self.may_include_later_marks
    }

    fn chart(&self) -> Option<Chart<'_>> {
        Some(Chart::Lifecycle(self))
    }

    fn segments(&self) -> Vec<&Segment> {
        vec![&self.segment]
    }

    fn is_empty(&self) -> bool {
        self.stages
            .iter()
            .all(|stage| stage.active.is_none_or(|people| people == 0))
    }
}
