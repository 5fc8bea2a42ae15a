//! Rows → bits, sorted by bitmap and user, each once.

use chrono::DateTime;
use rustc_hash::FxHashMap;

use crate::calendar::{CalendarError, Grain, Period};
use crate::ingest::names::Names;
use crate::ingest::records::Row;
use crate::sets::{Key, UserId};

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;

/// The rows of many lines, by event and day, or hour where hours are marked.
///
/// A row marks a day, a week and a month, and rows of the same people come again and again: brought together before they
/// are written, each bit is written once.
#[derive(Debug)]
pub struct Gather {
    hourly: bool,
    ever: bool,
    /// The place in `users` of an event and unit of time.
    places: FxHashMap<(u32, i64), usize>,
    users: Vec<Vec<UserId>>,
    last: Option<((u32, i64), usize)>,
    rows: usize,
}

/// The unit that stands for no time at all; no moment is in it.
const UNDATED: i64 = i64::MAX;

impl Gather {
    /// Nothing yet. `hourly` and `ever` say which bitmaps are marked beyond those of day, week and month.
    pub fn new(hourly: bool, ever: bool) -> Self {
        Gather { hourly, ever, places: FxHashMap::default(), users: Vec::new(), last: None, rows: 0 }
    }

    /// Takes in a row, and the undated events that it says its user belongs to.
    pub fn add(&mut self, row: Row, undated: &[u32]) {
        let unit = row.at.div_euclid(if self.hourly { HOUR } else { DAY });
        self.push((row.event, unit), row.user);
        for event in undated {
            self.push((*event, UNDATED), row.user);
        }
        self.rows += 1;
    }

    fn push(&mut self, slot: (u32, i64), user: UserId) {
        let place = match self.last {
            // Files are mostly in order of time.
            Some((last, place)) if last == slot => place,
            _ => {
                let next = self.places.len();
                let place = *self.places.entry(slot).or_insert(next);
                if place == self.users.len() {
                    self.users.push(Vec::new());
                }
                self.last = Some((slot, place));
                place
            }
        };
        if let Some(users) = self.users.get_mut(place) {
            users.push(user);
        }
    }

    /// How many rows it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// About how many bitmaps it will touch: what decides, beside the rows, how much memory it takes.
    pub fn bitmaps(&self) -> usize {
        self.places.len()
    }

    /// All bits that the rows set, and begins anew.
    ///
    /// # Errors
    /// When a moment is outside the supported years, which no [`Row`] of [`Records`](crate::ingest::Records) is.
    pub fn drain(&mut self, names: &Names) -> Result<Bits, CalendarError> {
        let mut slots: Vec<((u32, i64), usize)> = self.places.drain().collect();
        slots.sort_unstable();
        (self.last, self.rows) = (None, 0);
        let mut bits = Bits::default();
        for of_event in slots.chunk_by(|a, b| a.0.0 == b.0.0) {
            let Some(event) = of_event.first().and_then(|slot| names.get(slot.0.0)) else { continue };
            let grains = [Grain::Day, Grain::Week, Grain::Month];
            let mut wider: [(Option<Period>, Vec<UserId>); 3] = Default::default();
            let mut ever = Vec::new();
            for ((_, unit), place) in of_event {
                let Some(users) = self.users.get_mut(*place) else { continue };
                users.sort_unstable();
                users.dedup();
                if *unit == UNDATED {
                    ever.append(users);
                    continue;
                }
                let at = unit * if self.hourly { HOUR } else { DAY };
                let at = DateTime::from_timestamp(at, 0).ok_or(CalendarError::OutOfRange)?;
                if self.hourly {
                    bits.put(event_in(event, Period::containing(Grain::Hour, at)?), users);
                }
                for (grain, (period, gathered)) in grains.into_iter().zip(&mut wider) {
                    let now = Period::containing(grain, at)?;
                    if let Some(before) = period.replace(now).filter(|before| *before != now) {
                        bits.close(event_in(event, before), gathered);
                    }
                    gathered.extend_from_slice(users);
                }
                if self.ever {
                    ever.extend_from_slice(users);
                }
                users.clear();
            }
            for (period, gathered) in &mut wider {
                if let Some(period) = period {
                    bits.close(event_in(event, *period), gathered);
                }
            }
            if !ever.is_empty() {
                bits.close(Some(Key::ever(event.clone())), &mut ever);
            }
            bits.events.extend(of_event.first().filter(|slot| slot.0.1 != UNDATED).map(|slot| slot.0.0));
        }
        Ok(bits)
    }
}

fn event_in(event: &crate::sets::EventName, period: Period) -> Option<Key> {
    Key::new(event.clone(), period).ok()
}

/// Bits to set: for each bitmap, each once, the users in ascending order.
#[derive(Debug, Default)]
pub struct Bits {
    /// Bitmaps, and where their users end.
    keys: Vec<(Key, usize)>,
    users: Vec<UserId>,
    events: Vec<u32>,
}

impl Bits {
    /// Each bitmap with its users.
    pub fn groups(&self) -> impl Iterator<Item = (&Key, &[UserId])> {
        let mut start = 0;
        self.keys.iter().map(move |(key, end)| {
            let users = self.users.get(start..*end).unwrap_or_default();
            start = *end;
            (key, users)
        })
    }

    /// The dated events among them, by their numbers in [`Names`].
    pub fn events(&self) -> &[u32] {
        &self.events
    }

    /// How many bits there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    fn put(&mut self, key: Option<Key>, users: &[UserId]) {
        if let Some(key) = key {
            self.users.extend_from_slice(users);
            self.keys.push((key, self.users.len()));
        }
    }

    /// Puts the users of several units of time in, and forgets them.
    fn close(&mut self, key: Option<Key>, users: &mut Vec<UserId>) {
        // One unit alone is in order already, which costs a sort next to nothing.
        users.sort_unstable();
        users.dedup();
        self.put(key, users);
        users.clear();
    }
}
