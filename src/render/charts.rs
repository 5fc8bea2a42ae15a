//! Renders the chart of any answer as a file or as part of a page.

use crate::render::{chart, trend};
use crate::reports::Chart;

/// Renders a standalone SVG file.
pub fn file(drawn: Chart<'_>) -> String {
    match drawn {
        Chart::Retention(table) => chart::file(table),
        Chart::Trend(activity) => trend::file(activity),
    }
}

/// Renders an `<svg>` element for a page, which provides styles and fonts.
pub fn inline(drawn: Chart<'_>) -> String {
    match drawn {
        Chart::Retention(table) => chart::curve(table),
        Chart::Trend(activity) => trend::people(activity),
    }
}
