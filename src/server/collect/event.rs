//! What a library sends, before it is written.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::values;

/// An event as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// What the user did. `None` if this only tells something about the user.
    pub name: Option<Cow<'a, str>>,
    /// Who did it.
    pub user: Cow<'a, str>,
    /// When. `None` if the library did not say.
    pub at: Option<DateTime<Utc>>,
    /// The wanted properties: the index of the name, and the value.
    pub properties: Vec<(usize, Cow<'a, str>)>,
}

/// An event that cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// The name of the field that is wrong, as the library calls it.
    pub field: &'static str,
    /// Whether the field is missing.
    pub missing: bool,
    /// What is wrong, for people.
    pub message: String,
}

impl Bad {
    pub(super) fn missing(index: usize, field: &'static str) -> Self {
        Bad {
            index,
            field,
            missing: true,
            message: format!("`{field}` is missing"),
        }
    }

    pub(super) fn wrong(
        index: usize,
        field: &'static str,
        message: impl std::fmt::Display,
    ) -> Self {
        Bad {
            index,
            field,
            missing: false,
            message: format!("`{field}`: {message}"),
        }
    }
}

/// What to read from a body.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// The names of the properties whose values are recorded.
    pub properties: &'w [String],
    /// Whether events of users who are only known by a device are recorded.
    pub anonymous: bool,
    /// The latest moment of an event.
    pub now: DateTime<Utc>,
}

/// A body, read.
#[derive(Debug, Default)]
pub struct Parsed<'a> {
    /// The write keys that the body names.
    pub keys: Vec<Cow<'a, str>>,
    /// The events to record.
    pub events: Vec<Event<'a>>,
    /// The events that cannot be recorded.
    pub bad: Vec<Bad>,
    /// How many events it holds, those included that are ignored.
    pub len: usize,
}

impl<'a> Parsed<'a> {
    /// Adds a key, if there is one that is not known yet.
    pub(super) fn key(&mut self, key: Option<Cow<'a, str>>) {
        if let Some(key) = key
            && !self.keys.contains(&key)
        {
            self.keys.push(key);
        }
    }

    /// Reads the parts of a body, of which there are at most `most`. `field` is the name of the
    /// field that a part belongs to, and `read` also gets this value.
    pub(super) fn each<S: Deserialize<'a>>(
        &mut self,
        parts: Vec<&'a RawValue>,
        most: usize,
        field: &'static str,
        mut read: impl FnMut(usize, &S, &mut Self) -> Result<Option<Event<'a>>, Bad>,
    ) -> Result<(), Malformed> {
        if parts.len() > most {
            return Err(Malformed::TooMany(most));
        }
        for (index, part) in parts.into_iter().enumerate() {
            let read = match serde_json::from_str::<S>(part.get()) {
                Ok(sent) => read(index, &sent, self),
                Err(error) => Err(Bad::wrong(index, field, error)),
            };
            self.add(read);
        }
        Ok(())
    }

    /// Adds what a part of the body turned out to be: an event, nothing to record, or a mistake.
    pub(super) fn add(&mut self, read: Result<Option<Event<'a>>, Bad>) {
        self.len += 1;
        match read {
            Ok(event) => self.events.extend(event),
            Err(bad) => self.bad.push(bad),
        }
    }
}

/// Why a body is of no use at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// It is not what the library sends, and why.
    Body(String),
    /// It holds more events than this.
    TooMany(usize),
}

impl Malformed {
    pub fn json(error: &serde_json::Error) -> Self {
        Malformed::Body(format!("the body is not valid: {error}"))
    }
}

/// Returns the user of the event: the first of these fields that names somebody.
///
/// `identified` is the name of the field for known users, `device` the other one. Returns `None` if
/// the user is known by the device only, and such users are not wanted.
pub fn user<'a>(
    index: usize,
    wanted: &Wanted<'_>,
    (identified, known): (&'static str, Option<&'a RawValue>),
    (device, anonymous): (&'static str, Option<&'a RawValue>),
) -> Result<Option<Cow<'a, str>>, Bad> {
    if let Some(user) = values::user(known).map_err(|error| Bad::wrong(index, identified, error))? {
        return Ok(Some(user));
    }
    let user = values::user(anonymous).map_err(|error| Bad::wrong(index, device, error))?;
    match user {
        Some(user) => Ok(Some(user).filter(|_| wanted.anonymous)),
        None => Err(Bad::missing(index, identified)),
    }
}

/// Returns the name of an event.
pub fn name<'a>(
    index: usize,
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Cow<'a, str>, Bad> {
    let raw = raw.ok_or_else(|| Bad::missing(index, field))?;
    let name = values::text(raw).ok_or_else(|| Bad::wrong(index, field, "must be a text"))?;
    Ok(values::cleaned(name))
}

/// Returns the moment of an event, if a field tells it.
pub fn moment(
    index: usize,
    field: &'static str,
    raw: Option<&RawValue>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Bad> {
    corrected(index, field, raw, None, now)
}

/// Returns the moment of an event whose sender also tells when it sent the event, by the same clock:
/// what that clock is fast or slow is corrected, as Segment does. A wrong time of sending is ignored.
pub fn corrected(
    index: usize,
    field: &'static str,
    raw: Option<&RawValue>,
    sent: Option<&RawValue>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Bad> {
    let Some(raw) = raw else { return Ok(None) };
    let sent = sent.and_then(|sent| values::instant(sent).ok());
    values::instant(raw)
        .map(|at| sent.map_or(at, |sent| now - (sent - at)))
        .and_then(|at| values::plausible(at, now))
        .map(Some)
        .map_err(|error| Bad::wrong(index, field, error))
}
