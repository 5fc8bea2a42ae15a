//! Event names, keys and their text: the sole owner of bitmapist's key format.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Timelike, Utc};

use crate::calendar::{Grain, Period};

/// What the part of a key behind the prefix begins with when the key is temporary and not an
/// event's.
pub const SCRATCH: &str = "bitop_";

/// The longest event name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

/// The name of an event: 1–200 bytes of UTF-8, no control character, not beginning with `bitop_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(Arc<str>);

/// Which rule an event name broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventNameError {
    /// No characters at all.
    #[error("an event name must not be empty")]
    Empty,
    /// More than 200 bytes.
    #[error("an event name may be at most {MAX_NAME_BYTES} bytes long; `{start}…` has {bytes}")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// Its first characters.
        start: String,
    },
    /// A control character such as a tab or line break.
    #[error(
        "an event name must not hold control characters; `{shown}` holds {control} at character {at}"
    )]
    Control {
        /// The name with the character escaped.
        shown: String,
        /// The character, as U+0000.
        control: String,
        /// Counted from 1.
        at: usize,
    },
    /// Begins as temporary keys do.
    #[error(
        "an event name must not begin with `{SCRATCH}`: such keys are temporary and get deleted"
    )]
    Scratch,
}

impl EventName {
    /// Checks a name.
    ///
    /// # Errors
    /// Says which rule the name broke.
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

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Up to three of the `known` names that look like this one, likest first: what was perhaps
    /// meant.
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

/// Which bitmap of an event: that of a period, or the undated one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// The bitmap of an hour, day, week or month. Years have none: they are the union of their
    /// months.
    In(Period),
    /// The undated bitmap, bitmapist's "unique".
    Ever,
}

/// The name of one bitmap: an event in an hour, day, week or month, or ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    event: EventName,
    when: When,
    /// Whether the numbers behind the year have two digits, as other ports of bitmapist write them:
    /// `2014-02-03` and not `2014-2-3`. Only where that changes the text, so that a text has one
    /// key and a key one text.
    padded: bool,
}

/// A year has no bitmap of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a year has no bitmap of its own: it is the union of its 12 months")]
pub struct KeyError;

impl Key {
    /// The bitmap of `event` in `period`.
    ///
    /// # Errors
    /// [`KeyError`] when the period is a year; [`Set::event_in`](crate::sets::Set::event_in) takes any.
    pub fn new(event: EventName, period: Period) -> Result<Self, KeyError> {
        if period.grain() == Grain::Year {
            Err(KeyError)
        } else {
            Ok(Key {
                event,
                when: When::In(period),
                padded: false,
            })
        }
    }

    /// The undated bitmap of `event`.
    pub fn ever(event: EventName) -> Self {
        Key {
            event,
            when: When::Ever,
            padded: false,
        }
    }

    /// The bitmaps that a mark of `event` at `moment` sets: month, week and day, and hour when
    /// asked.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`](crate::calendar::CalendarError::OutOfRange) outside the supported years.
    pub fn of_mark(
        event: &EventName,
        moment: DateTime<Utc>,
        hourly: bool,
    ) -> Result<impl Iterator<Item = Key>, crate::calendar::CalendarError> {
        let grains = [Grain::Month, Grain::Week, Grain::Day, Grain::Hour];
        let mut keys = Vec::with_capacity(4);
        for grain in &grains[..if hourly { 4 } else { 3 }] {
            let when = When::In(Period::containing(*grain, moment)?);
            keys.push(Key {
                event: event.clone(),
                when,
                padded: false,
            });
        }
        Ok(keys.into_iter())
    }

    /// The event.
    pub fn event(&self) -> &EventName {
        &self.event
    }

    /// The bitmap of another event of the same time.
    pub(crate) fn renamed(&self, event: &EventName) -> Self {
        Key {
            event: event.clone(),
            ..self.clone()
        }
    }

    /// Whether its numbers are padded with zeros.
    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// The key of the same bitmap with padded numbers; `None` where that is the same text.
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
        let start = period.start();
        let has_short = match period.grain() {
            Grain::Week => start.iso_week().week() < 10,
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

    /// The key of the same bitmap as bitmapist writes it.
    #[must_use]
    pub fn plain(&self) -> Key {
        Key {
            padded: false,
            ..self.clone()
        }
    }

    /// The period, or ever.
    pub fn when(&self) -> When {
        self.when
    }

    /// The key's text under a prefix, exactly as bitmapist writes it, or the port that the key was
    /// read from.
    pub fn text(&self, prefix: &Prefix) -> String {
        self.behind(prefix.as_str())
    }

    /// The text behind another. A plan has hundreds of keys: made piece by piece it costs a fifth
    /// of what it costs through a formatter.
    fn behind(&self, prefix: &str) -> String {
        let event = self.event.as_str();
        let mut text = String::with_capacity(prefix.len() + event.len() + "_9999-12-31-23".len());
        text.extend([prefix, event, "_"]);
        self.push_stamp(&mut text);
        text
    }

    fn push_stamp(&self, text: &mut String) {
        let When::In(period) = self.when else {
            return text.push('u');
        };
        let start = period.start();
        let mut digits = itoa::Buffer::new();
        // The year is never padded, not even that of 9-10-9.
        if period.grain() == Grain::Week {
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
        // `Key::new` rejects years.
        match period.grain() {
            Grain::Week => part(start.iso_week().week()),
            Grain::Month | Grain::Year => part(start.month()),
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

    /// Reads a key's text under a prefix. Parsed from the right, as event names may hold
    /// underscores and look like dates. Numbers are not padded, or all of those behind the year
    /// are. `None` for other prefixes, temporary keys, and whatever neither bitmapist nor its ports
    /// would have written.
    pub fn parse(prefix: &Prefix, text: &str) -> Option<Key> {
        text.strip_prefix(prefix.as_str())?.parse_bare()
    }
}

/// The key without its prefix: `active_2026-1-9`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.behind(""))
    }
}

trait ParseBare {
    fn parse_bare(&self) -> Option<Key>;
}

impl ParseBare for str {
    fn parse_bare(&self) -> Option<Key> {
        let (event, stamp) = self.rsplit_once('_')?;
        let event = EventName::new(event).ok()?;
        if stamp == "u" {
            return Some(Key::ever(event));
        }
        let (text, is_week) = match stamp.strip_prefix('W') {
            Some(rest) => (rest, true),
            None => (stamp, false),
        };
        let (year, rest) = text.split_once('-')?;
        let year = i32::try_from(canonical(year)?).ok()?;
        let read = |number: fn(&str) -> Option<u32>| {
            rest.split('-').map(number).collect::<Option<Vec<u32>>>()
        };
        let (numbers, padded) = match read(canonical) {
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

/// A number written the only way bitmapist writes it: no sign, no leading zero.
fn canonical(text: &str) -> Option<u32> {
    let plain = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

/// A number written as other ports write it.
fn two_digits(text: &str) -> Option<u32> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// What every key of one set of events begins with; bitmapist's own is `trackist_`, bitmapist4's
/// `bitmapist_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// A prefix; any text will do.
    pub fn new(text: &str) -> Self {
        Prefix(text.into())
    }

    /// Its text.
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
