//! Converts rows to bits, ordered by bitmap and user, each bit once.

use chrono::DateTime;
use rustc_hash::FxHashMap;

use crate::calendar::{CalendarError, Grain, Period};
use crate::ingest::names::Names;
use crate::ingest::records::Row;
use crate::sets::{EventName, Key, UserId};

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;

/// The rows of many lines, grouped by event and day, or by event and hour if hours are marked.
///
/// A row marks a day, a week and a month, and there are many rows of the same users. They are
/// combined before they are written, so that each bit is written once.
#[derive(Debug)]
pub struct Gather {
    hourly: bool,
    ever: bool,
    /// The index in `users` of each event and unit of time.
    places: FxHashMap<Slot, usize>,
    users: Vec<Vec<UserId>>,
    last: Option<(Slot, usize)>,
    rows: usize,
}

/// An event, and a unit of time.
type Slot = (u32, i64);

/// The unit that stands for no time at all. It contains no moment.
const UNDATED: i64 = i64::MAX;

impl Gather {
    /// Creates a value without rows. `hourly` and `ever` select bitmaps to mark in addition to
    /// those of day, week and month.
    pub fn new(hourly: bool, ever: bool) -> Self {
        Gather {
            hourly,
            ever,
            places: FxHashMap::default(),
            users: Vec::new(),
            last: None,
            rows: 0,
        }
    }

    /// Adds a row, and the undated events that its user belongs to according to the row.
    pub fn add(&mut self, row: Row, undated: &[u32]) {
        let unit = row.at.div_euclid(if self.hourly { HOUR } else { DAY });
        self.push((row.event, unit), row.user);
        for event in undated {
            self.push((*event, UNDATED), row.user);
        }
        self.rows += 1;
    }

