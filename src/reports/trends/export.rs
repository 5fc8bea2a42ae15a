//! Trends as a table, for every format.

use std::borrow::Cow;

use serde_json::{Value as Json, json};

use crate::reports::coverage::State;
use crate::reports::export::{Chart, Exports};
use crate::reports::frame::{Frame, People, Value, bounds};
use crate::reports::trends::lines::{Lines, Point, Series};
use crate::sets::Segment;

impl Lines {
    fn cell(&self, series: &Series, point: &Point) -> Value {
        let people = |count| People {
            count,
            state: point.state,
            set: self.members(series, point.period),
        };
        point.people.map(people).into()
    }

    /// Whether the table shows stickiness.
    fn is_sticky(&self) -> bool {
        let points = || self.series.iter().flat_map(|series| &series.points);
        points().any(|point| point.stickiness.is_some())
    }

    fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.series.iter().map(|series| series.segment.to_string())
    }
}

impl Exports for Lines {
    fn title(&self) -> String {
        let names = self.names().collect::<Vec<_>>().join(", ");
        match self.rolling {
            None => format!("{names}, people by {}", self.grain),
            Some(rolling) => format!(
                "{names}, people of the {} days up to each day",
                rolling.days()
            ),
        }
    }

    /// `trends_active_by_day_28d_2026-10-25`, the period being the first one.
    fn name(&self) -> Vec<String> {
        let mut parts = vec!["trends".to_owned()];
        parts.extend(self.names());
        parts.extend(["by".to_owned(), self.grain.to_string()]);
        parts.extend(self.rolling.map(|rolling| rolling.to_string()));
        parts.extend(self.periods().next().map(|period| period.to_string()));
        parts
    }

    fn wide(&self) -> Frame {
        let is_single = self.series.len() == 1;
        let mut columns: Vec<Cow<'static, str>> = vec![self.grain.as_str().into()];
        columns.extend(self.names().map(Cow::Owned));
        if self.is_sticky() {
            columns.extend(self.names().map(|name| match is_single {
                true => Cow::Borrowed("stickiness"),
                false => Cow::Owned(format!("{name} stickiness")),
            }));
        }
        // The states of several segments differ. The tidy table has each of them.
        if is_single {
            columns.push("state".into());
        }
        let mut frame = Frame::new(columns);
        for (at, period) in self.periods().enumerate() {
            let points = || {
                self.series
                    .iter()
                    .map(|series| (series, &series.points[at]))
            };
            let mut row = vec![Value::Word(period.label())];
            row.extend(points().map(|(series, point)| self.cell(series, point)));
            if self.is_sticky() {
                row.extend(points().map(|(_, point)| point.stickiness.map(Value::Share).into()));
            }
            if is_single {
                row.extend(points().map(|(_, point)| Value::word(point.state.as_str())));
            }
            frame.push(row);
        }
        frame
    }

    /// Returns a row for each segment and period. Numbers that are not recorded are empty.
    fn tidy(&self) -> Frame {
        let mut frame = Frame::new(["period_start", "period_end", "state", "series", "people"]);
        for series in &self.series {
            for point in &series.points {
                let [start, end] = bounds(point.period);
                frame.push(vec![
                    start,
                    end,
                    Value::word(point.state.as_str()),
                    Value::Text(series.segment.to_string()),
                    point.people.into(),
                ]);
            }
        }
        frame
    }

    fn json(&self) -> String {
        let series = self.series.iter().map(|series| {
            let sticky = series.points.iter().map(|point| point.stickiness);
            json!({
                "event": series.segment.to_string(),
                "first_recorded": series.begins.map(|period| period.to_string()),
                "on_the_same_day": series.is_on_the_same_day,
                "stickiness": self.is_sticky().then(|| sticky.collect::<Json>()),
            })
        });
        let object = json!({
            "title": self.title(),
            "by": self.grain.as_str(),
            "rolling": self.rolling.map(|rolling| rolling.to_string()),
            "data_ends": self.data_ends.map(|period| period.to_string()),
            "may_include_later_marks": self.may_include_later_marks,
            "series": series.collect::<Json>(),
            "rows": self.tidy().to_json(),
        });
        format!("{object:#}")
    }

    fn may_include_later_marks(&self) -> bool {
        self.may_include_later_marks
    }

    fn chart(&self) -> Option<Chart<'_>> {
        Some(Chart::Trends(self))
    }

    fn segments(&self) -> Vec<&Segment> {
        let is_empty = |series: &&Series| {
            let mut points = series.points.iter();
            points.all(|point| {
                point.people.is_none_or(|people| people == 0) || point.state == State::NotRecorded
            })
        };
        let empty = self.series.iter().filter(is_empty);
        empty.map(|series| &series.segment).collect()
    }

    /// Whether any segment has only zeros.
    fn is_empty(&self) -> bool {
        !self.segments().is_empty()
    }
}
