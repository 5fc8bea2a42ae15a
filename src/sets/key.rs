//! Event names and keys. Only this module knows bitmapist's key format.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Timelike, Utc};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::calendar::{Grain, Period, Zone};

/// The start of temporary keys, after the prefix. They do not belong to an event.
pub const SCRATCH: &str = "bitop_";

/// The maximum length of an event name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

/// The name of an event: 1 to 200 bytes of UTF-8 without control characters. It must not start with
/// `bitop_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(Arc<str>);

/// The rule that an invalid event name breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventNameError {
    /// The name is empty.
    #[error("an event name must not be empty")]
    Empty,
    /// The name has more than 200 bytes.
    #[error("an event name may be at most {MAX_NAME_BYTES} bytes long; `{start}…` has {bytes}")]
    TooLong {
        /// The length of the name in bytes.
        bytes: usize,
        /// The first characters of the name.
        start: String,
    },
    /// The name contains a control character, such as a tab or a line break.
    #[error(
        "an event name must not hold control characters; `{shown}` holds {control} at character {at}"
    )]
    Control {
        /// The name with control characters escaped.
        shown: String,
        /// The first control character, in the form `U+0009`.
        control: String,
        /// The position of that character, counted from 1.
        at: usize,
    },
    /// The name starts like a temporary key.
    #[error(
        "an event name must not begin with `{SCRATCH}`: such keys are temporary and get deleted"
    )]
    Scratch,
}

impl EventName {
    /// Creates an event name.
    ///
    /// # Errors
    /// Returns the rule that the name breaks.
    pub fn new(name: &str) -> Result<Self, EventNameError> {
        if name.is_empty() {
            return Err(EventNameError::Empty);
        }
        if name.len() > MAX_NAME_BYTES {
            let start = name.chars().take(20).flat_map(char::escape_debug).collect();
            return Err(EventNameError::TooLong {
                bytes: name.len(),
                start,
            });
        }
        if let Some((at, control)) = name.chars().enumerate().find(|(_, c)| c.is_control()) {
            return Err(EventNameError::Control {
                shown: name.escape_debug().to_string(),
                control: format!("U+{:04X}", u32::from(control)),
                at: at + 1,
            });
        }
        if name.starts_with(SCRATCH) {
            return Err(EventNameError::Scratch);
        }
        Ok(EventName(name.into()))
    }

    /// Returns the name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name with composed characters (Unicode NFC), as names are written, or `None` if
    /// it is composed.
    ///
    /// ```
    /// use cohortist::sets::EventName;
    /// let composed = EventName::new("cafe\u{301}")?.composed();
    /// assert_eq!(composed, Some(EventName::new("caf\u{e9}")?));
    /// assert_eq!(EventName::new("caf\u{e9}")?.composed(), None);
    /// # Ok::<(), cohortist::sets::EventNameError>(())
    /// ```
    pub fn composed(&self) -> Option<EventName> {
        if self.0.is_ascii() || is_nfc(&self.0) {
            return None;
        }
        let text: String = self.0.nfc().collect();
        EventName::new(&text).ok()
    }

    /// Returns up to three of the `known` names that are similar to this one, most similar first,
    /// to suggest corrections.
    ///
    /// ```
    /// use cohortist::sets::EventName;
    /// let known = ["active", "signup", "song:played"].map(|name| EventName::new(name).unwrap());
    /// assert_eq!(EventName::new("Singup")?.similar(&known), [&known[1]]);
    /// # Ok::<(), cohortist::sets::EventNameError>(())
    /// ```
    pub fn similar<'a>(&self, known: &'a [EventName]) -> Vec<&'a EventName> {
        let wanted = self.0.to_lowercase();
        let score = |name: &EventName| strsim::jaro_winkler(&wanted, &name.0.to_lowercase());
        let mut scored: Vec<(f64, &EventName)> =
            known.iter().map(|name| (score(name), name)).collect();
        scored.retain(|(score, _)| *score > 0.82);
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().take(3).map(|(_, name)| name).collect()
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for EventName {
    type Err = EventNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EventName::new(text)
    }
}

impl AsRef<str> for EventName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The time of a bitmap: a period, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// The bitmap of an hour, day, week or month. Years have no bitmap of their own.
    In(Period),
    /// The undated bitmap, which bitmapist calls "unique".
    Ever,
}

