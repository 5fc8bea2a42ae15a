//! The lifecycle of a segment: its new, returning, resurrected and dormant users, period by period.

mod export;
mod growth;
mod plan;

pub use growth::{Class, Classes, Growth, QuickRatio, Stage};
pub use plan::{Lifecycle, LifecycleQuestion};
