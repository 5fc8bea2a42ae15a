//! What the tests stand on.

pub mod bent;
pub mod browser;
pub mod cluster;
pub mod features;
pub mod model;
pub mod program;
pub mod proxy;
pub mod redis;
pub mod stores;
pub mod web;
pub mod wire;
