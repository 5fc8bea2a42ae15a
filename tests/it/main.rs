//! Everything that is tested from outside, in one binary: real parts, found or named as missing, never skipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    missing_docs
)]

mod architecture;
mod bitmapist;
mod browser;
mod cli;
mod embedded;
mod events;
mod golden;
mod http;
mod people;
mod pure;
mod redis_store;
mod store_contract;
mod support;
mod tracker;
