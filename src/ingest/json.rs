//! Reads selected fields of a JSON object without parsing the rest.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::ingest::place::Field;

/// The value of a field.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scalar<'a> {
    /// The line does not have the field.
    #[default]
    Missing,
    Null,
    Bool(bool),
    Whole(i64),
    /// A number that is not a whole number, or is out of range, as it is written.
    Number(String),
    Text(Cow<'a, [u8]>),
    /// A moment, in Unix seconds.
    Moment(i64),
    /// A list or an object.
    Other,
    /// Only the parsed object tells the value.
    Unread,
}

impl Scalar<'static> {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Scalar::Null,
            Value::Bool(value) => Scalar::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Scalar::Whole(number),
                None => Scalar::Number(number.to_string()),
            },
            Value::String(text) => Scalar::Text(Cow::Owned(text.clone().into_bytes())),
            Value::Array(_) | Value::Object(_) => Scalar::Other,
        }
    }
}

/// The fields to read: fields of the object itself, and fields of objects nested in it.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The names of fields, and their indexes in the result.
    names: Vec<(String, usize)>,
    nested: Vec<(String, Wanted)>,
}

impl Wanted {
    /// Creates a value for some fields. Also returns the index of each field in the result. Equal
    /// fields have the same index. Returns `None` if the fields cannot be read in one pass: if one
    /// is wanted itself and also for a field in it.
    pub fn of<'a>(fields: impl IntoIterator<Item = &'a Field>) -> Option<(Self, Vec<usize>)> {
        let mut wanted = Wanted::default();
        let mut paths = Vec::new();
        let mut indexes = Vec::new();
        for field in fields {
            let known = paths.iter().position(|path| *path == &field.path);
            indexes.push(match known {
                Some(index) => index,
                None => {
                    wanted.add(&field.path, paths.len())?;
                    paths.push(&field.path);
                    paths.len() - 1
                }
            });
        }
        (!wanted.overlaps()).then_some((wanted, indexes))
    }

    fn add(&mut self, path: &[String], index: usize) -> Option<()> {
        let (name, rest) = path.split_first()?;
        if rest.is_empty() {
            self.names.push((name.clone(), index));
            return Some(());
        }
        let parent = self.nested.iter().position(|(parent, _)| parent == name);
        let parent = parent.unwrap_or_else(|| {
            self.nested.push((name.clone(), Wanted::default()));
            self.nested.len() - 1
        });
        self.nested[parent].1.add(rest, index)
    }

    fn overlaps(&self) -> bool {
        self.nested.iter().any(|(parent, wanted)| {
            self.names.iter().any(|(name, _)| name == parent) || wanted.overlaps()
        })
    }

    /// Sets all fields of a result.
    fn set(&self, found: &mut [Scalar<'_>], value: &Scalar<'static>) {
        for (_, index) in &self.names {
            found[*index] = value.clone();
        }
        for (_, wanted) in &self.nested {
            wanted.set(found, value);
        }
    }

    /// Reads the fields of one object. The result has `len` values. Returns `None` if the line must
    /// be parsed in another way, which is slower and reports errors.
    pub fn pick<'a>(&self, line: &'a [u8], len: usize) -> Option<Vec<Scalar<'a>>> {
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
pub fn field(object: &Map<String, Value>, path: &[String]) -> Scalar<'static> {
    value(object, path).map_or(Scalar::Missing, |value| Scalar::of(&value))
}

fn value<'a>(object: &'a Map<String, Value>, path: &[String]) -> Option<Cow<'a, Value>> {
    let (first, rest) = path.split_first()?;
    let mut value = Cow::Borrowed(object.get(first)?);
    for name in rest {
        value = match value {
            Cow::Borrowed(value) => step(value, name)?,
            Cow::Owned(value) => Cow::Owned(step(&value, name)?.into_owned()),
        };
    }
    Some(value)
}

