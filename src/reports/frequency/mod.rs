//! On how many of some consecutive days or weeks users were in a segment.

mod export;
mod habits;
mod plan;
mod window;

pub use habits::{Curve, Habits};
pub use plan::{Frequency, FrequencyQuestion};
pub use window::{MAX_WINDOW, Window};
