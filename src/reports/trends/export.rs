//! Trends as a table, for every format.

use serde_json::{Value as Json, json};

use crate::calendar::Calendar;
use crate::reports::comparison::Basis;
use crate::reports::coverage::State;
use crate::reports::export::{Chart, Exports};
use crate::reports::frame::{Column, Frame, People, Value, bounds};
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
        self.series.iter().map(|series| series.kind.name())
    }

    /// The segments of the question.
    fn asked(&self) -> Vec<&Segment> {
        match &self.breakdown {
            Some(breakdown) => vec![&breakdown.segment],
            None => self
                .series
                .iter()
                .filter_map(|series| series.segment.as_ref())
                .collect(),
        }
    }

    /// The segments of the question, and its breakdown: `active, by plan:*`.
    fn of(&self) -> Vec<String> {
        let segments = self.asked().into_iter().map(ToString::to_string);
        let by = self.breakdown.iter();
        segments
            .chain(by.map(|breakdown| format!("by {}", breakdown.values)))
            .collect()
    }
}

impl Exports for Lines {
    fn title(&self) -> String {
        let of = self.of().join(", ");
        match self.rolling {
            None => format!("{of}, people by {}", self.grain),
            Some(rolling) => format!("{of}, people of the {} days up to each day", rolling.days()),
        }
    }

    /// `trends_active_by_day_28d_2026-10-25`, the period being the first one.
    fn name(&self) -> Vec<String> {
        let mut parts = vec!["trends".to_owned()];
        parts.extend(self.of());
        parts.extend(["by".to_owned(), self.grain.to_string()]);
        parts.extend(self.rolling.map(|rolling| rolling.to_string()));
        parts.extend(self.periods().next().map(|period| period.to_string()));
        parts
    }

    fn calendar(&self) -> Calendar {
        Calendar {
            zone: self.zone,
            week: self.grain.week_start(),
        }
    }

    fn wide(&self) -> Frame {
        let is_single = self.series.len() == 1;
        let mut columns: Vec<Column> = vec![self.grain.as_str().into()];
        columns.extend(self.names().map(Column::Text));
        if self.is_sticky() {
            columns.extend(self.names().map(|name| match is_single {
                true => Column::Word("stickiness"),
                false => Column::Text(format!("{name} stickiness")),
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
                    Value::Text(series.kind.name()),
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
                "series": series.kind.name(),
                "event": series.segment.as_ref().map(ToString::to_string),
                "first_recorded": series.begins.map(|period| period.to_string()),
                "on_the_same_day": series.is_on_the_same_day,
                "stickiness": self.is_sticky().then(|| sticky.collect::<Json>()),
            })
        });
        let object = json!({
            "title": self.title(),
            "by": self.grain.as_str(),
            "rolling": self.rolling.map(|rolling| rolling.to_string()),
            "zone": self.calendar().zone.name(),
            "week": self.calendar().week.as_str(),
            "breakdown": self.breakdown.as_ref().map(|breakdown| json!({
                "event": breakdown.segment.to_string(),
                "values": breakdown.values.to_string(),
                "grouped": match breakdown.basis {
                    Basis::KnownToday => Basis::KnownToday.as_str(),
                    _ => "known_by_period",
                },
                "people": breakdown.people,
                "people_of_groups": breakdown.people_of_groups,
                "empty_values": breakdown.empty_values,
            })),
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
        let is_empty = |series: &Series| {
            let mut points = series.points.iter();
            points.all(|point| {
                point.people.is_none_or(|people| people == 0) || point.state == State::NotRecorded
            })
        };
        let asked = self.asked();
        if self.breakdown.is_some() {
            let is_empty = self.series.iter().all(is_empty);
            return asked.into_iter().filter(|_| is_empty).collect();
        }
        let series = self.series.iter().zip(asked);
        let empty = series.filter(|(series, _)| is_empty(series));
        empty.map(|(_, segment)| segment).collect()
    }

    /// Whether any segment has only zeros.
    fn is_empty(&self) -> bool {
        !self.segments().is_empty()
    }
}
