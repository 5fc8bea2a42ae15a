//! Reads the values of an event: its name, its user, its time and its properties. All protocols
//! read them here.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Datelike, Utc};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::render::words;
use crate::sets::UserIdError;
use crate::values::{Times, clean, string_id};

/// The first plausible year of an event.
const FIRST_YEAR: i32 = 1990;

/// The longest excerpt of a value in a message, in characters.
const EXCERPT: usize = 40;

/// A text, borrowed if it contains no escapes.
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

fn excerpt(raw: &RawValue) -> String {
    words::shortened(raw.get(), EXCERPT)
}

/// Returns a text. `None` for any other value.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    if !raw.get().starts_with('"') {
        return None;
    }
    serde_json::from_str::<Text<'_>>(raw.get())
        .ok()
        .map(|text| text.0)
}

/// Returns whether a value is a number.
fn is_number(raw: &RawValue) -> bool {
    raw.get()
        .starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// Cleans a text as those of files are cleaned, without copying it if possible.
pub fn cleaned(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => clean(text),
        Cow::Owned(text) => match clean(&text) {
            Cow::Borrowed(clean) if clean.len() == text.len() => Cow::Owned(text),
            clean => Cow::Owned(clean.into_owned()),
        },
    }
}

/// Returns the id of a user: a text or a number. `None` if the value stands for nobody.
///
/// # Errors
/// Returns what is wrong with it.
pub fn user(raw: Option<&RawValue>) -> Result<Option<Cow<'_, str>>, String> {
    let Some(raw) = raw else { return Ok(None) };
    let id = match text(raw) {
        Some(text) => cleaned(text),
        None if is_number(raw) => Cow::Borrowed(raw.get()),
        None => return Err(format!("{} is neither a text nor a number", excerpt(raw))),
    };
    match string_id(&id) {
        Ok(_) => Ok(Some(id)),
        Err(UserIdError::Empty | UserIdError::Nobody(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns a moment of any year: a text or a number, as in files.
///
/// # Errors
/// Returns what is wrong with it.
pub fn instant(raw: &RawValue) -> Result<DateTime<Utc>, String> {
    let times = Times::default();
    let time = match text(raw) {
        Some(text) => times.read(text.as_bytes()),
        None if is_number(raw) => times.read(raw.get().as_bytes()),
        None => return Err(format!("{} is not a time", excerpt(raw))),
    };
    let seconds = time.map_err(|error| error.to_string())?.seconds;
    Ok(DateTime::from_timestamp(seconds, 0).expect("a time is in the supported years"))
}

/// Returns a plausible moment: one after `now` is `now`, because the clock of the sender is fast.
///
/// # Errors
/// Returns an error for a moment of long ago.
pub fn plausible(at: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    if at.year() < FIRST_YEAR {
        return Err(format!(
            "{} is before {FIRST_YEAR}, which is not plausible",
            at.format("%Y-%m-%d")
        ));
    }
    Ok(at.min(now))
}

/// Returns the value of a property as text. `None` for null, lists, objects and empty texts.
fn property(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get().as_bytes().first()? {
        b'"' => Some(cleaned(text(raw)?)).filter(|text| !text.is_empty()),
        b't' | b'f' => Some(Cow::Borrowed(raw.get())),
        _ if is_number(raw) => Some(Cow::Borrowed(raw.get())),
        _ => None,
    }
}

/// Adds the wanted properties of an object: the index of the name, and the value. Any other value
/// has no properties.
pub fn properties<'a>(
    raw: Option<&'a RawValue>,
    wanted: &[String],
    found: &mut Vec<(usize, Cow<'a, str>)>,
) {
    let Some(raw) = raw.filter(|raw| !wanted.is_empty() && raw.get().starts_with('{')) else {
        return;
    };
    let mut json = serde_json::Deserializer::from_str(raw.get());
    // Cannot fail: a raw value is valid JSON.
    let _ = Properties { wanted, found }.deserialize(&mut json);
}

struct Properties<'w, 'f, 'a> {
    wanted: &'w [String],
    found: &'f mut Vec<(usize, Cow<'a, str>)>,
}

impl<'a> DeserializeSeed<'a> for Properties<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Properties<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Name(index)) = map.next_key_seed(Names(self.wanted))? {
            match index {
                Some(index) => {
                    let value: &RawValue = map.next_value()?;
                    self.found
                        .extend(property(value).map(|value| (index, value)));
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The index of a name among those that are wanted.
struct Name(Option<usize>);

struct Names<'w>(&'w [String]);

impl<'a> DeserializeSeed<'a> for Names<'_> {
    type Value = Name;

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Name, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Names<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Name, E> {
        Ok(Name(self.0.iter().position(|wanted| wanted == name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn users_are_texts_or_numbers_and_missing_ones_are_nobody() {
        let read = |text: &str| {
            user(Some(&raw(text))).map(|id| id.map(Cow::into_owned).unwrap_or("nobody".into()))
        };
        assert_eq!(user(None), Ok(None));
        for (text, id) in [
            (r#""ann""#, "ann"),
            (r#"" ann ""#, "ann"),
            (r#""\u0061nn\u0020""#, "ann"),
            ("17", "17"),
            // As in files.
            ("13085.0", "13085.0"),
            ("-3", "-3"),
            (r#""jose\u0301""#, "jos\u{e9}"),
            (r#""""#, "nobody"),
            (r#"" null""#, "nobody"),
            (r#""[object Object]""#, "nobody"),
            (r#""(null)""#, "nobody"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(id), "{text}");
        }
        for wrong in ["[1]", "{}", "true", r#""a\nb""#, r#""..""#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_texts_or_numbers_of_any_unit_and_never_later_than_now() {
        let now = parse_moment("2026-11-23T14:00:00Z").unwrap();
        let read = |text: &str| {
            let at = plausible(instant(&raw(text))?, now)?;
            Ok::<_, String>(at.format("%F %T").to_string())
        };
        for text in [
            r#""2026-11-22T10:00:00.000Z""#,
            r#""2026-11-22T12:00:00.5+02:00""#,
            r#""1795341600""#,
            "1795341600",
            "1795341600.75",
            "1.7953416e9",
            "1795341600000",
            "1795341600000000",
            "1795341600000000000",
        ] {
            assert_eq!(read(text).as_deref(), Ok("2026-11-22 10:00:00"), "{text}");
        }
        assert_eq!(
            read(r#""2031-01-01""#).as_deref(),
            Ok("2026-11-23 14:00:00")
        );
        for wrong in [
            "0",
            "-5",
            "1e300",
            "{}",
            r#""soon""#,
            r#""1970-01-01""#,
            "99999999999999999999",
        ] {
            assert!(read(wrong).is_err(), "{wrong}: {:?}", read(wrong));
        }
    }

    #[test]
    fn only_wanted_properties_are_read() {
        let object = raw(
            r#"{"x":[1,{"plan":"no"}],"plan":" pro ","\u0061ge":41,"paid":false,"plan":null,"z":""}"#,
        );
        let wanted = ["plan", "age", "paid", "z"].map(str::to_owned);
        let mut found = Vec::new();
        properties(Some(&object), &wanted, &mut found);
        let found: Vec<(usize, &str)> = found.iter().map(|(i, value)| (*i, &**value)).collect();
        assert_eq!(found, [(0, "pro"), (1, "41"), (2, "false")]);
        let mut none = Vec::new();
        let list = raw("[1]");
        properties(Some(&list), &wanted, &mut none);
        properties(Some(&object), &[], &mut none);
        assert!(none.is_empty());
    }
}
