//! Converts rows to bits, ordered by bitmap and user, each bit once.

use chrono::DateTime;
use rustc_hash::FxHashMap;

use crate::calendar::{CalendarError, Grain, Period, Zone};
use crate::ingest::names::Names;
use crate::ingest::property::Dating;
use crate::ingest::records::{Held, Row};
use crate::sets::{EventName, Key, UserId};

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;

/// Collects the rows of many lines, by event and day, or by event and hour if hours are marked.
///
/// A row marks a day, a week and a month, and the same users have many rows. The rows are combined
/// before they are written, so that each bit is written once.
#[derive(Debug)]
pub struct Gather {
    hourly: bool,
    ever: bool,
    /// The zone by whose clocks bitmaps are kept.
    zone: Zone,
    /// The index in `users` of each event and unit of time.
    indexes: FxHashMap<Slot, usize>,
    users: Vec<Vec<UserId>>,
    /// The slot of the last row, and its index.
    last: Option<(Slot, usize)>,
    rows: usize,
    current: Vec<Current>,
}

/// A value of a property that a user has until a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// The index of the property.
    pub property: usize,
    /// The user.
    pub user: UserId,
    /// The time of the line, in Unix seconds.
    pub at: i64,
    /// The number of the event of the value.
    pub event: u32,
}

/// An event, and a unit of time.
type Slot = (u32, i64);

/// The unit that stands for no time. It contains no moment.
const UNDATED: i64 = i64::MAX;

impl Gather {
    /// Creates a value without rows. `hourly` and `ever` select bitmaps to mark in addition to
    /// those of day, week and month.
    pub fn new(hourly: bool, ever: bool) -> Self {
        Gather {
            hourly,
            ever,
            zone: Zone::UTC,
            indexes: FxHashMap::default(),
            users: Vec::new(),
            last: None,
            rows: 0,
            current: Vec::new(),
        }
    }

    /// Files rows under the hours, days, weeks and months of a zone in which the store is kept.
    #[must_use]
    pub fn kept_in(self, zone: Zone) -> Self {
        Gather {
            zone: zone.kept(),
            ..self
        }
    }

    /// Adds a row, and the values of properties that its user has according to the row.
    pub fn add(&mut self, row: Row, values: &[Held]) {
        let unit = self
            .zone
            .clock(row.at)
            .div_euclid(if self.hourly { HOUR } else { DAY });
        self.push((row.event, unit), row.user);
        for held in values {
            match held.dating {
                Dating::Undated => self.push((held.event, UNDATED), row.user),
                Dating::Dated => self.push((held.event, unit), row.user),
                Dating::Current => self.current.push(Current {
                    property: held.property,
                    user: row.user,
                    at: row.at,
                    event: held.event,
                }),
            }
        }
        self.rows += 1;
    }

    fn push(&mut self, slot: Slot, user: UserId) {
        let index = match self.last {
            // Most files are sorted by time.
            Some((last, index)) if last == slot => index,
            _ => {
                let next = self.users.len();
                let index = *self.indexes.entry(slot).or_insert(next);
                if index == next {
                    self.users.push(Vec::new());
                }
                self.last = Some((slot, index));
                index
            }
        };
        self.users[index].push(user);
    }

    /// Returns the number of rows since the last [`drain`](Self::drain).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns approximately how many bitmaps the rows change. This and the number of rows
    /// determine the memory use.
    pub fn bitmaps(&self) -> usize {
        self.indexes.len()
    }

