//! What the tests stand on.

pub mod model;
pub mod redis;
pub mod stores;
