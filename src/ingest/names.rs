//! Event names that were met, each checked once and known by its number from then on.

use rustc_hash::FxHashMap;

use crate::ingest::field::utf8;
use crate::sets::{EventName, EventNameError, UserId, user_number, user_text};

/// The events of an import, and the properties that become events.
#[derive(Debug)]
pub struct Names {
    list: Vec<EventName>,
    known: FxHashMap<Box<[u8]>, u32>,
    properties: Vec<Property>,
    most: usize,
    /// Where users are called by texts, those that were met.
    texts: Option<Texts>,
}

/// Texts in the order in which they were met, each with its place.
#[derive(Debug, Default)]
struct Texts {
    places: FxHashMap<Box<str>, UserId>,
    list: Vec<String>,
}

/// A column whose values become undated events: `plan:pro`.
#[derive(Debug)]
pub struct Property {
    /// As it was asked for; the part before the colon.
    pub name: String,
    /// Rows whose value was one too many.
    pub beyond: u64,
    /// Rows whose value makes no event name: too long, or with control characters, or a list or object.
    pub unusable: u64,
    known: FxHashMap<Box<[u8]>, u32>,
}

impl Names {
    /// No events yet; `most` is how many different values of each property become events.
    ///
    /// # Errors
    /// When a property's name cannot begin an event's.
    pub fn new(properties: &[String], most: usize) -> Result<Self, EventNameError> {
        let properties = properties.iter().map(|name| {
            EventName::new(&format!("{name}:x"))?;
            Ok(Property { name: name.clone(), beyond: 0, unusable: 0, known: FxHashMap::default() })
        });
        let properties = properties.collect::<Result<_, EventNameError>>()?;
        Ok(Names { list: Vec::new(), known: FxHashMap::default(), properties, most, texts: None })
    }

    /// From now on users are texts. A row's user is then the place of his text among those that were met since they were
    /// last [taken](Self::take_texts).
    pub fn call_users_by_texts(&mut self) {
        self.texts.get_or_insert_default();
    }

    /// The texts that users were called by since the last time, each once; `None` where users are numbers.
    pub fn take_texts(&mut self) -> Option<Vec<String>> {
        self.texts.as_mut().map(|texts| std::mem::take(texts).list)
    }

    /// A user, by number or text.
    pub(super) fn user(&mut self, field: &[u8]) -> Result<UserId, String> {
        let Some(texts) = &mut self.texts else { return user_number(field).map_err(|error| error.to_string()) };
        let text = user_text(utf8(field)?).map_err(|error| error.to_string())?;
        if let Some(place) = texts.places.get(text) {
            return Ok(*place);
        }
        let place = UserId::try_from(texts.list.len()).map_err(|_| "too many users at once".to_owned())?;
        texts.places.insert(text.into(), place);
        texts.list.push(text.to_owned());
        Ok(place)
    }

    /// The event of a number that [`Records`](crate::ingest::Records) gave out.
    pub fn get(&self, number: u32) -> Option<&EventName> {
        self.list.get(number as usize)
    }

    /// The properties, in the order they were asked for.
    pub fn properties(&self) -> &[Property] {
        &self.properties
    }

    /// The values of each property that became events, to go on with in a later import.
    pub fn values(&self) -> Vec<(String, Vec<String>)> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let values = |property: &Property| property.known.keys().map(|value| text(value)).collect();
        self.properties.iter().map(|property| (property.name.clone(), values(property))).collect()
    }

    /// Takes in values that became events earlier, so that no others take their place.
    pub fn remember(&mut self, values: &[(String, Vec<String>)]) {
        for (name, values) in values {
            if let Some(place) = self.properties.iter().position(|property| property.name == *name) {
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

    /// The event of a property's value; `None` where there is none to mark, which is counted when it is worth saying.
    pub(super) fn property(&mut self, place: usize, value: &[u8]) -> Option<u32> {
        let value = value.trim_ascii();
        let property = self.properties.get_mut(place).filter(|_| !value.is_empty())?;
        if let Some(number) = property.known.get(value) {
            return Some(*number);
        }
        let name =
            std::str::from_utf8(value).ok().and_then(|text| EventName::new(&format!("{}:{text}", property.name)).ok());
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
        // More names than that do not fit into memory.
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(name);
        number
    }
}

impl Property {
    /// How many different values became events.
    pub fn values(&self) -> usize {
        self.known.len()
    }
}
