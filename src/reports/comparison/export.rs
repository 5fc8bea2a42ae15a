//! The files of a comparison.

use crate::reports::comparison::answer::{Compared, Group};
use crate::reports::comparison::difference::{Difference, Verdict};
use crate::reports::comparison::json::ComparedJson;
use crate::reports::export::{Chart, Exports};
use crate::reports::frame::{Column, Frame, Value};
use crate::reports::retention::{Average, Benchmarks, Show, Shown, Table};
use crate::sets::Segment;

/// A comparison with what its cells show.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownGroups {
    /// The comparison.
    pub compared: Compared,
    /// What the cells of the wide table show.
    pub show: Show,
    /// A share in percent that the chart shows as a line.
    pub goal: Option<u32>,
}

impl ShownGroups {
    /// Returns the rows of the groups' tables under each other. `frame` makes a group's table, and
    /// `name` places the group's name in a row.
    fn joined(
        &self,
        frame: impl Fn(&Shown) -> Frame,
        name: impl Fn(&Group, &mut Vec<Value>),
    ) -> Frame {
        let mut joined: Option<Frame> = None;
        for group in &self.compared.groups {
            let shown = Shown {
                table: group.table.clone(),
                show: self.show,
                benchmarks: Benchmarks::default(),
            };
            let mut own = frame(&shown);
            own.rows.iter_mut().for_each(|row| name(group, row));
            match &mut joined {
                Some(joined) => joined.rows.append(&mut own.rows),
                None => joined = Some(own),
            }
        }
        joined.expect("a comparison has at least one group")
    }

    /// Adds the difference of a group, its interval, and whether it could be chance.
    fn push_differences(&self, frame: &mut Frame, group: usize) {
        let compared = &self.compared;
        let differences: Vec<_> = compared.differences_of(group).collect();
        let Some(first) = differences.first() else {
            return;
        };
        let name = |at: usize| compared.groups[at].kind.name();
        let heading = format!("  {} − {}, points", name(first.of), name(first.minus));
        let row = |heading: String, text: &dyn Fn(&Difference) -> Option<String>| {
            let mut row = vec![Value::Text(heading), Value::Empty];
            row.extend(std::iter::repeat_n(Value::Empty, frame.columns.len() - 2));
            for difference in &differences {
                row[difference.column + 2] = text(difference).map(Value::Word).into();
            }
            row
        };
        let points = row(heading, &Difference::points);
        let interval = row("  95 % interval".to_owned(), &Difference::interval_points);
        let verdict = row("  chance".to_owned(), &|difference| {
            difference.verdict().map(|verdict| match verdict {
                Verdict::Unlikely => "unlikely".to_owned(),
                Verdict::Could => "could be".to_owned(),
            })
        });
        for row in [points, interval, verdict] {
            frame.push(row);
        }
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.compared.groups.iter().map(|group| &group.table)
    }
}

impl Exports for ShownGroups {
    fn title(&self) -> String {
        self.compared.title()
    }

    /// `retention_signup_active_day_2026-11-10_by_country`, as the plain table's with the groups.
    fn name(&self) -> Vec<String> {
        let compared = &self.compared;
        let shown = Shown {
            table: Table {
                query: compared.query.clone(),
                ..compared.groups[0].table.clone()
            },
            show: self.show,
            benchmarks: Benchmarks::default(),
        };
        let mut parts = shown.name();
        parts.push(compared.grouping.field().to_owned());
        parts.extend(compared.grouping.values());
        parts
    }

    /// Returns one group and cohort per row and one period or bracket per column, as the wide table
    /// of a single question has them, with the group's name in the first column.
    fn wide(&self) -> Frame {
        let mut frame = self.joined(Shown::wide, |group, row| {
            row.insert(0, Value::Text(group.kind.name()));
        });
        frame.columns.insert(0, "group".into());
        frame
    }

    /// Returns the average row of each group, and below each but the first its difference.
    fn summary(&self) -> Frame {
        let compared = &self.compared;
        let columns = compared.query.columns();
        let fixed = ["group".into(), "people".into()];
        let headings = columns.map(|column| Column::Text(column.label()));
        let mut frame = Frame::new(fixed.into_iter().chain(headings));
        for (at, group) in compared.groups.iter().enumerate() {
            let mut row = vec![Value::Text(group.kind.name()), group.table.people.into()];
            let shown = |(place, average): (usize, &Option<Average>)| match self.show {
                Show::Previous => group.table.all_of_previous(place).map(|(rate, _)| rate),
                Show::Percent | Show::Count => average.map(|average| average.rate),
            };
            let averages = group.table.averages.iter().enumerate();
            row.extend(averages.map(|average| shown(average).map(Value::Share).into()));
            frame.push(row);
            if at > 0 {
                self.push_differences(&mut frame, at);
            }
        }
        frame
    }

    /// Returns the rows of each group's table, with the group's name.
    fn tidy(&self) -> Frame {
        self.joined(Shown::tidy, |group, row| {
            *row.last_mut().expect("the group is the last column") = Value::Text(group.kind.name());
        })
    }

    fn values(&self) -> usize {
        let values = self
            .tables()
            .map(|table| table.rows.len() * table.averages.len());
        values.sum()
    }

    fn is_by_period(&self) -> bool {
        false
    }

    fn json(&self) -> String {
        let json = ComparedJson::from(&self.compared);
        serde_json::to_string_pretty(&json).expect("a struct of texts and finite numbers is JSON")
    }

    fn may_include_later_marks(&self) -> bool {
        self.tables().any(|table| table.recorded.later)
    }

    fn chart(&self) -> Option<Chart<'_>> {
        Some(Chart::Comparison(&self.compared, self.goal))
    }

    fn variant(&self) -> Option<&'static str> {
        Shown {
            table: self.compared.groups[0].table.clone(),
            show: self.show,
            benchmarks: Benchmarks::default(),
        }
        .variant()
    }

    fn segments(&self) -> Vec<&Segment> {
        let query = &self.compared.query;
        let mut segments = vec![&query.cohort, &query.returning];
        segments.extend(self.compared.grouping.segments());
        segments
    }

    fn is_empty(&self) -> bool {
        self.tables()
            .all(|table| table.numbers().all(|number| number.retained == 0))
    }
}
