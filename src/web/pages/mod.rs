//! The pages: a file each, with its handler and the struct of its template.

pub mod event;
pub mod events;
mod form;
mod grid;
pub mod health;
pub mod home;
pub mod people;
pub mod retention;
pub mod user;

use crate::sets::EventName;
use crate::store::StoreInfo;
use crate::web::assets;

/// What stands around every page: assets, and where the numbers come from.
#[derive(Debug)]
pub struct Shell {
    /// The store in few words, and where it is.
    pub source: Option<(String, String)>,
}

impl Shell {
    /// Without a word on the store, for pages that must not ask it.
    pub fn bare() -> Self {
        Shell { source: None }
    }

    /// With the store it reads.
    pub fn new(store: &StoreInfo, events: &[EventName]) -> Self {
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let source = format!("{} · {}", store.kind, crate::render::many(count, "event"));
        Shell { source: Some((source, store.location.clone())) }
    }

    /// The stylesheet's address.
    pub fn style(&self) -> &'static str {
        &assets::STYLE.path
    }

    /// The script's address.
    pub fn script(&self) -> &'static str {
        &assets::SCRIPT.path
    }

    /// The icon's address.
    pub fn icon(&self) -> &'static str {
        &assets::ICON.path
    }
}
