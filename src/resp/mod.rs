//! A listener that speaks Redis' protocol over an embedded store, so that bitmapist's clients,
//! unchanged, use it where they used Redis or bitmapist-server.
//!
//! ```text
//! socket ─▶ request (bytes → arguments) ─▶ session (pipelines, MULTI) ─▶ client (password, INFO) ─▶ command (arguments → ReadTxn or WriteTxn) ─▶ reply
//! ```
//!
//! Each connection has a thread; the store is synchronous. SETBITs that arrive together, as in a
//! pipeline or between MULTI and EXEC, are one frame of the log and one visit to each bitmap.
//! Replies hold pieces of bitmaps and not their bytes: GET of a key whose only bit is the last of
//! 2³² writes 512 MB and holds one tile.

mod bits;
mod call;
mod client;
mod command;
pub mod glob;
mod listener;
mod reply;
pub mod request;
mod session;
mod shared;

pub use listener::{CONNECTIONS, Listener, Listening};
pub use shared::Settings;
