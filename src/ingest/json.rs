//! Reads selected fields of a JSON object without parsing the rest.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::ingest::layout::Field;

/// The value of a field.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scalar<'a> {
    /// The object does not have the field.
    #[default]
    Missing,
    Null,
    Bool(bool),
    Whole(i64),
    /// A number that is not a whole number, or is out of range.
    Number,
    Text(Cow<'a, str>),
    /// A list or an object.
    Other,
}

/// The fields to read: fields of the object itself, and fields of objects nested in it.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The names of fields, and their indexes in the result.
    names: Vec<(String, usize)>,
    nested: Vec<(String, Wanted)>,
    /// Whether a field is wanted itself and also for a field in it. Such fields cannot be read in
    /// one pass.
    overlaps: bool,
}

impl Wanted {
    /// Creates a value for some fields. Also returns the index of each field in the result. Equal
    /// fields have the same index.
    pub fn of<'a>(fields: impl IntoIterator<Item = &'a Field>) -> (Self, Vec<usize>) {
        let mut wanted = Wanted::default();
        let mut paths = Vec::new();
        let mut indexes = Vec::new();
        for field in fields {
            let known = paths.iter().position(|path| *path == &field.path);
            indexes.push(known.unwrap_or_else(|| {
                wanted.add(&field.path.0, field.path.1.as_deref(), paths.len());
                paths.push(&field.path);
                paths.len() - 1
            }));
        }
        wanted.overlaps = wanted
            .names
            .iter()
            .any(|(name, _)| wanted.nested.iter().any(|(parent, _)| parent == name));
        (wanted, indexes)
    }

    fn add(&mut self, name: &str, child: Option<&str>, index: usize) {
        let Some(child) = child else {
            return self.names.push((name.to_owned(), index));
        };
        let parent = self.nested.iter().position(|(parent, _)| parent == name);
        let parent = parent.unwrap_or_else(|| {
            self.nested.push((name.to_owned(), Wanted::default()));
            self.nested.len() - 1
        });
        self.nested[parent].1.add(child, None, index);
    }

    /// Reads the fields of one object. The result has `len` values. Returns `None` if the line must
    /// be parsed in another way, which is slower and reports errors.
    pub fn pick<'a>(&self, line: &'a [u8], len: usize) -> Option<Vec<Scalar<'a>>> {
        if self.overlaps {
            return None;
        }
        let mut found = vec![Scalar::Missing; len];
        let mut reader = serde_json::Deserializer::from_slice(line);
        let is_object = PickFields {
            wanted: self,
            found: &mut found,
        }
        .deserialize(&mut reader)
        .ok()?;
        (is_object && reader.end().is_ok()).then_some(found)
    }
}

/// Returns a field of a parsed object.
pub fn field<'a>(object: &'a Map<String, Value>, field: &Field) -> Option<&'a Value> {
    let value = object.get(&field.path.0)?;
    match &field.path.1 {
        Some(child) => value.as_object()?.get(child),
        None => Some(value),
    }
}

struct PickFields<'w, 'f, 'de> {
    wanted: &'w Wanted,
    found: &'f mut [Scalar<'de>],
}

/// Compares the name of a field with the wanted names.
struct MatchName<'w>(&'w Wanted);

enum Match<'w> {
    /// A wanted field, with its index in the result.
    Field(usize),
    /// An object with wanted fields.
    Nested(&'w Wanted),
    Nothing,
}

impl<'de, 'w> DeserializeSeed<'de> for MatchName<'w> {
    type Value = Match<'w>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Match<'w>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for MatchName<'w> {
    type Value = Match<'w>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Match<'w>, E> {
        if let Some((_, index)) = self.0.names.iter().find(|(wanted, _)| wanted == name) {
            return Ok(Match::Field(*index));
        }
        let nested = self.0.nested.iter().find(|(parent, _)| parent == name);
        Ok(nested.map_or(Match::Nothing, |(_, wanted)| Match::Nested(wanted)))
    }
}

impl<'de> DeserializeSeed<'de> for PickFields<'_, '_, 'de> {
    /// Whether the value is an object.
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PickFields<'_, '_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while let Some(name) = map.next_key_seed(MatchName(self.wanted))? {
            match name {
                Match::Field(index) => self.found[index] = map.next_value_seed(TakeScalar)?,
                Match::Nested(wanted) => {
                    // If two fields have the same name, the last one counts, with all its fields.
                    for (_, index) in &wanted.names {
                        self.found[*index] = Scalar::Missing;
                    }
                    map.next_value_seed(PickFields {
                        wanted,
                        found: &mut *self.found,
                    })?;
                }
                Match::Nothing => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
}

struct TakeScalar;

impl<'de> DeserializeSeed<'de> for TakeScalar {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TakeScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Whole(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar<'de>, E> {
        Ok(i64::try_from(number).map_or(Scalar::Number, Scalar::Whole))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Number)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
