//! The areas of a chart that answer the pointer.

use std::fmt::Write as _;

use crate::render::chart::{Canvas, coord, escaped};

/// What a chart says about one of its columns.
pub(in crate::render) struct Hit {
    /// The column or row of the page's table with the same numbers, such as `2026-11-16`.
    pub at: String,
    /// The first line names the column, the others are rows. ` · ` separates their parts.
    pub text: String,
}

/// Where the columns of a chart are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::render) enum Columns {
    /// Side by side, as wide as the chart.
    Bars,
    /// Points of a line from the left end of the chart to the right one.
    Points,
}

/// Returns invisible areas over the columns of a chart, each with a text for the pointer. The page's
/// script shows the text, and finds the table's row or column by `data-at`.
pub(in crate::render) fn hits(
    canvas: &Canvas,
    columns: Columns,
    keys: &[&str],
    hits: impl IntoIterator<Item = Hit>,
) -> String {
    let hits: Vec<Hit> = hits.into_iter().collect();
    let count = match columns {
        Columns::Bars => hits.len().max(1),
        Columns::Points => hits.len().saturating_sub(1).max(1),
    };
    let step = f64::from(canvas.right - canvas.left) / coord(count);
    let (top, height) = (canvas.top, canvas.bottom - canvas.top);
    let keys = match keys {
        [] => String::new(),
        keys => format!(r#" data-keys="{}""#, keys.join(" ")),
    };
    let mut out = format!(r#"<g class="hits" fill="none" pointer-events="all"{keys}>"#);
    for (column, Hit { at, text }) in hits.into_iter().enumerate() {
        let start = f64::from(canvas.left) + coord(column) * step;
        let (middle, start) = match columns {
            Columns::Bars => (start + step / 2.0, start),
            Columns::Points => (start, start - step / 2.0),
        };
        let x = start.max(0.0);
        let width = (start + step).min(f64::from(canvas.width)) - x;
        let (at, text) = (escaped(&at), escaped(&text));
        let _ = write!(
            out,
            r#"<rect data-at="{at}" data-x="{middle:.0}" x="{x:.0}" y="{top}" width="{width:.0}" height="{height}"><title>{text}</title></rect>"#
        );
    }
    out.push_str("</g>");
    out
}
