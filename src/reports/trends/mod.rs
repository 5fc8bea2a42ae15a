//! How many users are in one or several segments, or in the groups of a breakdown, period by period
//! or in rolling windows of days.

mod export;
mod lines;
mod plan;
mod rolling;

pub use lines::{Breakdown, Lines, Point, Series};
pub use plan::{MAX_SERIES, Trends, TrendsQuestion};
pub use rolling::Rolling;
