//! The reports that are reached by name: as a page and its files, as a command, and in the API.
//!
//! Each file here connects one report to the fields of its question. [`ALL`] is the one list that
//! routes, commands, the API and its description are made from.

mod endpoint;
mod events;
mod people;
mod retention;
mod trend;
mod user;

pub use endpoint::{Answer, AnswerError, Endpoint};

/// Every report, in the order of help and documentation.
pub static ALL: &[&dyn Endpoint] = &[
    &retention::Retention,
    &trend::Trend,
    &events::Events,
    &people::People,
    &user::User,
];

/// The endpoint of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Endpoint> {
    ALL.iter().copied().find(|endpoint| endpoint.name() == name)
}
