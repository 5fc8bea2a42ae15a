//! The wanted fields of one JSON object, without the rest of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::ingest::layout::Field;

/// A value, as far as it is of use.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scalar<'a> {
    /// There is no such field.
    #[default]
    Missing,
    Null,
    Bool(bool),
    Whole(i64),
    /// A number that is not a whole one, or too great.
    Number,
    Text(Cow<'a, str>),
    /// A list or an object.
    Other,
}

/// What to look for: names of the object's own fields and of fields of objects in it, and where to
/// put what is found.
#[derive(Debug, Default)]
pub struct Wanted {
    names: Vec<(String, usize)>,
    inside: Vec<(String, Wanted)>,
    /// Whether a field is wanted itself and also for what is in it, of which one reading finds only
    /// one.
    both: bool,
}

impl Wanted {
    /// These fields. Each gets a place among what is found, and equal ones the same: the places are
    /// returned, in order.
    pub fn of<'a>(fields: impl IntoIterator<Item = &'a Field>) -> (Self, Vec<usize>) {
        let (mut wanted, mut paths) = (Wanted::default(), Vec::new());
        let places = fields.into_iter().map(|field| {
            let known = paths.iter().position(|path| *path == &field.path);
            known.unwrap_or_else(|| {
                paths.push(&field.path);
                wanted.add(&field.path.0, field.path.1.as_deref(), paths.len() - 1);
                paths.len() - 1
            })
        });
        let places = places.collect();
        wanted.both = wanted
            .names
            .iter()
            .any(|(name, _)| wanted.inside.iter().any(|(parent, _)| parent == name));
        (wanted, places)
    }

    fn add(&mut self, name: &str, child: Option<&str>, place: usize) {
        let Some(child) = child else {
            return self.names.push((name.to_owned(), place));
        };
        if !self.inside.iter().any(|(parent, _)| parent == name) {
            self.inside.push((name.to_owned(), Wanted::default()));
        }
        if let Some((_, wanted)) = self.inside.iter_mut().find(|(parent, _)| parent == name) {
            wanted.add(child, None, place);
        }
    }

    /// Reads one object and what stands at so many places; `None` says nothing but "ask a slower
    /// way".
    pub fn pick<'a>(&self, line: &'a [u8], places: usize) -> Option<Vec<Scalar<'a>>> {
        if self.both {
            return None;
        }
        let mut found = vec![Scalar::Missing; places];
        let mut reader = serde_json::Deserializer::from_slice(line);
        let whole = Pick {
            wanted: self,
            found: &mut found,
        }
        .deserialize(&mut reader)
        .ok()?;
        (whole && reader.end().is_ok()).then_some(found)
    }
}

/// The same field of a whole object.
pub fn field<'a>(object: &'a Map<String, Value>, field: &Field) -> Option<&'a Value> {
    let value = object.get(&field.path.0)?;
    match &field.path.1 {
        Some(child) => value.as_object()?.get(child),
        None => Some(value),
    }
}

struct Pick<'w, 'f, 'de> {
    wanted: &'w Wanted,
    found: &'f mut [Scalar<'de>],
}

/// Which of the wanted names a name is, if any.
struct Name<'w>(&'w Wanted);

enum Match<'w> {
    Place(usize),
    Inside(&'w Wanted),
    Nothing,
}

impl<'de, 'w> DeserializeSeed<'de> for Name<'w> {
    type Value = Match<'w>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Match<'w>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Name<'w> {
    type Value = Match<'w>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Match<'w>, E> {
        let inside = || self.0.inside.iter().find(|(parent, _)| parent == name);
        Ok(
            match self.0.names.iter().find(|(wanted, _)| wanted == name) {
                Some((_, place)) => Match::Place(*place),
                None => inside().map_or(Match::Nothing, |(_, wanted)| Match::Inside(wanted)),
            },
        )
    }
}

impl<'de> DeserializeSeed<'de> for Pick<'_, '_, 'de> {
    /// Whether it was an object.
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_, '_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while let Some(name) = map.next_key_seed(Name(self.wanted))? {
            match name {
                Match::Place(place) => {
                    let value = map.next_value_seed(Take)?;
                    if let Some(slot) = self.found.get_mut(place) {
                        *slot = value;
                    }
                }
                Match::Inside(wanted) => {
                    // Of two fields of one name the last one counts, with all that is in it.
                    for (_, place) in &wanted.names {
                        if let Some(slot) = self.found.get_mut(*place) {
                            *slot = Scalar::Missing;
                        }
                    }
                    map.next_value_seed(Pick {
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

struct Take;

impl<'de> DeserializeSeed<'de> for Take {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Take {
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
