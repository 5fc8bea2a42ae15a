//! Size limits of answers.

/// The maximum number of cohorts of a table.
pub const MAX_ROWS: u32 = 400;
/// The maximum number of columns of a table.
pub const MAX_COLS: u32 = 400;
/// The maximum number of cells (rows × columns) of a table.
pub const MAX_CELLS: u32 = 20_000;

/// The maximum number of periods of a trend.
pub const MAX_PERIODS: u32 = 400;
