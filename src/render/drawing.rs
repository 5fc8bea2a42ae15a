//! The parts of a page about an answer: figures and charts.

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
