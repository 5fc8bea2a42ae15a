//! Assigns numbers to event names, so that each name is checked only once.

use rustc_hash::FxHashMap;

use crate::ingest::field::{excerpt, utf8};
use crate::ingest::notes::Notes;
use crate::ingest::property::{Dating, Wish, matches};
use crate::sets::{EventName, EventNameError, Interner, StringList, UserId, UserIdError};
use crate::values::{Spelling, clean, event_name, numeric_id, string_id};

/// The maximum number of properties that patterns stand for.
const MAX_MATCHING: usize = 200;

/// The events of an import, and the properties that become events.
#[derive(Debug)]
pub struct Names {
    /// The events, by number.
    list: Vec<EventName>,
    /// The numbers of the events, by name as it is written.
    known: FxHashMap<Box<[u8]>, u32>,
    /// The numbers of the events, by name.
    numbers: FxHashMap<EventName, u32>,
    /// The requested properties, and after them those that a pattern stands for.
    properties: Vec<Property>,
    notes: Notes,
    /// The maximum number of values per property.
    max_values: usize,
    /// The string ids so far, if users have string ids.
    string_ids: Option<StringIds>,
}

/// The string ids of users.
#[derive(Debug, Default)]
struct StringIds {
    /// The maximum memory for `earlier`, in bytes, before they are dropped.
    max_memory: usize,
    /// The string ids since the last call of [`Names::take_string_ids`].
    latest: StringList,
    /// All earlier string ids, each once.
    earlier: Interner,
}

/// The string ids of the users of rows.
#[derive(Debug, Default)]
pub(crate) struct RowIds {
    /// For each user of a row, the index of its string id among all string ids so far.
    pub indexes: Vec<UserId>,
    /// The index of the first new string id. If it is 0, earlier indexes are no longer valid.
    pub first: usize,
    /// The new string ids, in the order of their indexes.
    pub new: StringList,
}

/// A column whose values become events, such as `plan:pro`.
#[derive(Debug)]
pub struct Property {
    /// The name as requested, or that a pattern stands for: the part before the colon.
    pub name: String,
    /// When users have a value.
    pub dating: Dating,
    /// Whether the name is a pattern.
    pub is_pattern: bool,
    /// The number of rows with a value.
    pub rows: u64,
    /// The number of rows with a new value after the maximum number of values was reached.
    pub beyond: u64,
    /// The number of rows whose value cannot become an event name: it is too long, contains control
    /// characters, or is a list or an object.
    pub unusable: u64,
    known: FxHashMap<Box<[u8]>, u32>,
}

impl Property {
    fn new(name: &str, dating: Dating) -> Self {
        Property {
            name: name.to_owned(),
            dating,
            is_pattern: name.contains('*'),
            rows: 0,
            beyond: 0,
            unusable: 0,
            known: FxHashMap::default(),
        }
    }

    /// Returns the number of different values that became events.
    pub fn values(&self) -> usize {
        self.known.len()
    }

    /// Returns the numbers of the events that values became.
    pub fn events(&self) -> impl Iterator<Item = u32> {
        self.known.values().copied()
    }
}

impl Names {
    /// Creates a value without events. `max_values` is the maximum number of different values of
    /// each property that become events.
    ///
    /// # Errors
    /// Returns an error if an event name cannot start with the name of a property.
    pub fn new(properties: &[Wish], max_values: usize) -> Result<Self, EventNameError> {
        let properties = properties.iter().map(|wish| {
            EventName::new(&wish.name)?;
            EventName::new(&format!("{}:x", wish.name))?;
            Ok(Property::new(&wish.name, wish.dating))
        });
        let properties = properties.collect::<Result<_, EventNameError>>()?;
        Ok(Names {
            list: Vec::new(),
            known: FxHashMap::default(),
            numbers: FxHashMap::default(),
            properties,
            notes: Notes::default(),
            max_values,
            string_ids: None,
        })
    }

    /// Returns what was noticed while values were read.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    pub(super) fn notes_mut(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Reads users as string ids from now on. The user of a row is then an index into the string
    /// ids of the rows that belong together.
    ///
    /// `max_memory` is the maximum memory for the string ids of earlier rows, in bytes.
    pub fn use_string_ids(&mut self, max_memory: usize) {
        self.string_ids = Some(StringIds {
            max_memory,
            ..StringIds::default()
        });
    }

    /// Returns the total length of the string ids of the latest rows, in bytes.
    pub fn string_id_bytes(&self) -> usize {
        self.string_ids
            .as_ref()
            .map_or(0, |string_ids| string_ids.latest.bytes())
    }

    /// Returns the string ids of users since the last call, or `None` if users have numeric ids.
    pub(crate) fn take_string_ids(&mut self) -> Option<RowIds> {
        let StringIds {
            max_memory,
            latest,
            earlier,
        } = self.string_ids.as_mut()?;
        if earlier.memory() > *max_memory {
            *earlier = Interner::default();
        }
        let first = earlier.len();
        let indexes = earlier.insert_all(latest.iter());
        latest.clear();
        let new = earlier.from(first);
        Some(RowIds {
            indexes,
            first,
            new,
        })
    }

