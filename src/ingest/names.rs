//! Assigns numbers to event names, so that each name is checked only once.

use rustc_hash::FxHashMap;

use crate::ingest::field::utf8;
use crate::sets::{
    EventName, EventNameError, Interner, StringList, UserId, parse_numeric_id, parse_string_id,
};

/// The events of an import, and the properties that become events.
#[derive(Debug)]
pub struct Names {
    /// The events, by number.
    list: Vec<EventName>,
    /// The numbers of the events, by name.
    known: FxHashMap<Box<[u8]>, u32>,
    properties: Vec<Property>,
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

/// A column whose values become undated events, such as `plan:pro`.
#[derive(Debug)]
pub struct Property {
    /// The name as requested: the part before the colon.
    pub name: String,
    /// The number of rows with a new value after the maximum number of values was reached.
    pub beyond: u64,
    /// The number of rows whose value cannot become an event name: it is too long, contains control
    /// characters, or is a list or an object.
    pub unusable: u64,
    known: FxHashMap<Box<[u8]>, u32>,
}

impl Names {
    /// Creates a value without events. `max_values` is the maximum number of different values of
    /// each property that become events.
    ///
    /// # Errors
    /// Returns an error if an event name cannot start with the name of a property.
    pub fn new(properties: &[String], max_values: usize) -> Result<Self, EventNameError> {
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
            max_values,
            string_ids: None,
        })
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
    pub(super) fn user(&mut self, field: &[u8]) -> Result<UserId, String> {
        match &mut self.string_ids {
            None => parse_numeric_id(field).map_err(|error| error.to_string()),
            Some(string_ids) => {
                let id = parse_string_id(utf8(field)?).map_err(|error| error.to_string())?;
                let row = UserId::try_from(string_ids.latest.len())
                    .map_err(|_| "too many users at once".to_owned())?;
                string_ids.latest.push(id);
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
            // An earlier import may have had other properties.
            let property = self
                .properties
                .iter()
                .position(|property| property.name == *name);
            if let Some(property) = property {
                for value in values {
                    self.property(property, value.as_bytes());
                }
            }
        }
    }

    /// Returns the number of the event whose name is in a field.
    pub(super) fn event(&mut self, field: &[u8]) -> Result<u32, String> {
        if let Some(number) = self.known.get(field) {
            return Ok(*number);
        }
        let name = EventName::new(utf8(field)?).map_err(|error| error.to_string())?;
        let number = self.number(name);
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
        if property.known.len() >= self.max_values {
            property.beyond += 1;
            return None;
        }
        let number = self.number(name);
        self.properties[index].known.insert(value.into(), number);
        Some(number)
    }

    /// Counts a value of a property that cannot become an event.
    pub(super) fn unusable(&mut self, index: usize) {
        self.properties[index].unusable += 1;
    }

    /// Assigns a number to a name.
    fn number(&mut self, name: EventName) -> u32 {
        let number =
            u32::try_from(self.list.len()).expect("4 billion names would not fit into memory");
        self.list.push(name);
        number
    }
}

impl Property {
    /// Returns the number of different values that became events.
    pub fn values(&self) -> usize {
        self.known.len()
    }
}
