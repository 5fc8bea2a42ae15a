//! The files of a retention table.

use crate::calendar::Calendar;
use crate::reports::coverage::State;
use crate::reports::export::{Chart, Exports};
use crate::reports::frame::{Column, Frame, Value, bounds};
use crate::reports::retention::benchmarks::Benchmarks;
use crate::reports::retention::columns::Brackets;
use crate::reports::retention::json::TableJson;
use crate::reports::retention::query::{Measure, Show};
use crate::reports::retention::table::{Cell, Number, Table};
use crate::sets::Segment;

/// A table with what its cells show.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The table.
    pub table: Table,
    /// What the cells of the wide table show.
    pub show: Show,
    /// What the chart shows beside the curve.
    pub benchmarks: Benchmarks,
}

impl Exports for Shown {
    fn grid(&self) -> Option<(&Table, Show)> {
        Some((&self.table, self.show))
    }

    fn title(&self) -> String {
        self.table.title()
    }

    /// `retention_signup_active_day_2026-11-10`, the date being the first cohort's.
    fn name(&self) -> Vec<String> {
        let query = &self.table.query;
        let first = self.table.rows.first();
        let first = first.map_or(self.table.current, |row| row.period);
        let mut parts = vec!["retention".to_owned()];
        parts.extend([query.cohort.to_string(), query.returning.to_string()]);
        parts.push(query.grain.to_string());
        let brackets = query.brackets.iter().flat_map(Brackets::columns);
        parts.extend(brackets.map(ToString::to_string));
        if query.measure != Measure::On {
            parts.push(query.measure.as_str().to_owned());
        }
        parts.push(first.to_string());
        parts
    }

    /// Returns one cohort per row and one period or bracket per column, oldest cohort first. Cells
    /// that are in the future, not recorded or of an empty cohort are empty. So are shares of the
    /// previous column where that column is empty, nobody is left in it, or it is a lower bound. A
    /// partly recorded number looks like any other; only the tidy table marks lower bounds.
    fn calendar(&self) -> Calendar {
        self.table.query.calendar()
    }

    fn wide(&self) -> Frame {
        let columns = ["cohort".into(), "size".into()];
        let query = &self.table.query;
        let numbered = query
            .columns()
            .map(|column| Column::Text(column.to_string()));
        let mut frame = Frame::new(columns.into_iter().chain(numbered));
        for row in &self.table.rows {
            let mut values = vec![Value::Word(row.period.label()), row.size.into()];
            let shown = |(place, cell): (usize, &Cell)| match (cell.number(), self.show) {
                (None, _) => Value::Empty,
                (Some(number), Show::Percent) => Value::Share(number.rate()),
                (Some(number), Show::Count) => Value::Count(number.retained),
                (Some(_), Show::Previous) => {
                    let share = self.table.of_previous(row, place);
                    share.map_or(Value::Empty, Value::Share)
                }
            };
            values.extend(row.cells.iter().enumerate().map(shown));
            frame.push(values);
        }
        frame
    }

    /// Returns a row for each cell that is not in the future. Dates are ISO 8601 with exclusive
    /// ends. The rate is unrounded, 0–1. The state is `complete`, `in_progress`, `partly_recorded`
    /// (the number is a lower bound) or `not_recorded` (there is no number, and no size if the
    /// cohort is not recorded). The cohort's state may also be `not_recorded_before`: everybody
    /// looks new, because nothing is recorded before it. A bracket has its text as index, and start
    /// and end of all its periods. The group is empty.
    fn tidy(&self) -> Frame {
        let mut frame = Frame::new([
            "cohort_start",
            "cohort_end",
            "cohort_size",
            "period_index",
            "period_start",
            "period_end",
            "retained",
            "rate",
            "state",
            "cohort_state",
            "group",
        ]);
        for row in &self.table.rows {
            let [start, end] = bounds(row.period);
            for (column, cell) in self.table.query.columns().zip(&row.cells) {
                let (number, state) = match cell {
                    Cell::Blank => continue,
                    Cell::NotRecorded(_) => (None, State::NotRecorded),
                    Cell::Number(number) => (Some(number), number.state),
                };
                let [from, to] = column.iso_bounds(row.period).map(Value::Word);
                frame.push(vec![
                    start.clone(),
                    end.clone(),
                    row.size.into(),
                    Value::Word(column.to_string()),
                    from,
                    to,
                    number.map(|number| number.retained).into(),
                    number.map(Number::rate).into(),
                    Value::word(state.as_str()),
                    Value::word(row.state_word()),
                    Value::Empty,
                ]);
            }
        }
        frame
    }

    fn values(&self) -> usize {
        self.table.rows.len() * self.table.averages.len()
    }

    fn json(&self) -> String {
        let json = TableJson::from(&self.table);
        serde_json::to_string_pretty(&json).expect("a struct of texts and finite numbers is JSON")
    }

    fn chart(&self) -> Option<Chart<'_>> {
        Some(Chart::Retention(&self.table, &self.benchmarks))
    }

    fn variant(&self) -> Option<&'static str> {
        match self.show {
            Show::Percent => None,
            Show::Count => Some("count"),
            Show::Previous => Some("previous"),
        }
    }

    fn segments(&self) -> Vec<&Segment> {
        vec![&self.table.query.cohort, &self.table.query.returning]
    }

    fn is_empty(&self) -> bool {
        self.table.numbers().all(|number| number.retained == 0)
    }
}