/// The key of one bitmap: an event, and an hour, day, week or month, or no time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    event: EventName,
    when: When,
    /// Whether the numbers after the year have two digits, as other ports of bitmapist write them:
    /// `2014-02-03` instead of `2014-2-3`. `false` if all of them have two digits anyway, so that
    /// each text has one key and each key has one text.
    padded: bool,
}

/// The error for a key of a period that has no bitmap of its own: a year, a week that does not begin
/// on Monday, or a period in a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this period has no bitmap of its own: it is a union of hours, days or months in UTC")]
pub struct KeyError;

impl Key {
    /// Creates the key of the bitmap of `event` in `period`.
    ///
    /// # Errors
    /// Returns [`KeyError`] if the period is not [stored](Period::is_stored).
    /// [`Set::event_in`](crate::sets::Set::event_in) accepts every period.
    pub fn new(event: EventName, period: Period) -> Result<Self, KeyError> {
        if period.is_stored() {
            Ok(Key {
                event,
                when: When::In(period),
                padded: false,
            })
        } else {
            Err(KeyError)
        }
    }

    /// Creates the key of the undated bitmap of `event`.
    pub fn ever(event: EventName) -> Self {
        Key {
            event,
            when: When::Ever,
            padded: false,
        }
    }

    /// Returns the keys of the bitmaps that a mark of `event` at `moment` changes: those of the
    /// month, the week and the day, and that of the hour if `hourly`, in UTC.
    ///
    /// # Errors
    /// Returns [`CalendarError::OutOfRange`](crate::calendar::CalendarError::OutOfRange) if the
    /// moment is outside the supported years.
    pub fn of_mark(
        event: &EventName,
        moment: DateTime<Utc>,
        hourly: bool,
    ) -> Result<impl Iterator<Item = Key>, crate::calendar::CalendarError> {
        Self::of_mark_in(Zone::UTC, event, moment, hourly)
    }

    /// Returns the same in a store that is kept in a zone.
    ///
    /// # Errors
    /// As for [`of_mark`](Self::of_mark).
    pub fn of_mark_in(
        kept_in: Zone,
        event: &EventName,
        moment: DateTime<Utc>,
        hourly: bool,
    ) -> Result<impl Iterator<Item = Key>, crate::calendar::CalendarError> {
        let zone = kept_in.kept();
        let grains = [Grain::Month, Grain::WEEK, Grain::Day, Grain::Hour];
        let mut keys = Vec::with_capacity(4);
        for grain in &grains[..if hourly { 4 } else { 3 }] {
            let when = When::In(zone.period(*grain, moment)?);
            keys.push(Key {
                event: event.clone(),
                when,
                padded: false,
            });
        }
        Ok(keys.into_iter())
    }

    /// Returns the key that a store which is kept in a zone means by the same text.
    #[must_use]
    pub fn kept_in(self, zone: Zone) -> Self {
        let when = match self.when {
            When::In(period) => When::In(
                zone.kept()
                    .same_named(period)
                    .expect("every name is one in every zone"),
            ),
            When::Ever => When::Ever,
        };
        Key { when, ..self }
    }

    /// Returns the key as its text alone reads: in UTC.
    #[must_use]
    pub fn as_read(self) -> Self {
        self.kept_in(Zone::UTC)
    }

    /// Returns the event.
    pub fn event(&self) -> &EventName {
        &self.event
    }

    /// Returns the key of another event at the same time.
    pub(crate) fn with_event(&self, event: &EventName) -> Self {
        Key {
            event: event.clone(),
            ..self.clone()
        }
    }

    /// Returns whether the numbers in the key are padded with zeros.
    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// Returns the same key with numbers padded with zeros, or `None` if that would not change its
    /// text.
    ///
    /// ```
    /// use cohortist::sets::{Key, Prefix};
    /// let read = |text| Key::parse(&Prefix::new(""), text).unwrap();
    /// assert_eq!(read("active_W2014-7").padded(), Some(read("active_W2014-07")));
    /// assert_eq!(read("active_W2014-07").plain(), read("active_W2014-7"));
    /// assert_eq!(read("active_W2014-10").padded(), None);
    /// ```
    pub fn padded(&self) -> Option<Key> {
        let When::In(period) = self.when else {
            return None;
        };
        let start = period.local_start();
        let has_short = match period.grain() {
            Grain::Week(_) => start.iso_week().week() < 10,
            grain => {
                start.month() < 10
                    || (grain <= Grain::Day && start.day() < 10)
                    || (grain == Grain::Hour && start.hour() < 10)
            }
        };
        (has_short && !self.padded).then(|| Key {
            padded: true,
            ..self.clone()
        })
    }

