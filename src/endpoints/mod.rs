//! Reports by name: each is a page with files, a command, and an API route.
//!
//! Each file here connects one report to the fields of its question. Routes, commands, the API and
//! its description are all generated from [`ALL`].

mod endpoint;
mod events;
mod frequency;
mod lifecycle;
mod people;
mod range;
mod retention;
mod trends;
mod user;

pub use endpoint::{Answer, AnswerError, Description, Endpoint};

/// Every report, in the order of help and documentation.
pub static ALL: &[&dyn Endpoint] = &[
    &retention::Retention,
    &lifecycle::LIFECYCLE,
    &frequency::FREQUENCY,
    &trends::TRENDS,
    &events::Events,
    &people::People,
    &user::User,
];

/// Returns the endpoint with this name.
pub fn by_name(name: &str) -> Option<&'static dyn Endpoint> {
    ALL.iter().copied().find(|endpoint| endpoint.name() == name)
}
