//! What a chart shows beside the curve of a table.

use crate::reports::retention::table::Table;

/// What a curve is read against.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Benchmarks {
    /// A share in percent.
    pub goal: Option<u32>,
    /// The same question, of as many cohorts just before.
    pub previous: Option<Table>,
}
