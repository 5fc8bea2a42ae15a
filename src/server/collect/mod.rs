//! The HTTP APIs that analytics libraries speak, so that an application records marks by changing
//! one host name: `cohortist serve --collect`.
//!
//! ```text
//! routes → handler (origin, key, memory, time) → segment │ posthog │ mixpanel │ amplitude (a body to events)
//!   → writer (events to marks, all in one batch) → the answer in the form of the library
//! ```
//!
//! A protocol is a pure parser of a body, and the form of its answers. Everything else is the same
//! for all.

mod amplitude;
mod call;
mod cors;
mod describe;
mod event;
mod handler;
mod mixpanel;
mod posthog;
mod recent;
mod segment;
mod settings;
mod unpack;
mod values;
mod writer;

pub use call::{ROUTES, read_as_all};
pub use describe::paths;
pub use event::{Bad, Event, Parsed, Wanted};
pub use handler::handle;
pub use recent::RecentNames;
pub use settings::{Collect, Origin};
