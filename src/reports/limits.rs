//! How large an answer may be.

/// The most cohorts a table may have.
pub const MAX_ROWS: u32 = 400;
/// The most columns a table may have.
pub const MAX_COLS: u32 = 400;
/// The most cells (rows × columns) a table may have.
pub const MAX_CELLS: u32 = 20_000;

/// The most periods a trend may have.
pub const MAX_PERIODS: u32 = 400;
