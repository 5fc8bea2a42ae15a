//! What the tests stand on.

pub mod model;
pub mod redis;
