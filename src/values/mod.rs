//! Reads the values that people and programs write: names, user ids and times.
//!
//! Files, the HTTP API and the commands all read with this module, so that the same text means the
//! same everywhere. It is pure: it does no I/O and reads no clock. The current year is an argument.

mod text;
mod time;
mod user;

pub use text::{clean, event_name};
pub use time::{Time, TimeError, TimeFormatError, Times, Unit};
pub use user::{NumericId, Spelling, is_nobody, numeric_id, string_id};
