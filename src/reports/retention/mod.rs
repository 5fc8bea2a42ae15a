//! Cohort retention: of the users who did A in a period, how many did B in each later one?
//!
//! [`Query`] is the question, [`Question`] the question with its cohorts fixed, [`Table`] the
//! answer.

mod export;
pub mod figures;
mod plan;
mod query;
mod table;

pub use crate::reports::coverage::State;
pub use crate::reports::limits::{MAX_CELLS, MAX_COLS, MAX_ROWS};
pub use plan::{Question, clamped_counts};
pub use query::{Averaging, Measure, Query, Window, default_size};
pub use table::{Average, Cell, Number, Row, Table};
