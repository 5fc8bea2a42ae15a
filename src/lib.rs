//! Cohort retention from bitmaps.

pub mod calendar;
pub mod sets;
pub mod store;
