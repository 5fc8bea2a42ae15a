//! What files and pages show of an answer besides its table: figures, charts and notes.

use crate::calendar::Period;
use crate::render::{chart, comparison, frequency, groups, lifecycle, png, trends};
use crate::reports::Chart;

pub use crate::render::drawing::{Drawing, Figure};

/// Renders a standalone SVG file, with title and dates.
pub fn file(drawn: Chart<'_>) -> String {
    match drawn {
        Chart::Retention(table, benchmarks) => chart::file(table, benchmarks),
        Chart::Comparison(compared, goal) => comparison::file(compared, goal),
        Chart::Trends(lines) => trends::file(lines),
        Chart::Lifecycle(growth) => lifecycle::file(growth),
        Chart::Frequency(habits) => frequency::file(habits),
    }
}

/// Renders the same picture as a PNG file, with two pixels for each pixel of a page.
pub fn picture(drawn: Chart<'_>) -> Vec<u8> {
    png::of_svg(&file(drawn))
}

/// What a chart calls one of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartColumn {
    /// The `data-at` of its marks.
    pub at: String,
    /// Its period, if it is one.
    pub period: Option<Period>,
}

/// Returns the columns of the chart of a page, in the order of the rows of its wide table.
pub fn columns(drawn: Chart<'_>) -> Vec<ChartColumn> {
    let of = |period: Period| ChartColumn {
        at: period.to_string(),
        period: Some(period),
    };
    match drawn {
        Chart::Retention(..) | Chart::Comparison(..) => Vec::new(),
        Chart::Trends(lines) => lines.periods().map(of).collect(),
        Chart::Lifecycle(growth) => growth.stages.iter().map(|stage| of(stage.period)).collect(),
        Chart::Frequency(habits) => (1..=habits.window.length())
            .map(|count| ChartColumn {
                at: count.to_string(),
                period: None,
            })
            .collect(),
    }
}

/// Renders the charts of a page.
pub fn drawings(drawn: Chart<'_>) -> Vec<Drawing> {
    match drawn {
        // They have a page of their own.
        Chart::Retention(..) | Chart::Comparison(..) => Vec::new(),
        Chart::Trends(lines) => trends::drawings(lines),
        Chart::Lifecycle(growth) => lifecycle::drawings(growth),
        Chart::Frequency(habits) => frequency::drawings(habits),
    }
}

/// Returns the figures above the charts.
pub fn figures(drawn: Chart<'_>) -> Vec<Figure> {
    match drawn {
        Chart::Retention(..) | Chart::Comparison(..) => Vec::new(),
        Chart::Trends(lines) => trends::figures(lines),
        Chart::Lifecycle(growth) => lifecycle::figures(growth),
        Chart::Frequency(habits) => frequency::figures(habits),
    }
}

/// Returns what a reader of the table has to know.
pub fn notes(drawn: Chart<'_>) -> Vec<String> {
    match drawn {
        Chart::Retention(..) => Vec::new(),
        Chart::Comparison(compared, _) => groups::notes(compared),
        Chart::Trends(lines) => trends::notes(lines),
        Chart::Lifecycle(growth) => lifecycle::notes(growth),
        Chart::Frequency(habits) => frequency::notes(habits),
    }
}