    /// Returns all rows, and starts again. This is fast: the result is sorted in
    /// [`Gathered::bits`], which another thread may call.
    ///
    /// # Panics
    /// Panics if the numbers of the events are not those of `names`.
    pub fn drain(&mut self, names: &Names) -> Gathered {
        self.last = None;
        self.rows = 0;
        let mut users = std::mem::take(&mut self.users);
        let mut slots: Vec<(Slot, Vec<UserId>)> = self
            .indexes
            .drain()
            .map(|(slot, index)| (slot, std::mem::take(&mut users[index])))
            .collect();
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        let events = slots
            .chunk_by(|a, b| a.0.0 == b.0.0)
            .map(|slots_of_event| {
                let ((event, _), _) = slots_of_event[0];
                let name = names.get(event).expect("each event has a name");
                (event, name.clone())
            })
            .collect();
        Gathered {
            hourly: self.hourly,
            ever: self.ever,
            zone: self.zone,
            events,
            slots,
            current: std::mem::take(&mut self.current),
        }
    }
}

/// The rows that a [`Gather`] collected: for each event and unit of time, the users in order of
/// arrival.
#[derive(Debug)]
pub struct Gathered {
    hourly: bool,
    ever: bool,
    zone: Zone,
    /// The events, by ascending number.
    events: Vec<(u32, EventName)>,
    /// The users of the events, in ascending order of event and unit of time.
    slots: Vec<(Slot, Vec<UserId>)>,
    current: Vec<Current>,
}

impl Gathered {
    /// Replaces the user of each row, which must be an index into `numbers`, with the number at
    /// that index.
    ///
    /// This is for users with string ids.
    ///
    /// # Panics
    /// Panics if an index is out of range.
    pub fn translate(&mut self, numbers: &[UserId]) {
        self.slots
            .iter_mut()
            .flat_map(|(_, users)| users)
            .chain(self.current.iter_mut().map(|current| &mut current.user))
            .for_each(|user| *user = numbers[*user as usize]);
    }

    /// Takes the values that users have until a newer one, in the order of the lines.
    pub fn take_current(&mut self) -> Vec<Current> {
        std::mem::take(&mut self.current)
    }

    /// Iterates over the numbers of the events and the users of each, by day or without one. Users
    /// may occur several times.
    pub fn users(&self) -> impl Iterator<Item = (u32, &[UserId])> {
        self.slots
            .iter()
            .map(|((event, _), users)| (*event, users.as_slice()))
    }

    /// Returns the first and the last day of the rows, as the time of their beginning.
    pub fn days(&self) -> Option<(i64, i64)> {
        let unit = if self.hourly { HOUR } else { DAY };
        let units = self.slots.iter().map(|((_, at), _)| *at);
        let dated = units.filter(|at| *at != UNDATED);
        let (first, last) = dated.fold(None, |found, at| match found {
            None => Some((at, at)),
            Some((first, last)) => Some((at.min(first), at.max(last))),
        })?;
        let day = |at: i64| (at * unit).div_euclid(DAY) * DAY;
        Some((day(first), day(last)))
    }

    /// Returns all bits that the rows set, in order.
    ///
    /// # Errors
    /// Returns an error if a moment is outside the supported years. No [`Row`] of
    /// [`Records`](crate::ingest::Records) has such a moment.
    pub fn bits(mut self) -> Result<Bits, CalendarError> {
        let mut bits = Bits::default();
        let mut sorter = Sorter::default();
        let zone = self.zone;
        let period = |grain, clock| zone.same_named(Period::containing(grain, clock)?);
        let slots_of_events = self.slots.chunk_by_mut(|a, b| a.0.0 == b.0.0);
        for ((number, event), slots) in self.events.iter().zip(slots_of_events) {
            let grains = [Grain::Day, Grain::WEEK, Grain::Month];
            // The current period of each grain, and its users so far.
            let mut current: [(Option<Period>, Vec<UserId>); 3] = Default::default();
            let mut ever = Vec::new();
            let mut is_dated = false;
            for ((_, unit), users) in slots {
                if *unit == UNDATED {
                    ever.append(users);
                    continue;
                }
                is_dated = true;
                let at = *unit * if self.hourly { HOUR } else { DAY };
                let at = DateTime::from_timestamp(at, 0).ok_or(CalendarError::OutOfRange)?;
                if self.hourly {
                    sorter.sort(users);
                    bits.push(event_in(event, period(Grain::Hour, at)?), users);
                }
                for (grain, (current, of_period)) in grains.into_iter().zip(&mut current) {
                    let new = period(grain, at)?;
                    if let Some(before) = current.replace(new).filter(|before| *before != new) {
                        bits.drain(event_in(event, before), of_period, &mut sorter);
                    }
                    of_period.extend_from_slice(users);
                }
                if self.ever {
                    ever.extend_from_slice(users);
                }
                // Frees the memory of these users, which may be a large part of the total.
                *users = Vec::new();
            }
            for (period, of_period) in &mut current {
                if let Some(period) = period {
                    bits.drain(event_in(event, *period), of_period, &mut sorter);
                }
            }
            if !ever.is_empty() {
                bits.drain(Key::ever(event.clone()), &mut ever, &mut sorter);
            }
            bits.events.extend(is_dated.then_some(*number));
        }
        Ok(bits)
    }
}