    /// Returns the same key without padding, as bitmapist writes it.
    #[must_use]
    pub fn plain(&self) -> Key {
        Key {
            padded: false,
            ..self.clone()
        }
    }

    /// Returns the time of the bitmap.
    pub fn when(&self) -> When {
        self.when
    }

    /// Returns the text of the key under a prefix, exactly as bitmapist or the other port writes
    /// it.
    pub fn text(&self, prefix: &Prefix) -> String {
        self.text_after(prefix.as_str())
    }

    /// Returns the text of the key after `prefix`. Does not use a formatter, which would take five
    /// times as long: a plan has hundreds of keys.
    fn text_after(&self, prefix: &str) -> String {
        let event = self.event.as_str();
        let mut text = String::with_capacity(prefix.len() + event.len() + "_9999-12-31-23".len());
        text.extend([prefix, event, "_"]);
        self.push_time(&mut text);
        text
    }

    /// Appends the part of the text after the event.
    fn push_time(&self, text: &mut String) {
        let When::In(period) = self.when else {
            return text.push('u');
        };
        let start = period.local_start();
        let mut digits = itoa::Buffer::new();
        // The year is never padded, not even the year 9.
        if period.grain() == Grain::WEEK {
            text.push('W');
            text.push_str(digits.format(start.iso_week().year()));
        } else {
            text.push_str(digits.format(start.year()));
        }
        let mut part = |number: u32| {
            text.push_str(if self.padded && number < 10 {
                "-0"
            } else {
                "-"
            });
            text.push_str(digits.format(number));
        };
        match period.grain() {
            Grain::Year => unreachable!("`Key::new` rejects years"),
            Grain::Week(_) => part(start.iso_week().week()),
            Grain::Month => part(start.month()),
            Grain::Day => {
                part(start.month());
                part(start.day());
            }
            Grain::Hour => {
                part(start.month());
                part(start.day());
                part(start.hour());
            }
        }
    }

    /// Parses the text of a key under a prefix. Either none of the numbers after the year are
    /// padded, or all of them are. Returns `None` for other prefixes, temporary keys, and any text
    /// that neither bitmapist nor its ports write.
    pub fn parse(prefix: &Prefix, text: &str) -> Option<Key> {
        let rest = text.strip_prefix(prefix.as_str())?;
        // From the right, because event names may contain underscores and look like dates.
        let (event, time) = rest.rsplit_once('_')?;
        let event = EventName::new(event).ok()?;
        if time == "u" {
            return Some(Key::ever(event));
        }
        let (time, is_week) = match time.strip_prefix('W') {
            Some(week) => (week, true),
            None => (time, false),
        };
        let (year, rest) = time.split_once('-')?;
        let year = i32::try_from(unpadded(year)?).ok()?;
        let read = |number: fn(&str) -> Option<u32>| {
            rest.split('-').map(number).collect::<Option<Vec<u32>>>()
        };
        let (numbers, padded) = match read(unpadded) {
            Some(numbers) => (numbers, false),
            None => (read(two_digits)?, true),
        };
        let period = match (is_week, &numbers[..]) {
            (true, &[week]) => Period::week(year, week),
            (false, &[month]) => Period::month(year, month),
            (false, &[month, day]) => Period::day(year, month, day),
            (false, &[month, day, hour]) => Period::hour(year, month, day, hour),
            _ => None,
        }?;
        Some(Key {
            event,
            when: When::In(period),
            padded,
        })
    }
}

/// Writes the key without its prefix: `active_2026-1-9`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text_after(""))
    }
}

/// Parses a number as bitmapist writes it: up to four digits, without a sign or a leading zero.
fn unpadded(text: &str) -> Option<u32> {
    let is_number = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

/// Parses a number as some ports write it: exactly two digits.
fn two_digits(text: &str) -> Option<u32> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The start of all keys of one set of events. The default is bitmapist's `trackist_`; bitmapist4
/// uses `bitmapist_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Creates a prefix, which may be any string.
    pub fn new(text: &str) -> Self {
        Prefix(text.into())
    }

    /// Returns the prefix as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Prefix::new("trackist_")
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
