//! What files and pages show of an answer besides its table: figures, charts and notes.

use crate::render::{chart, frequency, lifecycle, trends};
use crate::reports::Chart;

/// One figure above the charts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The number. `None` if there is none.
    pub value: Option<String>,
    /// What it is.
    pub label: String,
    /// What it is based on, or why there is none.
    pub note: String,
}

/// A chart on a page, in two widths: `<svg>` elements. The page provides styles and fonts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    /// The heading.
    pub caption: String,
    /// How to read it.
    pub detail: String,
    /// The chart.
    pub svg: String,
    /// The chart for a narrow page.
    pub small: String,
    /// Whether it takes the whole width.
    pub is_wide: bool,
}

/// Renders a standalone SVG file.
pub fn file(drawn: Chart<'_>) -> String {
    match drawn {
        Chart::Retention(table) => chart::file(table),
        Chart::Trends(lines) => trends::file(lines),
        Chart::Lifecycle(growth) => lifecycle::file(growth),
        Chart::Frequency(habits) => frequency::file(habits),
    }
}

/// Renders the charts of a page.
pub fn drawings(drawn: Chart<'_>) -> Vec<Drawing> {
    match drawn {
        // It has a page of its own.
        Chart::Retention(_) => Vec::new(),
        Chart::Trends(lines) => trends::drawings(lines),
        Chart::Lifecycle(growth) => lifecycle::drawings(growth),
        Chart::Frequency(habits) => frequency::drawings(habits),
    }
}

/// Returns the figures above the charts.
pub fn figures(drawn: Chart<'_>) -> Vec<Figure> {
    match drawn {
        Chart::Retention(_) => Vec::new(),
        Chart::Trends(lines) => trends::figures(lines),
        Chart::Lifecycle(growth) => lifecycle::figures(growth),
        Chart::Frequency(habits) => frequency::figures(habits),
    }
}

/// Returns what a reader of the table has to know.
pub fn notes(drawn: Chart<'_>) -> Vec<String> {
    match drawn {
        Chart::Retention(_) => Vec::new(),
        Chart::Trends(lines) => trends::notes(lines),
        Chart::Lifecycle(growth) => lifecycle::notes(growth),
        Chart::Frequency(habits) => frequency::notes(habits),
    }
}
