//! Writes events: all marks of a batch at once, or none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hashbrown::{HashMap, HashSet};

use super::event::{Bad, Event};
use super::recent::RecentNames;
use super::settings::Collect;
use crate::server::error::WebError;
use crate::server::work::changed;
use crate::sets::{Catalogue, EventName, Key, UserId};
use crate::tracker::{Ids, Tracker};

/// The most events whose names libraries may add to a store, beside the values of properties: a
/// write key in a page is public.
const MAX_NAMES: usize = 2_000;

/// The most values of a property.
const MAX_VALUES: usize = 1_000;

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;

/// The unit of time that stands for an undated bitmap.
const EVER: i64 = i64::MAX;

/// What became of the events.
#[derive(Debug, Default)]
pub struct Written {
    pub recorded: usize,
    pub bad: Vec<Bad>,
    /// How many values of properties were left out, because they are too many or no names.
    pub left_out: usize,
}

/// Where events are written.
#[derive(Clone, Copy)]
pub struct Target<'t> {
    pub tracker: &'t Tracker,
    /// The index of the store, and the names that were added to the stores.
    pub store: usize,
    pub recent: &'t RecentNames,
}

/// The names of a batch, each checked once.
struct Names<'t> {
    target: Target<'t>,
    collect: &'t Collect,
    known: Vec<EventName>,
    /// Whether the store has no room for further names: of events, and of values of each property.
    full: HashSet<Option<usize>>,
}

impl Names<'_> {
    /// Returns the number of the name of an event, or of a property's value.
    ///
    /// # Errors
    /// Returns the outer error if the store could not be read, and the inner one if the name is of
    /// no use.
    fn number(
        &mut self,
        name: &str,
        property: Option<usize>,
    ) -> Result<Result<usize, String>, WebError> {
        let name = match EventName::new(name) {
            Ok(name) => name,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let catalogue = self.target.tracker.catalogue()?;
        if catalogue.event(&name).is_none() && !self.is_added(&name, property, &catalogue) {
            let most = most(property);
            return Ok(Err(format!("the store has {most} names already")));
        }
        self.known.push(name);
        Ok(Ok(self.known.len() - 1))
    }

    /// Adds a name that is not in the catalogue, if there is room.
    fn is_added(&mut self, name: &EventName, property: Option<usize>, known: &Catalogue) -> bool {
        let mut recent = self.target.recent.lock();
        let recent = recent.entry(self.target.store).or_default();
        if recent.contains(name) {
            return true;
        }
        // Once it is full, nothing is counted again: a key in a page is public.
        if self.full.contains(&property) {
            return false;
        }
        let properties = &self.collect.properties;
        let is_of = |name: &EventName, property: &String| {
            name.as_str()
                .strip_prefix(property.as_str())
                .is_some_and(|rest| rest.starts_with(':'))
        };
        let is_counted = |name: &&EventName| match property {
            Some(property) => is_of(name, &properties[property]),
            None => !properties.iter().any(|property| is_of(name, property)),
        };
        let stored = known.events().map(|known| &known.event).filter(is_counted);
        let added = recent
            .iter()
            .filter(|name| known.event(name).is_none())
            .filter(is_counted);
        if stored.count() + added.count() >= most(property) {
            self.full.insert(property);
            return false;
        }
        recent.insert(name.clone())
    }
}

/// The most names of events, or of values of a property.
fn most(property: Option<usize>) -> usize {
    match property {
        Some(_) => MAX_VALUES,
        None => MAX_NAMES,
    }
}

/// Writes events, each of which is at `now` if it has no time. Returns when the log has them.
pub fn write(
    target: Target<'_>,
    collect: &Collect,
    events: &[Event<'_>],
    now: DateTime<Utc>,
) -> Result<Written, WebError> {
    let tracker = target.tracker;
    let ids = tracker.ids().map_err(|error| match error {
        // This is not the sender's fault.
        crate::Error::Ids(error) => WebError::Forbidden(error.to_string()),
        error => error.into(),
    })?;
    if ids != Ids::Strings {
        return Err(WebError::Forbidden(
            "events of libraries need string ids: serve a store with --ids map".to_owned(),
        ));
    }
    let mut written = Written::default();
    let mut names = Names {
        target,
        collect,
        known: Vec::new(),
        full: HashSet::new(),
    };
    // `None` if an event is not wanted.
    let mut events_by_name: HashMap<&str, Option<Result<usize, String>>> = HashMap::new();
    let mut values: HashMap<(usize, &Cow<'_, str>), Option<usize>> = HashMap::new();
    let mut users: HashMap<&str, usize> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    let unit = if collect.hourly { HOUR } else { DAY };
    // The users of each name and unit of time, as indexes of `texts`.
    let mut marks: HashMap<(usize, i64), Vec<usize>> = HashMap::new();
    for event in events {
        let mut slots: Vec<(usize, i64)> = Vec::with_capacity(1 + event.properties.len());
        if let Some(name) = &event.name {
            let number = match events_by_name.get(&**name) {
                Some(number) => number,
                None => {
                    let number = match EventName::new(name) {
                        Ok(name) if !collect.events.iter().any(|wanted| wanted.fits(&name)) => None,
                        _ => Some(names.number(name, None)?),
                    };
                    events_by_name.entry(name).or_insert(number)
                }
            };
            match number {
                Some(Ok(number)) => {
                    let at = event.at.unwrap_or(now).timestamp();
                    slots.push((*number, at.div_euclid(unit)));
                }
                Some(Err(message)) => {
                    written.bad.push(Bad::wrong(event.index, "event", message));
                    continue;
                }
                None => {}
            }
        }
        for (property, value) in &event.properties {
            let number = match values.get(&(*property, value)) {
                Some(number) => *number,
                None => {
                    let name = format!("{}:{value}", collect.properties[*property]);
                    let number = names.number(&name, Some(*property))?.ok();
                    values.insert((*property, value), number);
                    number
                }
            };
            match number {
                Some(number) => slots.push((number, EVER)),
                None => written.left_out += 1,
            }
        }
        written.recorded += 1;
        if slots.is_empty() {
            continue;
        }
        let user = *users.entry(&event.user).or_insert_with(|| {
            texts.push(&event.user);
            texts.len() - 1
        });
        for slot in slots {
            marks.entry(slot).or_default().push(user);
        }
    }
    if marks.is_empty() {
        return Ok(written);
    }
    let users = tracker.assign(&texts)?;
    let mut bits: BTreeMap<Key, Vec<UserId>> = BTreeMap::new();
    for ((name, slot), indexes) in marks {
        let event = &names.known[name];
        let keys: Vec<Key> = if slot == EVER {
            vec![Key::ever(event.clone())]
        } else {
            let at = DateTime::from_timestamp(slot * unit, 0)
                .ok_or(crate::calendar::CalendarError::OutOfRange)
                .map_err(crate::Error::from)?;
            Key::of_mark(event, at, collect.hourly)
                .map_err(crate::Error::from)?
                .collect()
        };
        for key in keys {
            bits.entry(key)
                .or_default()
                .extend(indexes.iter().map(|index| users[*index]));
        }
    }
    for users in bits.values_mut() {
        users.sort_unstable();
        users.dedup();
    }
    let runs: Vec<(&Key, &[UserId])> = bits
        .iter()
        .map(|(key, users)| (key, users.as_slice()))
        .collect();
    let _logged = changed(tracker.add(&runs))?;
    Ok(written)
}
