//! How many users are in one or several segments, period by period or in rolling windows of days.

mod export;
mod lines;
mod plan;
mod rolling;

pub use lines::{Lines, Point, Series};
pub use plan::{MAX_SERIES, Trends, TrendsQuestion};
pub use rolling::Rolling;
