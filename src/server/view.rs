//! The context of one request: the state of its store, its own address, and the layout of its page.

use std::sync::Arc;

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;

use crate::calendar::{Calendar, Zone};
use crate::render::words;
use crate::server::error::WebError;
use crate::server::query::unknown;
use crate::server::{Layout, Live, NamedStore, State, StoreLink, TITLE, live};
use crate::sets::{EventName, Prefix};
use crate::store::StoreInfo;

/// The context of one request: the state of its store, and its own address.
#[derive(Debug, Clone)]
pub struct View {
    state: Arc<State>,
    /// Path and query as sent, without the store's part.
    pub(super) here: String,
    /// The host and the port at which the client reached this server.
    pub(super) host: String,
    /// The state that all requests share. `None` in tests without a server.
    pub(super) live: Option<Live>,
}

/// Returns path and query of a request as sent, without the store's part.
pub(super) fn here(request: &HttpRequest) -> String {
    let path = without_store(state_and_path(request).1);
    // A path that starts with two slashes would be the name of another host.
    let path = if path.starts_with("//") { "/" } else { path };
    let query = request
        .uri()
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    format!("{path}{query}")
}

/// Returns the host and the port of a request, for commands that a page shows.
fn host(request: &HttpRequest) -> String {
    let connection = request.connection_info();
    let host = connection.host();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    match !host.is_empty() && host.chars().all(is_plain) {
        true => host.to_owned(),
        false => "127.0.0.1:8080".to_owned(),
    }
}

/// Returns the last part of a request's path as sent: escaped slashes belong to it.
pub(super) fn last_part(request: &HttpRequest) -> &str {
    let path = request.uri().path();
    path.rsplit('/')
        .next()
        .expect("rsplit returns at least one part")
}

/// Returns a part of a path without escapes.
pub(super) fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// Removes the part of an unknown store from a path. The rest is the same for every store.
pub(super) fn without_store(path: &str) -> &str {
    match path
        .strip_prefix("/in/")
        .map(|rest| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"))
    {
        Some(rest) => without_store(rest),
        None => path,
    }
}

impl View {
    pub(super) fn of(request: &HttpRequest) -> Result<Self, WebError> {
        let (state, _) = state_and_path(request);
        Ok(View {
            state: state.ok_or(WebError::NotFound)?,
            here: here(request),
            host: host(request),
            live: request.app_data::<Live>().cloned(),
        })
    }

    /// Refuses parameters that the address does not understand. For programs: a number that answers
    /// another question than the one that was asked is worse than none.
    pub(super) fn known_parameters_only(&self) -> Result<(), WebError> {
        match unknown(&self.here) {
            unknown if unknown.is_empty() => Ok(()),
            unknown => Err(WebError::Address(unknown.join("; "))),
        }
    }

    /// Returns the query string as sent.
    pub(super) fn query(&self) -> &str {
        self.here.split_once('?').map_or("", |(_, query)| query)
    }
}

impl std::ops::Deref for View {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// Returns the state of a request, and its path without the store's part.
pub(super) fn state_and_path(request: &HttpRequest) -> (Option<Arc<State>>, &str) {
    let state = live::state(request);
    let path = request.path();
    let rest = state
        .as_ref()
        .and_then(|state| path.strip_prefix(state.base.as_str()))
        .unwrap_or(path);
    (state, rest)
}

impl Layout {
    /// Returns a layout without information on the store, for pages that must not read it.
    pub fn bare(state: Option<&State>, here: &str) -> Self {
        let (title, base) =
            state.map_or((TITLE, ""), |state| (&state.dashboard.title, &state.base));
        Layout {
            here: format!("{base}{here}"),
            title: title.to_owned(),
            base: base.to_owned(),
            source: None,
            numbers: true,
            stores: state
                .map(|state| store_links(state, here))
                .unwrap_or_default(),
            notes: ignored(here),
            calendar: Calendar::default(),
            kept_in: Zone::UTC,
        }
    }

    /// Returns a layout with information on the store. It includes the number of events if `events`
    /// is given.
    pub fn new(view: &View, store: &StoreInfo, events: Option<&[EventName]>) -> Self {
        let source = match events {
            Some(events) => {
                let count = u64::try_from(events.len()).expect("a count fits in 64 bits");
                format!("{} · {}", store.kind, crate::render::many(count, "event"))
            }
            None => store.kind.clone(),
        };
        let source = Some((source, store.location.clone()));
        let numbers = !store.string_ids;
        let mut notes = ignored(&view.here);
        if events.is_some() {
            notes.extend(store_notes(view, &store.prefix));
        }
        Layout {
            source,
            numbers,
            notes,
            kept_in: view.own_zone(),
            ..Layout::bare(Some(view), &view.here)
        }
    }
}

/// Names the parameters of an address that are ignored because it does not understand them.
fn ignored(here: &str) -> Vec<String> {
    unknown(here)
        .iter()
        .map(|sentence| {
            let end = if sentence.ends_with('?') { "" } else { "." };
            format!("Ignored: {}{end}", words::curly(sentence))
        })
        .collect()
}

/// Explains missing data: a wrong prefix, or keys that are not read. An unreachable store is
/// reported by the page itself.
fn store_notes(view: &View, prefix: &Prefix) -> Vec<String> {
    let tracker = &view.tracker;
    let Ok((others, all)) = tracker.other_prefixes(prefix).and_then(|others| {
        let all = tracker.catalogue()?;
        Ok((others, all))
    }) else {
        return Vec::new();
    };
    let unparsed = tracker.unparsed_keys();
    let note = (unparsed.count > 0 && all.is_empty())
        .then(|| words::unparsed_keys(prefix.as_str(), unparsed.count, &unparsed.example));
    words::other_prefixes(prefix.as_str(), &others.found, others.complete)
        .into_iter()
        .chain(note)
        .map(|note| format!("{}.", words::curly(&note)))
        .collect()
}

fn store_links(state: &State, here: &str) -> Vec<StoreLink> {
    let stores = &state.dashboard.stores;
    let several = stores.len() > 1;
    let link = |(i, store): (usize, &NamedStore)| StoreLink {
        name: store.name.clone(),
        href: format!("{}{here}", state.dashboard.base(i)),
        here: i == state.index,
    };
    stores
        .iter()
        .enumerate()
        .filter(|_| several)
        .map(link)
        .collect()
}
