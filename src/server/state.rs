//! The state that every handler of one store's pages uses.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use url::form_urlencoded;

use crate::calendar::{Calendar, Grain, Period, Zone};
use crate::clock::Clock;
use crate::render::words;
use crate::reports::coverage::Coverage;
use crate::reports::first_recorded::dated;
use crate::reports::retention::{FIELDS, Query, Table};
use crate::reports::spans::Running;
use crate::reports::{Field, Params, Reader, WEEK, ZONE};
use crate::server::error::WebError;
use crate::server::query::{self, Problem, RawQuery};
use crate::server::{Dashboard, NamedStore};
use crate::sets::{Catalogue, EventName, Segment, Set, SetContext, resolved, typed};
use crate::store::Freshness;
use crate::tracker::{Run, Tracker};

/// The state that every handler of one store's pages uses.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) dashboard: Arc<Dashboard>,
    /// The index of the store in the dashboard.
    pub(super) index: usize,
    /// The beginning of the addresses of its pages.
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

    /// Returns the moment that questions are asked for.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.dashboard.clock.now()
    }

    /// Returns that moment, and whether it was chosen.
    pub(super) fn as_asked(&self) -> (DateTime<Utc>, bool) {
        (self.now(), self.dashboard.clock.is_given())
    }

    /// Returns the coverage of the store.
    pub(super) fn coverage(&self) -> Result<Coverage, WebError> {
        let (now, now_given) = self.as_asked();
        Ok(self.tracker.coverage(now, now_given)?)
    }

    /// Returns the day of the numbers that lists show, for the end of a sentence: `today`, or the day
    /// on which the data ends.
    pub(super) fn day_of_numbers(&self) -> Result<String, WebError> {
        let coverage = self.coverage()?;
        Ok(match coverage.data_ends(Grain::Day) {
            Some(_) => format!("on {}", words::date(Running::of(&coverage).day)),
            None => "today".to_owned(),
        })
    }

    /// Returns the coverage of the store, in periods of a zone.
    pub(super) fn coverage_in(&self, zone: Zone) -> Result<Coverage, WebError> {
        let (now, now_given) = self.as_asked();
        Ok(self.tracker.coverage_in(zone, now, now_given)?)
    }

    /// Returns the first day of the last month with data, if the data ends before now.
    pub(super) fn ends(&self) -> Option<NaiveDate> {
        // Only used for hints. An unreachable store is reported where its numbers are read.
        let last = self.coverage().ok()?.ends(Grain::Month)?;
        Some(last.local_start().date())
    }

    /// Returns the grains of those of these periods in which a set may include marks made after a
    /// chosen *now*.
    pub(super) fn later_in(&self, set: &Set, periods: &[Period]) -> Result<Vec<Grain>, WebError> {
        match self.as_asked() {
            (now, true) => Ok(self.tracker.later_in(set, periods, now)?),
            (_, false) => Ok(Vec::new()),
        }
    }

    /// Describes when counts of this age were made, by the clocks of a zone: `as of Mon 23 Nov 2026,
    /// 14:05 UTC`.
    pub(super) fn as_of(&self, now: DateTime<Utc>, age: Duration, zone: Zone) -> String {
        let at = match self.dashboard.clock {
            Clock::System => {
                now - TimeDelta::from_std(age).expect("ages are shorter than the uptime")
            }
            // A chosen moment does not depend on the age of the counts.
            Clock::Fixed(moment) => moment,
        };
        // Only a hint: an unreachable store is reported elsewhere.
        let later = self
            .dashboard
            .clock
            .is_given()
            .then(|| self.tracker.catalogue().ok())
            .flatten();
        let later = later.and_then(|all| words::includes_later(&all.holding_later(at), at));
        let later = later.map_or_else(String::new, |later| format!("; {later}"));
        let at = zone.local(at);
        format!("as of {} {zone}{later}", at.format("%a %-d %b %Y, %H:%M"))
    }

    /// Returns the settings for running a page's report.
    pub(super) fn run(&self, freshness: Freshness) -> Run<'_> {
        Run {
            now: self.now(),
            now_given: self.dashboard.clock.is_given(),
            freshness,
            labels: &self.dashboard.glossary.labels,
            hidden: &self.dashboard.glossary.hidden,
        }
    }

    /// Returns the table of another query that a page may suggest. `None` if the query is invalid.
    pub(super) fn retention(&self, query: &Query) -> Result<Option<Table>, WebError> {
        match self.tracker.run(query, &self.run(Freshness::Cached)) {
            Ok(answered) => Ok(Some(answered.answer)),
            Err(crate::Error::Query(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the events that lists show.
    pub(super) fn events(&self) -> Result<Vec<EventName>, WebError> {
        let mut events = self.tracker.events("")?;
        events.retain(|name| !self.dashboard.glossary.hides(name));
        Ok(events)
    }

    /// Replaces labels by the names of events in a question's fields.
    pub(super) fn resolve(&self, params: &mut Params, fields: &[Field]) {
        let known = Known::new(self);
        params.resolve(fields, &self.dashboard.glossary.labels, &|name| {
            known.has(name)
        });
    }

    /// Returns the retention question of a query string, with names in place of labels.
    pub(super) fn raw_query(&self, query: &str) -> RawQuery {
        let mut raw = RawQuery::read(query).by_default_in(self.usual_calendar());
        self.resolve(&mut raw.params, FIELDS);
        raw
    }

    /// Returns the text of a set with names in place of labels.
    ///
    /// # Errors
    /// Returns an error for a label that several events have.
    pub(super) fn resolved(&self, set: &str) -> Result<String, Problem> {
        let known = Known::new(self);
        let labels = &self.dashboard.glossary.labels;
        resolved(set, labels, &|name| known.has(name))
            .map_err(|error| Problem::new(query::Field::Set, error.to_string()))
    }

    /// Returns the event that a name is the label of.
    pub(super) fn event_labelled(&self, name: &EventName) -> Option<EventName> {
        let label = Segment::event(name).to_string();
        match self.resolved(&label).ok()?.parse() {
            Ok(Segment::Event(event)) if event != *name => Some(event),
            _ => None,
        }
    }

    /// Returns the text of a segment or a set as a field shows it: with labels, from which
    /// [`resolve`](Self::resolve) gets back the names.
    pub(super) fn typed(&self, text: &str) -> String {
        let known = Known::new(self);
        typed(text, &self.dashboard.glossary.labels, &|name| {
            known.has(name)
        })
    }

    /// What sets may refer to, given the bitmaps that exist.
    pub(super) fn sets<'a>(&'a self, catalogue: &'a Catalogue) -> SetContext<'a> {
        SetContext {
            segments: self.tracker.segments(),
            catalogue,
            hidden: &self.dashboard.glossary.hidden,
            zone: self.own_zone(),
        }
    }

    /// Returns the coverage of a retention question, in periods of its zone. Saved segments are
    /// written out.
    pub(super) fn coverage_of(&self, query: &Query) -> Result<Coverage, WebError> {
        let (now, now_given) = self.as_asked();
        let coverage = self.tracker.coverage_in(query.zone, now, now_given)?;
        let names = dated([&query.cohort, &query.returning]);
        Ok(coverage.of_events(names, &*self.tracker.catalogue()?))
    }

    /// Returns the coverage of the numbers of a set, in periods of a zone.
    pub(super) fn coverage_of_set(&self, set: &Set, zone: Zone) -> Result<Coverage, WebError> {
        let (now, now_given) = self.as_asked();
        Ok(self.tracker.coverage_of_set(set, zone, now, now_given)?)
    }

    /// Returns the zone in which the store is kept.
    pub(super) fn own_zone(&self) -> Zone {
        // Only a default. An unreachable store is reported where its numbers are read.
        self.tracker.last_kept_in().unwrap_or_default()
    }

    /// Returns by which zone and weeks numbers are counted unless an address says otherwise.
    pub(super) fn usual_calendar(&self) -> Calendar {
        let usual = self.dashboard.calendar;
        match self.own_zone() {
            zone if zone.is_kept() => Calendar {
                zone: zone.asked(),
                ..usual
            },
            _ => usual,
        }
    }

    /// Returns by which zone and weeks an address wants its numbers.
    pub(super) fn calendar(&self, query: &str) -> Result<Calendar, WebError> {
        let fields = [WEEK, ZONE];
        let mut params = Params::read(&fields, form_urlencoded::parse(query.as_bytes()));
        params.default_calendar(&fields, self.usual_calendar());
        let mut read = Reader::new(&fields, &params);
        let calendar = read.calendar();
        let Calendar { zone, week } = read.finish(Some(calendar)).map_err(|problems| {
            WebError::Query(problems.into_iter().map(Problem::of_report).collect())
        })?;
        let zone = self.tracker.in_zone(zone)?;
        Ok(Calendar { zone, week })
    }

    /// Returns what addresses must say so that pages are counted by a zone and its weeks.
    pub(super) fn calendar_pairs(&self, calendar: Calendar) -> Vec<(&'static str, &'static str)> {
        let Calendar { zone, week } = self.usual_calendar();
        let zone = (zone != calendar.zone.asked()).then(|| (ZONE.name, calendar.zone.name()));
        let week = (week != calendar.week).then(|| (WEEK.name, calendar.week.as_str()));
        week.into_iter().chain(zone).collect()
    }

    /// Returns the address of a page of this store.
    pub(super) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// The events and saved segments of a store, listed when they are first needed. An unreachable store
/// has none: it is reported where its numbers are read.
struct Known<'a> {
    state: &'a State,
    all: OnceCell<Option<Arc<Catalogue>>>,
}

impl<'a> Known<'a> {
    fn new(state: &'a State) -> Self {
        Known {
            state,
            all: OnceCell::new(),
        }
    }

    fn has(&self, name: &EventName) -> bool {
        let tracker = &self.state.tracker;
        let all = self.all.get_or_init(|| tracker.catalogue().ok());
        let is_recorded = all.as_ref().is_some_and(|all| all.event(name).is_some());
        is_recorded || tracker.segments().get(name).is_some()
    }
}
