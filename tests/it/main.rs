//! One binary for all integration tests: real parts, found or named as missing, never skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod architecture;
mod browser;
mod embedded;
mod golden;
mod http;
mod pure;
mod support;
mod support_web;
