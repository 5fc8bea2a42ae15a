//! The formats of a report as a file.

use crate::render::{self, FileName, charts, csv};
use crate::reports::Exports;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The table that the page shows.
    Csv,
    /// One number per line.
    Tidy,
    /// One JSON object.
    Json,
    /// Only the chart.
    Svg,
    /// The chart as a picture.
    Png,
}

impl Format {
    /// All formats, in the order of their links.
    pub const ALL: [Format; 5] = [
        Format::Csv,
        Format::Tidy,
        Format::Json,
        Format::Svg,
        Format::Png,
    ];

    /// Whether it shows the chart.
    pub const fn is_chart(self) -> bool {
        matches!(self, Format::Svg | Format::Png)
    }

    /// Returns the extension in addresses and file names.
    pub const fn ending(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Tidy => "tidy.csv",
            Format::Json => "json",
            Format::Svg => "svg",
            Format::Png => "png",
        }
    }

    /// Returns the text of a link to the format.
    pub const fn label(self) -> &'static str {
        match self {
            Format::Csv => "CSV",
            Format::Tidy => "Tidy CSV",
            Format::Json => "JSON",
            Format::Svg => "SVG",
            Format::Png => "PNG",
        }
    }

    /// Returns the content type, and whether a browser saves the file or shows it.
    pub(super) const fn content(self) -> (&'static str, &'static str) {
        match self {
            Format::Csv | Format::Tidy => ("text/csv; charset=utf-8; header=present", "attachment"),
            Format::Json => ("application/json", "inline"),
            Format::Svg => ("image/svg+xml", "inline"),
            Format::Png => ("image/png", "inline"),
        }
    }
}

/// An answer in one format.
#[derive(Debug)]
pub struct File {
    /// The file name for saving.
    pub name: FileName,
    /// Its content.
    pub body: Vec<u8>,
}

impl File {
    /// Renders an answer in one format. `None` if it has no chart.
    pub fn of(export: &dyn Exports, format: Format) -> Option<Self> {
        let body = match format {
            Format::Csv => csv::frame(&export.wide()).into_bytes(),
            Format::Tidy => csv::frame(&export.tidy()).into_bytes(),
            Format::Json => format!("{}\n", export.json()).into_bytes(),
            Format::Svg => charts::file(export.chart()?).into_bytes(),
            Format::Png => charts::picture(export.chart()?),
        };
        let ending = match (format, export.variant()) {
            (Format::Csv, Some(variant)) => format!("{variant}.csv"),
            _ => format.ending().to_owned(),
        };
        let name = render::file_name(export).ending(&ending);
        Some(File { name, body })
    }
}