/// Returns the field of a value: of an object, of an object written as text, or of a list of keys
/// and values, such as `[{"key": "plan", "value": {"string_value": "pro"}}]` in Google Analytics.
pub fn step<'a>(value: &'a Value, name: &str) -> Option<Cow<'a, Value>> {
    match value {
        Value::Object(object) => object.get(name).map(Cow::Borrowed),
        Value::String(text) => {
            let parsed = parsed(text)?;
            Some(Cow::Owned(step(&parsed, name)?.into_owned()))
        }
        Value::Array(list) => {
            let entry = list.iter().filter_map(Value::as_object).find(|entry| {
                ["key", "name"]
                    .iter()
                    .any(|key| entry.get(*key).and_then(Value::as_str) == Some(name))
            })?;
            let value = entry.get("value")?;
            let is_value =
                |(name, value): &(&String, &Value)| name.ends_with("_value") && !value.is_null();
            match value.as_object() {
                Some(kinds) => kinds
                    .iter()
                    .find(is_value)
                    .map(|(_, value)| Cow::Borrowed(value)),
                None => Some(Cow::Borrowed(value)),
            }
        }
        _ => None,
    }
}

/// Returns the object that a value is, or that its text is.
pub fn object(value: &Value) -> Option<Cow<'_, Map<String, Value>>> {
    match value {
        Value::Object(object) => Some(Cow::Borrowed(object)),
        Value::String(text) => match parsed(text)? {
            Value::Object(object) => Some(Cow::Owned(object)),
            _ => None,
        },
        _ => None,
    }
}

fn parsed(text: &str) -> Option<Value> {
    let is_json = text.trim_start().starts_with(['{', '[']);
    is_json.then(|| serde_json::from_str(text).ok()).flatten()
}

/// Returns a field of the object in the cell of a CSV file.
pub fn cell_field(cell: &[u8], path: &[String]) -> Scalar<'static> {
    let Some(value) = std::str::from_utf8(cell).ok().and_then(parsed) else {
        return Scalar::Missing;
    };
    let wrapped = Map::from_iter([(String::new(), value)]);
    field(&wrapped, &[&[String::new()], path].concat())
}

/// Returns the object at a path, which may be the whole object.
pub fn object_at<'a>(
    object: &'a Map<String, Value>,
    path: &[String],
) -> Option<Cow<'a, Map<String, Value>>> {
    if path.is_empty() {
        return Some(Cow::Borrowed(object));
    }
    match value(object, path)? {
        Cow::Borrowed(value) => self::object(value),
        Cow::Owned(value) => self::object(&value).map(|object| Cow::Owned(object.into_owned())),
    }
}

/// Returns the object in the cell of a CSV file, at a path.
pub fn cell_object(cell: &[u8], path: &[String]) -> Option<Map<String, Value>> {
    let value = std::str::from_utf8(cell).ok().and_then(parsed)?;
    object_at(value.as_object()?, path).map(Cow::into_owned)
}

/// Calls `found` with the name and value of each field of an object that is not an object itself.
/// The names of nested fields have dots.
pub fn leaves(
    object: &Map<String, Value>,
    parent: &str,
    found: &mut dyn FnMut(&str, Scalar<'static>),
) {
    for (key, value) in object {
        let name = match parent {
            "" => key.clone(),
            _ => format!("{parent}.{key}"),
        };
        match self::object(value) {
            Some(inner) => leaves(&inner, &name, found),
            None => found(&name, Scalar::of(value)),
        }
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
                    wanted.set(self.found, &Scalar::Missing);
                    let is_object = map.next_value_seed(PickFields {
                        wanted,
                        found: &mut *self.found,
                    })?;
                    if !is_object {
                        wanted.set(self.found, &Scalar::Unread);
                    }
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
        Ok(Scalar::Text(Cow::Borrowed(text.as_bytes())))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.as_bytes().to_vec())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Whole(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar<'de>, E> {
        Ok(i64::try_from(number).map_or(Scalar::Unread, Scalar::Whole))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Unread)
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