fn event_in(event: &EventName, period: Period) -> Key {
    Key::new(event.clone(), period).expect("rows mark hours, days, weeks and months")
}

/// Bits to set: each bitmap once, with its users in ascending order.
#[derive(Debug, Default)]
pub struct Bits {
    /// The keys of the bitmaps, and the end of the users of each.
    keys: Vec<(Key, usize)>,
    users: Vec<UserId>,
    events: Vec<u32>,
}

impl Bits {
    /// Iterates over the keys of the bitmaps and the users to add to each.
    pub fn groups(&self) -> impl Iterator<Item = (&Key, &[UserId])> {
        let mut start = 0;
        self.keys.iter().map(move |(key, end)| {
            let users = &self.users[start..*end];
            start = *end;
            (key, users)
        })
    }

    /// Returns the numbers of the events with dated bits in [`Names`].
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

    /// Adds a bitmap with its sorted users.
    fn push(&mut self, key: Key, users: &[UserId]) {
        self.users.extend_from_slice(users);
        self.keys.push((key, self.users.len()));
    }

    /// Adds a bitmap with its users in any order, and clears `users`.
    fn drain(&mut self, key: Key, users: &mut Vec<UserId>, sorter: &mut Sorter) {
        sorter.sort(users);
        self.push(key, users);
        users.clear();
    }
}

/// Sorts users and removes duplicates.
#[derive(Debug, Default)]
struct Sorter {
    /// Memory that is reused.
    words: Vec<u64>,
}

/// The maximum number of words, of 64 users each, per user to sort. Up to this number, it is faster
/// to set bits than to compare users.
const WORDS_PER_USER: usize = 4;

impl Sorter {
    fn sort(&mut self, users: &mut Vec<UserId>) {
        if users.is_sorted_by(|a, b| a < b) {
            return;
        }
        let (Some(least), Some(most)) = (users.iter().min(), users.iter().max()) else {
            return;
        };
        let first = *least / 64;
        let last = *most / 64;
        let words = (last - first) as usize + 1;
        if words > users.len().saturating_mul(WORDS_PER_USER) {
            users.sort_unstable();
            users.dedup();
            return;
        }
        self.words.clear();
        self.words.resize(words, 0);
        for user in users.iter() {
            self.words[(user / 64 - first) as usize] |= 1 << (user % 64);
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
        fn users_are_sorted_without_duplicates(
            users in prop::collection::vec(prop_oneof![0_u32..300, 70_000_u32..70_900, (UserId::MAX - 99)..=UserId::MAX], 0..90),
            few in prop::collection::vec(any::<UserId>(), 0..9),
        ) {
            let mut sorter = Sorter::default();
            for users in [users.clone(), few, users.into_iter().filter(|user| *user < 300).collect()] {
                let mut sorted = users.clone();
                sorter.sort(&mut sorted);
                let expected: std::collections::BTreeSet<UserId> = users.into_iter().collect();
                prop_assert_eq!(sorted, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
