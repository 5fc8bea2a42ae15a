//! The chart of any answer, as a file or as a part of a page.

use crate::render::{chart, trend};
use crate::reports::Chart;

/// An SVG file.
pub fn file(drawn: Chart<'_>) -> String {
    match drawn {
        Chart::Retention(table) => chart::file(table),
        Chart::Trend(activity) => trend::file(activity),
    }
}

/// An `<svg>` element for a page, which has styles and fonts of its own.
pub fn inline(drawn: Chart<'_>) -> String {
    match drawn {
        Chart::Retention(table) => chart::curve(table),
        Chart::Trend(activity) => trend::people(activity),
    }
}
