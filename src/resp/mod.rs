//! A listener for Redis clients over an embedded store. bitmapist's clients can use it unchanged,
//! instead of Redis or bitmapist-server.
//!
//! ```text
//! socket ─▶ request (bytes → arguments) ─▶ session (pipelines, MULTI) ─▶ client (AUTH, INFO) ─▶ command (arguments → ReadTxn or WriteTxn) ─▶ reply
//! ```
//!
//! Each connection has a thread, because the store is synchronous. SETBITs that arrive together, in a
//! pipeline or between MULTI and EXEC, are written as one frame of the log and update each bitmap
//! once. Replies refer to parts of bitmaps and do not contain their bytes: GET of a key whose only
//! bit is the last of 2³² writes 512 MB and keeps one tile in memory.

mod access;
mod bits;
mod client;
mod command;
pub mod glob;
mod info;
mod listener;
mod reply;
pub mod request;
mod session;
mod shared;

pub use listener::{CONNECTIONS, Listener, Listening};
pub use shared::Settings;
