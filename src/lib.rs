//! Cohort retention from bitmaps.

pub mod bitmap;
pub mod calendar;
pub mod clock;
pub mod render;
pub mod reports;
pub mod sets;
pub mod store;
mod tracker;
pub mod web;

pub use tracker::{Batch, Error, Extent, Members, Result, Systems, Tracker};
