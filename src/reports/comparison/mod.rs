//! Retention of several groups beside each other: by the values of a property, by segments, or
//! before and after a date.
//!
//! [`Grouping`] says what the groups are, [`Comparison`] is the question, [`Compared`] the answer.

mod answer;
mod difference;
mod export;
mod grouping;
mod json;
mod plan;
mod values;

pub use answer::{Basis, Compared, Group, GroupKind};
pub use difference::{Difference, Method, NoTest, Test, Verdict};
pub use export::ShownGroups;
pub use grouping::{BREAKDOWN, Grouping, MAX_SEGMENTS, Values};
pub use plan::{Comparison, ComparisonQuestion};
pub(in crate::reports) use values::KnownValues;
pub use values::SHOWN_VALUES;
