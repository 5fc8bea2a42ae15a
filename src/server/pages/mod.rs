//! The pages: a file each, with its handler and the struct of its template.

pub mod autocomplete;
pub mod event;
pub mod events;
mod form;
mod grid;
pub mod health;
pub mod home;
mod notices;
pub mod people;
pub mod report;
pub mod retention;
mod set_notices;
pub mod user;
mod welcome;

use crate::render::words;
use crate::server::{State, View, assets};
use crate::sets::{EventName, Prefix};
use crate::store::StoreInfo;

/// What stands around every page: assets, and where the numbers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What the dashboard is called.
    pub title: String,
    /// What every address of this store's pages begins with: nothing, or `/in/staging`.
    pub base: String,
    /// The page's own address: path and query as they were sent.
    pub here: String,
    /// The store in few words, and where it is.
    pub source: Option<(String, String)>,
    /// Whether users are numbers, for which some keyboards have keys of their own.
    pub numbers: bool,
    /// The stores to switch between, when there are several.
    pub stores: Vec<StoreLink>,
    /// Why there may be nothing to see: a wrong prefix, and keys that are not read.
    pub notes: Vec<String>,
}

/// A store of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLink {
    /// Its name.
    pub name: String,
    /// Where the same page is for it.
    pub href: String,
    /// Whether it is the one shown.
    pub here: bool,
}

impl Layout {
    /// Without a word on the store, for pages that must not ask it.
    pub fn bare(state: Option<&State>, here: &str) -> Self {
        let (title, base) = state.map_or((crate::server::TITLE, ""), |state| {
            (&state.dashboard.title, &state.base)
        });
        Layout {
            here: format!("{base}{here}"),
            title: title.to_owned(),
            base: base.to_owned(),
            source: None,
            numbers: true,
            stores: state.map(|state| doors(state, here)).unwrap_or_default(),
            notes: Vec::new(),
        }
    }

    /// With the store it reads; how many events it has is left out where they are not known yet.
    pub fn new(view: &View, store: &StoreInfo, events: Option<&[EventName]>) -> Self {
        let source = match events {
            Some(events) => {
                let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
                format!("{} · {}", store.kind, crate::render::many(count, "event"))
            }
            None => store.kind.clone(),
        };
        let (source, numbers) = (Some((source, store.location.clone())), !store.string_ids);
        let notes = match events {
            Some(_) => notes(view, &store.prefix),
            None => Vec::new(),
        };
        Layout {
            source,
            numbers,
            notes,
            ..Layout::bare(Some(view), &view.here)
        }
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

/// Where the events are when the prefix is wrong, and which keys are not read when there are none.
/// A store that is away is reported elsewhere.
fn notes(view: &View, prefix: &Prefix) -> Vec<String> {
    let tracker = &view.tracker;
    let Ok((others, all)) = tracker.other_prefixes(prefix).and_then(|others| {
        let all = tracker.catalogue()?;
        Ok((others, all))
    }) else {
        return Vec::new();
    };
    let strays = tracker.unparsed_keys();
    let told = (strays.count > 0 && all.is_empty())
        .then(|| words::strays(prefix.as_str(), strays.count, &strays.example));
    words::other_prefixes(prefix.as_str(), &others.found, others.complete)
        .into_iter()
        .chain(told)
        .map(|note| words::curly(&note))
        .collect()
}

fn doors(state: &State, here: &str) -> Vec<StoreLink> {
    let stores = &state.dashboard.stores;
    let several = stores.len() > 1;
    let door = |(i, store): (usize, &crate::server::NamedStore)| StoreLink {
        name: store.name.clone(),
        href: format!("{}{here}", state.dashboard.base(i)),
        here: i == state.index,
    };
    stores
        .iter()
        .enumerate()
        .filter(|_| several)
        .map(door)
        .collect()
}
