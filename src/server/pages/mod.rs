//! The pages: one file each, with its handler and the struct of its template.

pub mod autocomplete;
pub mod event;
pub mod events;
mod form;
mod grid;
mod groups;
pub mod health;
pub mod home;
mod links;
pub mod metrics;
mod notices;
pub mod people;
pub mod report;
pub mod retention;
pub mod segments;
mod set_notices;
pub mod static_files;
mod switches;
pub mod user;
mod welcome;
