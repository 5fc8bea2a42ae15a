//! Configuration of a dashboard: its stores, their names, and its limits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::calendar::Calendar;
use crate::clock::Clock;
use crate::server::collect::RecentNames;
use crate::server::query::PageQuery;
use crate::server::{Admission, Collect, Hosts, PageCache, Proxies};
use crate::sets::{EventName, Labels};

pub use crate::sets::Pattern;
use crate::store::budget::{Budget, DEFAULT_MB, Shares};
use crate::tracker::Tracker;

/// The default title.
pub const TITLE: &str = "cohortist";

/// The default threshold for slow answers.
pub const SLOW: Duration = Duration::from_secs(1);

/// The maximum number of connections if file descriptors are not the limit.
pub const CONNECTIONS: usize = 50_000;

/// A dashboard: its stores, and how it presents them.
#[derive(Clone)]
pub struct Dashboard {
    /// Its title.
    pub title: String,
    /// The stores, the default one first. Never empty.
    pub stores: Vec<NamedStore>,
    /// Labels, groups and hidden events.
    pub glossary: Glossary,
    /// The zone and the weeks of every question that does not name others.
    pub calendar: Calendar,
    /// The question of the front page. `None` picks the most useful one.
    pub question: Option<PageQuery>,
    /// The source of the current time.
    pub clock: Clock,
    /// The token that `POST /api/v1/marks` requires. Marks over HTTP are off without it.
    pub write_token: Option<String>,
    /// What analytics libraries may record. `None` turns their addresses off.
    pub collect: Option<Arc<Collect>>,
    /// The names that libraries added to the stores.
    pub collected: RecentNames,
    /// The cache of rendered pages. It is only used for stores that cache counts.
    pub page_cache: PageCache,
    /// The time from which an answer is logged as slow, with its address. Zero turns this off.
    pub slow: Duration,
    /// The host names it answers to, besides `localhost` and IP addresses.
    pub hosts: Hosts,
    /// The proxies that are trusted to name the client's address.
    pub proxies: Proxies,
    /// Limits how many questions run at once.
    pub admission: Admission,
    /// Memory for request bodies, shared with all other input of clients. Responses that clients
    /// have not read yet may use a [third as much](Shares::answers_of) in addition.
    pub memory: Budget,
    /// The maximum number of connections. Others wait to be accepted.
    pub connections: usize,
}

/// Leaves out the token, which is secret.
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
    /// Its name, also used in addresses: ASCII letters, digits, `-` and `_`.
    pub name: String,
    /// Answers questions about the store, with the saved segments.
    pub tracker: Tracker,
    /// Whether pages must not write to it.
    pub read_only: bool,
}

impl Dashboard {
    /// Returns a dashboard of one store with defaults for everything else. Pages may save people as
    /// a segment.
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
            calendar: Calendar::default(),
            question: None,
            clock,
            write_token: None,
            collect: None,
            collected: RecentNames::default(),
            page_cache: PageCache::default(),
            slow: SLOW,
            hosts: Hosts::default(),
            proxies: Proxies::default(),
            admission: Admission::default(),
            memory: Budget::new(Shares::of(DEFAULT_MB << 20, None).clients),
            connections: CONNECTIONS,
        }
    }

    /// Returns the beginning of the addresses of a store's pages: empty for the first store,
    /// `/in/staging` for others.
    pub(super) fn base(&self, store: usize) -> String {
        match self.stores.get(store) {
            Some(store_of_several) if store > 0 => format!("/in/{}", store_of_several.name),
            _ => String::new(),
        }
    }
}

/// How events are presented: labels, groups, and hidden events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glossary {
    /// The label of an event on pages: `Are active` for `active`.
    pub labels: Labels,
    /// What an event means, in a sentence.
    pub about: BTreeMap<EventName, String>,
    /// Groups in order, with the events in them. The first match counts.
    pub groups: Vec<(String, Vec<Pattern>)>,
    /// Events that are hidden from lists and still available by name.
    pub hidden: Vec<Pattern>,
}

impl Glossary {
    /// Returns the label of an event, if it has one.
    pub fn label(&self, name: &EventName) -> Option<&str> {
        self.labels.get(name)
    }

    /// Returns what an event means, if that is described.
    pub fn about(&self, name: &EventName) -> Option<&str> {
        self.about.get(name).map(String::as_str)
    }

    /// Returns the group of an event, with its position among the groups.
    pub fn group(&self, name: &EventName) -> Option<(usize, &str)> {
        let found = self
            .groups
            .iter()
            .position(|(_, members)| members.iter().any(|pattern| pattern.fits(name)))?;
        self.groups
            .get(found)
            .map(|(group, _)| (found, group.as_str()))
    }

    /// Whether lists hide an event.
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
