//! The event names seen so far. Each is checked once, and identified by its number from then on.

use rustc_hash::FxHashMap;

use crate::ingest::field::utf8;
use crate::sets::{
    EventName, EventNameError, Interner, StringList, UserId, parse_numeric_id, parse_string_id,
};

/// The events of an import, and the properties that become events.
#[derive(Debug)]
pub struct Names {
    list: Vec<EventName>,
    known: FxHashMap<Box<[u8]>, u32>,
    properties: Vec<Property>,
    most: usize,
    /// The string ids seen so far, if users have string ids.
    called: Option<Called>,
}

/// The string ids of users.
#[derive(Debug, Default)]
struct Called {
    /// The maximum memory for `texts`, in bytes, before they are dropped.
    remembered: usize,
    /// The string ids since the last call of [`Names::take_texts`].
    latest: StringList,
    /// All earlier string ids, each once.
    texts: Interner,
}

/// The string ids of the users of rows.
#[derive(Debug, Default)]
pub(crate) struct RowTexts {
    /// For each user of a row, the index of its string id among all string ids so far.
    pub places: Vec<UserId>,
    /// The index of the first new string id. If it is 0, earlier indexes are no longer valid.
    pub first: usize,
    /// The new string ids, in the order of their indexes.
    pub new: StringList,
}

/// A column whose values become undated events: `plan:pro`.
#[derive(Debug)]
pub struct Property {
    /// The name as requested: the part before the colon.
    pub name: String,
    /// Rows whose value was beyond the maximum number of values.
    pub beyond: u64,
    /// Rows whose value cannot become an event name: it is too long, contains control characters,
    /// or is a list or an object.
    pub unusable: u64,
    known: FxHashMap<Box<[u8]>, u32>,
}

impl Names {
    /// Creates a value without events. `most` is the maximum number of different values of each
    /// property that become events.
    ///
    /// # Errors
    /// Returns an error if an event name cannot start with the name of a property.
    pub fn new(properties: &[String], most: usize) -> Result<Self, EventNameError> {
        let properties = properties.iter().map(|name| {
            EventName::new(&format!("{name}:x"))?;
            Ok(Property {
                name: name.clone(),
                beyond: 0,
                unusable: 0,
                known: FxHashMap::default(),
            })
        });
        let properties = properties.collect::<Result<_, EventNameError>>()?;
        Ok(Names {
            list: Vec::new(),
            known: FxHashMap::default(),
            properties,
            most,
            called: None,
        })
    }

    /// Reads users as string ids from now on. The user of a row is then an index into the string
    /// ids of the rows that belong together.
    ///
    /// `remembered` is the maximum memory for the string ids of earlier rows, in bytes.
    pub fn call_users_by_texts(&mut self, remembered: usize) {
        self.called = Some(Called {
            remembered,
            ..Called::default()
        });
    }

    /// Returns the total length of the string ids of the latest rows, in bytes.
    pub fn text_bytes(&self) -> usize {
        self.called
            .as_ref()
            .map_or(0, |called| called.latest.bytes())
    }

    /// Returns the string ids of users since the last call, or `None` if users are numbers.
    pub(crate) fn take_texts(&mut self) -> Option<RowTexts> {
        let Called {
            remembered,
            latest,
            texts,
        } = self.called.as_mut()?;
        if texts.memory() > *remembered {
            *texts = Interner::default();
        }
        let first = texts.len();
        let places = texts.insert_all(latest.iter());
        latest.clear();
        let new = texts.from(first);
        Some(RowTexts { places, first, new })
    }

    /// Reads a user from a field, which is a number or a string id.
    pub(super) fn user(&mut self, field: &[u8]) -> Result<UserId, String> {
        match &mut self.called {
            None => parse_numeric_id(field).map_err(|error| error.to_string()),
            Some(called) => {
                let text = parse_string_id(utf8(field)?).map_err(|error| error.to_string())?;
                let row = UserId::try_from(called.latest.len())
                    .map_err(|_| "too many users at once".to_owned())?;
                called.latest.push(text);
                Ok(row)
            }
        }
    }

    /// Returns the event with a number that [`Records`](crate::ingest::Records) assigned.
    pub fn get(&self, number: u32) -> Option<&EventName> {
        self.list.get(number as usize)
    }

    /// Returns the properties, in the requested order.
    pub fn properties(&self) -> &[Property] {
        &self.properties
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
            if let Some(place) = self
                .properties
                .iter()
                .position(|property| property.name == *name)
            {
                for value in values {
                    self.property(place, value.as_bytes());
                }
            }
        }
    }

    pub(super) fn event(&mut self, field: &[u8]) -> Result<u32, String> {
        if let Some(number) = self.known.get(field) {
            return Ok(*number);
        }
        let name = EventName::new(utf8(field)?).map_err(|error| error.to_string())?;
        let number = self.number(name);
        self.known.insert(field.into(), number);
        Ok(number)
    }

    /// Returns the event of a property's value, or `None` if there is no event to mark. Cases worth
    /// reporting are counted.
    pub(super) fn property(&mut self, place: usize, value: &[u8]) -> Option<u32> {
        let value = value.trim_ascii();
        let property = self
            .properties
            .get_mut(place)
            .filter(|_| !value.is_empty())?;
        if let Some(number) = property.known.get(value) {
            return Some(*number);
        }
        let name = std::str::from_utf8(value)
            .ok()
            .and_then(|text| EventName::new(&format!("{}:{text}", property.name)).ok());
        let Some(name) = name else {
            property.unusable += 1;
            return None;
        };
        if property.known.len() >= self.most {
            property.beyond += 1;
            return None;
        }
        let number = self.number(name);
        self.properties[place].known.insert(value.into(), number);
        Some(number)
    }

    pub(super) fn unusable(&mut self, place: usize) {
        if let Some(property) = self.properties.get_mut(place) {
            property.unusable += 1;
        }
    }

    fn number(&mut self, name: EventName) -> u32 {
        // More names than that would not fit into memory.
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(name);
        number
    }
}

impl Property {
    /// Returns how many different values became events.
    pub fn values(&self) -> usize {
        self.known.len()
    }
}