    /// Parses the user in a field. If users have string ids, returns the index of the row.
    pub(super) fn user(&mut self, field: &[u8]) -> Result<UserId, UserIdError> {
        let Some(string_ids) = &mut self.string_ids else {
            let user = numeric_id(field)?;
            match user.spelling {
                Spelling::Plain => {}
                Spelling::LeadingZeros => self.notes.leading_zeros.add(field),
                Spelling::Float => self.notes.floats.add(field),
            }
            return Ok(user.id);
        };
        let text = std::str::from_utf8(field).map_err(|_| UserIdError::NotUtf8(excerpt(field)))?;
        let id = string_id(text)?;
        let row = UserId::try_from(string_ids.latest.len())
            .expect("rows are written before there are four billion of them");
        string_ids.latest.push(&id);
        if matches!(id, std::borrow::Cow::Owned(_)) {
            self.notes.composed.add(field);
        }
        if id.as_bytes()[0].is_ascii_digit()
            && id.ends_with('0')
            && numeric_id(id.as_bytes()).is_ok_and(|user| user.spelling == Spelling::Float)
        {
            self.notes.floats.add(field);
        }
        Ok(row)
    }

    /// Returns the event with a number that [`Records`](crate::ingest::Records) assigned.
    pub fn get(&self, number: u32) -> Option<&EventName> {
        self.list.get(number as usize)
    }

    /// Returns the properties, in the requested order.
    pub fn properties(&self) -> &[Property] {
        &self.properties
    }

    /// Returns the events that values of properties became, with their numbers and the index of
    /// the property.
    pub fn held(&self) -> Vec<(u32, EventName, usize)> {
        let held = |(index, property): (usize, &Property)| {
            let events = property.known.values();
            let named = events.map(|event| (*event, self.list[*event as usize].clone(), index));
            named.collect::<Vec<_>>()
        };
        self.properties.iter().enumerate().flat_map(held).collect()
    }

    /// Returns the values of each property that became events, so that a later import can resume
    /// with them.
    pub fn values(&self) -> Vec<(String, Vec<String>)> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let values = |property: &Property| property.known.keys().map(|value| text(value)).collect();
        self.properties
            .iter()
            .map(|property| (property.name.clone(), values(property)))
            .collect()
    }

    /// Adds values that became events earlier, so that no other values take their place.
    pub fn remember(&mut self, values: &[(String, Vec<String>)]) {
        for (name, values) in values {
            // An earlier import may have had other properties.
            let property = self.position(name).or_else(|| {
                let pattern =
                    |property: &Property| property.is_pattern && matches(&property.name, name);
                let pattern = self.properties.iter().position(pattern)?;
                self.matching(pattern, name)
            });
            if let Some(property) = property {
                for value in values {
                    self.property(property, value.as_bytes());
                }
            }
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.properties
            .iter()
            .position(|property| property.name == name)
    }

    /// Returns the index of a property that a pattern stands for. Returns `None` if there are too
    /// many, or if an event name cannot start with its name.
    pub(super) fn matching(&mut self, pattern: usize, name: &str) -> Option<usize> {
        if let Some(index) = self.position(name) {
            return Some(index);
        }
        let is_valid = EventName::new(&format!("{name}:x")).is_ok();
        if !is_valid || self.properties.len() >= MAX_MATCHING {
            self.properties[pattern].beyond += 1;
            return None;
        }
        let dating = self.properties[pattern].dating;
        self.properties.push(Property::new(name, dating));
        Some(self.properties.len() - 1)
    }

    /// Returns the number of the event whose name is in a field.
    pub(super) fn event(&mut self, field: &[u8]) -> Result<u32, String> {
        if let Some(number) = self.known.get(field) {
            return Ok(*number);
        }
        let text = utf8(field)?;
        let name = event_name(text).map_err(|error| error.to_string())?;
        let number = self.number(name.clone());
        if self.known.values().any(|known| *known == number) {
            self.notes.merged(name.as_str());
        }
        self.known.insert(field.into(), number);
        Ok(number)
    }

    /// Returns the number of the event of a property's value, or `None` if there is no event to
    /// mark. Counts values that cannot become events.
    pub(super) fn property(&mut self, index: usize, value: &[u8]) -> Option<u32> {
        let value = value.trim_ascii();
        if value.is_empty() {
            return None;
        }
        let property = &mut self.properties[index];
        property.rows += 1;
        if let Some(number) = property.known.get(value) {
            return Some(*number);
        }
        let text = std::str::from_utf8(value).ok().map(clean);
        let name = text
            .as_ref()
            .filter(|text| !text.is_empty())
            .and_then(|text| EventName::new(&format!("{}:{text}", property.name)).ok());
        let (Some(name), Some(text)) = (name, text) else {
            property.unusable += 1;
            return None;
        };
        if let Some(number) = property.known.get(text.as_bytes()) {
            return Some(*number);
        }
        if property.known.len() >= self.max_values {
            property.beyond += 1;
            return None;
        }
        let number = self.number(name);
        self.properties[index]
            .known
            .insert(text.as_bytes().into(), number);
        Some(number)
    }

    /// Counts a value of a property that cannot become an event.
    pub(super) fn unusable(&mut self, index: usize) {
        self.properties[index].unusable += 1;
    }

    /// Assigns a number to a name.
    fn number(&mut self, name: EventName) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number =
            u32::try_from(self.list.len()).expect("4 billion names would not fit into memory");
        self.numbers.insert(name.clone(), number);
        self.list.push(name);
        number
    }
}
