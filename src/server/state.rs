//! What every handler of one store's pages needs.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::calendar::{Grain, Period};
use crate::clock::Clock;
use crate::render::words;
use crate::reports::coverage::Coverage;
use crate::reports::retention::{Query, Table};
use crate::server::error::WebError;
use crate::server::{Dashboard, NamedStore};
use crate::sets::{EventName, Set};
use crate::store::Freshness;
use crate::tracker::{Run, Tracker};

/// What every handler of one store's pages can see.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) dashboard: Arc<Dashboard>,
    /// Which of the dashboard's stores.
    pub(super) index: usize,
    /// What the addresses of its pages begin with.
    pub(super) base: String,
    pub(super) tracker: Tracker,
    pub(super) read_only: bool,
}

impl State {
    pub(super) fn of(dashboard: &Arc<Dashboard>, index: usize, store: &NamedStore) -> Self {
        State {
            dashboard: Arc::clone(dashboard),
            index,
            base: dashboard.base(index),
            tracker: store.tracker.clone(),
            read_only: store.read_only,
        }
    }

    /// As of when.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.dashboard.clock.now()
    }

    /// As of when, and whether that was given.
    pub(super) fn as_asked(&self) -> (DateTime<Utc>, bool) {
        (self.now(), self.dashboard.clock.is_given())
    }

    /// What the store covers.
    pub(super) fn coverage(&self) -> Result<Coverage, WebError> {
        let (now, now_given) = self.as_asked();
        Ok(self.tracker.coverage(now, now_given)?)
    }

    /// The last month with data, where that is before now: its first day.
    pub(super) fn ends(&self) -> Option<NaiveDate> {
        // A store that is away is reported elsewhere.
        let last = self.coverage().ok()?.ends(Grain::Month)?;
        Some(last.start().date_naive())
    }

    /// The grains of those periods in which a set of these periods may include marks made after a
    /// given *now*.
    pub(super) fn later_in(&self, set: &Set, periods: &[Period]) -> Result<Vec<Grain>, WebError> {
        match self.as_asked() {
            (now, true) => Ok(self.tracker.later_in(set, periods, now)?),
            (_, false) => Ok(Vec::new()),
        }
    }

    /// Of when counts are that were so old when they came: the pages' word for it.
    pub(super) fn as_of(&self, now: DateTime<Utc>, age: Duration) -> String {
        let at = match self.dashboard.clock {
            Clock::System => now - TimeDelta::from_std(age).unwrap_or_default(),
            // Whoever looks back looks at one moment.
            Clock::Fixed(moment) => moment,
        };
        let later = self
            .dashboard
            .clock
            .is_given()
            .then(|| self.tracker.catalogue().ok())
            .flatten();
        let later = later.and_then(|all| words::includes_later(&all.holding_later(at), at));
        let later = later.map_or_else(String::new, |later| format!("; {later}"));
        format!("as of {} UTC{later}", at.format("%a %-d %b %Y, %H:%M"))
    }

    /// How a page's report is run.
    pub(super) fn run(&self, freshness: Freshness) -> Run<'_> {
        Run {
            now: self.now(),
            now_given: self.dashboard.clock.is_given(),
            freshness,
            labels: &self.dashboard.glossary.labels,
            hidden: &self.dashboard.glossary.hidden,
        }
    }

    /// The table of another query that a page may suggest; `None` if it cannot be asked.
    pub(super) fn retention(&self, query: &Query) -> Result<Option<Table>, WebError> {
        match self.tracker.run(query, &self.run(Freshness::Cached)) {
            Ok(answered) => Ok(Some(answered.answer)),
            Err(crate::Error::Query(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The events that lists offer.
    pub(super) fn events(&self) -> Result<Vec<EventName>, WebError> {
        let mut events = self.tracker.events("")?;
        events.retain(|name| !self.dashboard.glossary.hides(name));
        Ok(events)
    }

    /// The address of a page of this store.
    pub(super) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}