    fn push(&mut self, slot: Slot, user: UserId) {
        let place = match self.last {
            // Most files are ordered by time.
            Some((last, place)) if last == slot => place,
            _ => {
                let next = self.users.len();
                let place = *self.places.entry(slot).or_insert(next);
                if place == next {
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

    /// Returns the number of rows held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns approximately how many bitmaps will be touched. This and the number of rows
    /// determine the memory use.
    pub fn bitmaps(&self) -> usize {
        self.places.len()
    }

    /// Returns everything that was added, and starts again. This is fast: sorting is left to the
    /// caller that writes the result.
    pub fn drain(&mut self, names: &Names) -> Gathered {
        (self.last, self.rows) = (None, 0);
        let mut users = std::mem::take(&mut self.users);
        let mut slots: Vec<(Slot, Vec<UserId>)> = self
            .places
            .drain()
            .map(|(slot, place)| {
                (
                    slot,
                    users.get_mut(place).map(std::mem::take).unwrap_or_default(),
                )
            })
            .collect();
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        let events = slots
            .chunk_by(|a, b| a.0.0 == b.0.0)
            .filter_map(|slots| slots.first());
        let events = events
            .filter_map(|((event, _), _)| Some((*event, names.get(*event)?.clone())))
            .collect();
        Gathered {
            hourly: self.hourly,
            ever: self.ever,
            events,
            slots,
        }
    }
}

/// The result of gathering many rows: for each event and unit of time, the users in order of
/// arrival.
#[derive(Debug)]
pub struct Gathered {
    hourly: bool,
    ever: bool,
    /// The events, by ascending number.
    events: Vec<(u32, EventName)>,
    /// The users of the events, in ascending order of event and unit of time.
    slots: Vec<(Slot, Vec<UserId>)>,
}

impl Gathered {
    /// Replaces each user, which was an index until now, with the number at that index: 0 with the
    /// first, 1 with the second, and so on.
    ///
    /// # Panics
    /// Panics if there are fewer numbers.
    pub fn translate(&mut self, numbers: &[UserId]) {
        self.slots
            .iter_mut()
            .flat_map(|(_, users)| users)
            .for_each(|user| *user = numbers[*user as usize]);
    }

    /// Returns all bits that the rows set, in order.
    ///
    /// # Errors
    /// Returns an error if a moment is outside the supported years. No [`Row`] of
    /// [`Records`](crate::ingest::Records) has such a moment.
    pub fn bits(mut self) -> Result<Bits, CalendarError> {
        let mut bits = Bits::default();
        let mut order = Order::default();
        let mut of_events = self.slots.chunk_by_mut(|a, b| a.0.0 == b.0.0);
        for (number, event) in &self.events {
            let Some(slots) =
                of_events.find(|slots| slots.first().is_some_and(|(slot, _)| slot.0 == *number))
            else {
                continue;
            };
            let grains = [Grain::Day, Grain::Week, Grain::Month];
            let mut wider: [(Option<Period>, Vec<UserId>); 3] = Default::default();
            let mut ever = Vec::new();
            let mut dated = false;
            for ((_, unit), users) in slots {
                if *unit == UNDATED {
                    ever.append(users);
                    continue;
                }
                dated = true;
                let at = *unit * if self.hourly { HOUR } else { DAY };
                let at = DateTime::from_timestamp(at, 0).ok_or(CalendarError::OutOfRange)?;
                if self.hourly {
                    order.sort(users);
                    bits.put(event_in(event, Period::containing(Grain::Hour, at)?), users);
                }
                for (grain, (period, gathered)) in grains.into_iter().zip(&mut wider) {
                    let now = Period::containing(grain, at)?;
                    if let Some(before) = period.replace(now).filter(|before| *before != now) {
                        bits.close(event_in(event, before), gathered, &mut order);
                    }
                    gathered.extend_from_slice(users);
                }
                if self.ever {
                    ever.extend_from_slice(users);
                }
                // Frees the memory of these users, which may be a large part of the total.
                *users = Vec::new();
            }
            for (period, gathered) in &mut wider {
                if let Some(period) = period {
                    bits.close(event_in(event, *period), gathered, &mut order);
                }
            }
            if !ever.is_empty() {
                bits.close(Some(Key::ever(event.clone())), &mut ever, &mut order);
            }
            bits.events.extend(dated.then_some(*number));
        }
        Ok(bits)
    }
}

fn event_in(event: &EventName, period: Period) -> Option<Key> {
    Key::new(event.clone(), period).ok()
}

/// Bits to set: each bitmap once, with its users in ascending order.
#[derive(Debug, Default)]
pub struct Bits {
    /// The bitmaps, and where the users of each end.
    keys: Vec<(Key, usize)>,
    users: Vec<UserId>,
    events: Vec<u32>,
}

impl Bits {
    /// Returns each bitmap with its users.
    pub fn groups(&self) -> impl Iterator<Item = (&Key, &[UserId])> {
        let mut start = 0;
        self.keys.iter().map(move |(key, end)| {
            let users = self.users.get(start..*end).unwrap_or_default();
            start = *end;
            (key, users)
        })
    }

    /// Returns the dated events among them, by their numbers in [`Names`].
    pub fn events(&self) -> &[u32] {
        &self.events
    }

    /// Returns the number of bits.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Returns whether there are no bits.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    fn put(&mut self, key: Option<Key>, users: &[UserId]) {
        if let Some(key) = key {
            self.users.extend_from_slice(users);
            self.keys.push((key, self.users.len()));
        }
    }

    /// Adds the users of several units of time, and clears `users`.
    fn close(&mut self, key: Option<Key>, users: &mut Vec<UserId>, order: &mut Order) {
        order.sort(users);
        self.put(key, users);
        users.clear();
    }
}

/// Sorts users and removes duplicates.
#[derive(Debug, Default)]
struct Order {
    words: Vec<u64>,
}

/// The maximum number of words, of 64 users each, per user to sort. Up to this number, setting bits
/// is faster than comparing.
const WORDS_A_USER: usize = 4;

impl Order {
    fn sort(&mut self, users: &mut Vec<UserId>) {
        if users.is_sorted_by(|a, b| a < b) {
            return;
        }
        let (Some(least), Some(most)) = (users.iter().min(), users.iter().max()) else {
            return;
        };
        let (first, last) = (*least / 64, *most / 64);
        let words = (last - first) as usize + 1;
        if words > users.len().saturating_mul(WORDS_A_USER) {
            users.sort_unstable();
            users.dedup();
            return;
        }
        self.words.clear();
        self.words.resize(words, 0);
        for user in users.iter() {
            if let Some(word) = self.words.get_mut((user / 64 - first) as usize) {
                *word |= 1 << (user % 64);
            }
        }
        users.clear();
        for (number, word) in (first..).zip(&self.words) {
            let mut word = *word;
            while word != 0 {
                users.push(number * 64 + word.trailing_zeros());
                word &= word - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn users_come_in_order_each_once(
            users in prop::collection::vec(prop_oneof![0_u32..300, 70_000_u32..70_900, (UserId::MAX - 99)..=UserId::MAX], 0..90),
            few in prop::collection::vec(any::<UserId>(), 0..9),
        ) {
            let mut order = Order::default();
            for users in [users.clone(), few, users.into_iter().filter(|user| *user < 300).collect()] {
                let mut sorted = users.clone();
                order.sort(&mut sorted);
                let expected: std::collections::BTreeSet<UserId> = users.into_iter().collect();
                prop_assert_eq!(sorted, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
