//! What a dashboard shows: which stores, under which names, and what it may do.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::clock::Clock;
use crate::server::query::PageQuery;
use crate::server::{Admission, Hosts, PageCache, Proxies};
use crate::sets::EventName;

pub use crate::sets::Pattern;
use crate::store::budget::{Budget, DEFAULT_MB, Shares};
use crate::tracker::Tracker;

/// What a dashboard is called when nobody says otherwise.
pub const TITLE: &str = "cohortist";

/// From when on an answer is slow, when nobody says otherwise.
pub const SLOW: Duration = Duration::from_secs(1);

/// How many connections there may be at once when descriptors are no matter.
pub const CONNECTIONS: usize = 50_000;

/// A dashboard: its stores, and how it speaks of what is in them.
#[derive(Clone)]
pub struct Dashboard {
    /// What it is called.
    pub title: String,
    /// The stores, the default one first. Never empty.
    pub stores: Vec<NamedStore>,
    /// How events are called, grouped and hidden.
    pub glossary: Glossary,
    /// The question of the front page; the one that looks most sensible when `None`.
    pub question: Option<PageQuery>,
    /// As of when.
    pub clock: Clock,
    /// What `POST /api/v1/marks` asks for; marks over HTTP are off without it.
    pub write_token: Option<String>,
    /// The cache of rendered pages. Only used for stores that cache counts.
    pub page_cache: PageCache,
    /// Answers that take the server this long are logged with their address; none are when it is
    /// zero.
    pub slow: Duration,
    /// The names it answers to, beside `localhost` and IP addresses.
    pub hosts: Hosts,
    /// The proxies whose word on a client's address is taken.
    pub proxies: Proxies,
    /// Who is answered when.
    pub admission: Admission,
    /// What bodies that are being read may take, shared with whatever else clients send. Answers
    /// that clients have not read yet may take a [third as much](Shares::answers_of) beside it.
    pub memory: Budget,
    /// How many connections there may be at once; more wait to be accepted.
    pub connections: usize,
}

/// Without the token, which is nobody's business.
impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("title", &self.title)
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

/// A store of a dashboard.
#[derive(Debug, Clone)]
pub struct NamedStore {
    /// Its name, which also stands in addresses: ASCII letters, digits, `-` and `_`.
    pub name: String,
    /// Whose numbers are shown, with the saved segments.
    pub tracker: Tracker,
    /// Whether its pages may not write to it.
    pub read_only: bool,
}

impl Dashboard {
    /// One store, everything else by default: pages may save people as a segment.
    pub fn new(tracker: Tracker, clock: Clock) -> Self {
        let store = NamedStore {
            name: "store".to_owned(),
            tracker,
            read_only: false,
        };
        Dashboard {
            title: TITLE.to_owned(),
            stores: vec![store],
            glossary: Glossary::default(),
            question: None,
            clock,
            write_token: None,
            page_cache: PageCache::default(),
            slow: SLOW,
            hosts: Hosts::default(),
            proxies: Proxies::default(),
            admission: Admission::default(),
            memory: Budget::new(Shares::of(DEFAULT_MB << 20, None).clients),
            connections: CONNECTIONS,
        }
    }

    /// What the addresses of a store's pages begin with: nothing for the first, `/in/staging` for
    /// the others.
    pub(super) fn base(&self, store: usize) -> String {
        match self.stores.get(store) {
            Some(store_of_several) if store > 0 => format!("/in/{}", store_of_several.name),
            _ => String::new(),
        }
    }
}

/// How people know events: labels, groups, and those that are nobody's business.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glossary {
    /// What an event is called on pages: `Are active` for `active`.
    pub labels: BTreeMap<EventName, String>,
    /// Groups in the order of their mention, with the events in them. The first that fits counts.
    pub groups: Vec<(String, Vec<Pattern>)>,
    /// Events that no list offers. Whoever types the name still gets its numbers.
    pub hidden: Vec<Pattern>,
}

impl Glossary {
    /// What an event is called, if it has a label.
    pub fn label(&self, name: &EventName) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The group an event belongs to, and its place among the groups.
    pub fn group(&self, name: &EventName) -> Option<(usize, &str)> {
        let found = self
            .groups
            .iter()
            .position(|(_, members)| members.iter().any(|pattern| pattern.fits(name)))?;
        self.groups
            .get(found)
            .map(|(group, _)| (found, group.as_str()))
    }

    /// Whether lists leave an event out.
    pub fn hides(&self, name: &EventName) -> bool {
        self.hidden.iter().any(|pattern| pattern.fits(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names_and_beginnings() {
        let name = |text| EventName::new(text).unwrap();
        let glossary = Glossary {
            groups: vec![
                ("Places".into(), vec![Pattern::new("country:*")]),
                ("Rest".into(), vec![Pattern::new("a"), Pattern::new("*")]),
            ],
            hidden: vec![Pattern::new("demo:*"), Pattern::new("a")],
            ..Glossary::default()
        };
        assert_eq!(glossary.group(&name("country:US")), Some((0, "Places")));
        assert_eq!(glossary.group(&name("country")), Some((1, "Rest")));
        assert!(
            glossary.hides(&name("demo:data"))
                && glossary.hides(&name("a"))
                && !glossary.hides(&name("ab"))
        );
        assert_eq!(Glossary::default().group(&name("a")), None);
    }
}
