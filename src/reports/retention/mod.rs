//! Cohort retention: of the users who did A in a period, how many did B in each later one?
//!
//! [`Query`] is the question, [`Question`] the question with its cohorts fixed, [`Table`] the
//! answer.

mod benchmarks;
mod columns;
mod export;
pub mod figures;
mod json;
mod params;
mod plan;
mod query;
mod table;

pub use crate::reports::coverage::State;
pub use crate::reports::limits::{MAX_CELLS, MAX_COLS, MAX_ROWS};
pub use benchmarks::Benchmarks;
pub use columns::{Brackets, BracketsError, Column};
pub use export::Shown;
pub use json::{AverageJson, QueryJson, RowJson, TableJson};
pub use params::{FIELDS, Parts};
pub use plan::Question;
pub(in crate::reports) use plan::{Members, Planner};
pub use query::{
    Averaging, Measure, PreviousRange, Query, Show, Window, default_size, preposition,
};
pub(in crate::reports) use table::are_independent;
pub use table::{Average, Cell, FEWEST_AT_RISK, FEWEST_PEOPLE, Number, Row, Table};
