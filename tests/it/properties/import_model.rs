//! What an import has to come to, in plain code that reads the whole file at once and knows no
//! quick way. Where the values are, it takes from the layout.

use std::collections::BTreeSet;

use cohortist::ingest::{EventFrom, Field, Layout, Position};
use cohortist::sets::{EventName, UserId};
use cohortist::values::{Times, clean, is_nobody};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::import::{Line, Manner};

/// What the next line should be.
#[derive(Debug)]
pub enum Expected {
    Good(Line),
    /// Refused, by its number.
    Bad(u64),
    /// As a whole it is no good object, and what is asked for may be: its number.
    Either(u64),
    End,
}

/// The fields of a line, whatever it is written in.
enum Fields {
    Record(Vec<Vec<u8>>),
    Object(Map<String, Value>),
    /// Nothing can be found in it: by its own rules, or by strict ones only.
    Unreadable {
        surely: bool,
    },
}

pub struct Model {
    lines: std::vec::IntoIter<(u64, Fields)>,
    layout: Layout,
    /// The event of all lines.
    fixed: Option<EventName>,
    /// The values of each property that became events.
    values: Vec<(String, BTreeSet<String>)>,
    most: usize,
}

impl Model {
    /// Of the lines behind a position, which is that of the first line that is no header.
    pub fn of(file: &[u8], manner: &Manner, layout: &Layout, at: Position) -> Self {
        let text = &file[usize::try_from(at.byte).unwrap()..];
        let lines = match layout.delimiter() {
            Some(delimiter) => records(text, delimiter),
            None => objects(text),
        };
        let lines: Vec<(u64, Fields)> = lines
            .into_iter()
            .map(|(line, fields)| (line + at.line, fields))
            .collect();
        Model {
            lines: lines.into_iter(),
            layout: layout.clone(),
            fixed: match &manner.wishes.event {
                EventFrom::Always(name) => Some(name.clone()),
                _ => None,
            },
            values: manner
                .wishes
                .properties
                .iter()
                .map(|wish| (wish.name.clone(), BTreeSet::new()))
                .collect(),
            most: manner.most,
        }
    }

    pub fn next_line(&mut self) -> Expected {
        let Some((number, fields)) = self.lines.next() else {
            return Expected::End;
        };
        match fields {
            Fields::Unreadable { surely: true } => Expected::Bad(number),
            Fields::Unreadable { surely: false } => Expected::Either(number),
            fields => self
                .row(&fields)
                .map_or(Expected::Bad(number), Expected::Good),
        }
    }

    fn row(&mut self, fields: &Fields) -> Option<Line> {
        let user = self
            .layout
            .user()
            .iter()
            .filter_map(|field| fields.value(field))
            .find(|value| {
                !matches!(value, Found::Null) && !value.text().is_some_and(|it| is_nobody(&it))
            })?;
        let user = user_of(&user.text()?)?;
        let at = fields.value(self.layout.time())?.text()?;
        let at = Times::default().read(&at).ok()?.seconds;
        let event = match &self.fixed {
            Some(name) => name.as_str().to_owned(),
            None => self.event(fields)?,
        };
        let mut undated = Vec::new();
        for source in self.layout.properties() {
            let mut values = source.fields.iter().filter_map(|field| fields.value(field));
            let value = values.find(|value| !value.is_blank());
            let Some(text) = value.and_then(|value| value.property()) else {
                continue;
            };
            let (name, known) = &mut self.values[source.wish];
            let Ok(text) = std::str::from_utf8(text.trim_ascii()) else {
                continue;
            };
            let text = clean(text).into_owned();
            let Ok(full) = EventName::new(&format!("{name}:{text}")) else {
                continue;
            };
            if !text.is_empty() && (known.contains(&text) || known.len() < self.most) {
                known.insert(text);
                undated.push(full.as_str().to_owned());
            }
        }
        Some(Line::Good {
            event,
            user,
            at,
            undated,
        })
    }

    fn event(&self, fields: &Fields) -> Option<String> {
        let places = self.layout.event();
        for (index, field) in places.iter().enumerate() {
            let is_last = index + 1 == places.len() && self.layout.default_event().is_none();
            match fields.value(field) {
                None | Some(Found::Null) => {}
                Some(value) => {
                    let text = value.text()?;
                    let is_text = matches!(value, Found::Text(_));
                    if !is_last && is_text && is_nobody(&text) {
                        continue;
                    }
                    let name = EventName::new(&clean(std::str::from_utf8(&text).ok()?));
                    return Some(name.ok()?.as_str().to_owned());
                }
            }
        }
        self.layout.default_event().map(str::to_owned)
    }

    /// Learns the values of a line that it had no opinion about.
    pub fn follow(&mut self, line: &Line) {
        let Line::Good { undated, .. } = line else {
            return;
        };
        for full in undated {
            for (name, known) in &mut self.values {
                if let Some(value) = full.strip_prefix(&format!("{name}:")) {
                    known.insert(value.to_owned());
                }
            }
        }
    }
}

/// A value of a line.
#[derive(Clone)]
enum Found {
    Text(Vec<u8>),
    Number(String),
    Bool(bool),
    Null,
    Other,
}

impl Found {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Found::Null,
            Value::Bool(value) => Found::Bool(*value),
            Value::Number(number) => Found::Number(number.to_string()),
            Value::String(text) => Found::Text(text.clone().into_bytes()),
            Value::Array(_) | Value::Object(_) => Found::Other,
        }
    }

    /// A text or a number, as it is written.
    fn text(&self) -> Option<Vec<u8>> {
        match self {
            Found::Text(text) => Some(text.clone()),
            Found::Number(text) => Some(text.clone().into_bytes()),
            _ => None,
        }
    }

    /// The value of a property; it may be neither a list nor an object.
    fn property(&self) -> Option<Vec<u8>> {
        match self {
            Found::Bool(value) => Some(value.to_string().into_bytes()),
            _ => self.text(),
        }
    }

    /// Whether the next place counts.
    fn is_blank(&self) -> bool {
        match self {
            Found::Null => true,
            Found::Text(text) => text.trim_ascii().is_empty(),
            _ => false,
        }
    }
}

impl Fields {
    fn value(&self, field: &Field) -> Option<Found> {
        match self {
            Fields::Record(record) => {
                let cell = record.get(field.place)?;
                match &field.path[..] {
                    [] => Some(Found::Text(cell.clone())),
                    path => follow(&Value::String(String::from_utf8(cell.clone()).ok()?), path),
                }
            }
            Fields::Object(object) => {
                let (first, rest) = field.path.split_first()?;
                follow(object.get(first)?, rest)
            }
            Fields::Unreadable { .. } => None,
        }
    }
}

/// Follows a path; texts on the way may be objects, and lists may be of keys and values.
fn follow(value: &Value, path: &[String]) -> Option<Found> {
    let Some((name, rest)) = path.split_first() else {
        return Some(Found::of(value));
    };
    match value {
        Value::Object(object) => follow(object.get(name)?, rest),
        Value::Array(list) => {
            let entry = list.iter().find(|entry| {
                ["key", "name"]
                    .iter()
                    .any(|key| entry.get(key).and_then(Value::as_str) == Some(name))
            })?;
            let value = entry.get("value")?;
            match value.as_object() {
                None => follow(value, rest),
                Some(kinds) => {
                    let mut given = kinds
                        .iter()
                        .filter(|(kind, value)| kind.ends_with("_value") && !value.is_null());
                    follow(given.next()?.1, rest)
                }
            }
        }
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
            follow(&serde_json::from_str(text).ok()?, path)
        }
        _ => None,
    }
}

fn records(text: &[u8], delimiter: u8) -> Vec<(u64, Fields)> {
    // The last line ends as all others do.
    let ended = [text, b"\n"].concat();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(ended.as_slice());
    let mut starts = starts(&ended, delimiter).into_iter();
    let mut records = Vec::new();
    for record in reader.byte_records() {
        let record: Vec<Vec<u8>> = record.unwrap().iter().map(<[u8]>::to_vec).collect();
        let line = starts
            .next()
            .unwrap_or_else(|| panic!("the model counts too few records"));
        if !record.iter().flatten().all(u8::is_ascii_whitespace) {
            records.push((line, Fields::Record(record)));
        }
    }
    assert_eq!(starts.next(), None, "the model counts too many records");
    records
}

fn objects(text: &[u8]) -> Vec<(u64, Fields)> {
    (1..)
        .zip(text.split(|byte| *byte == b'\n'))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(number, line)| {
            let fields = match serde_json::from_slice(line) {
                Ok(object) => Fields::Object(object),
                Err(_) => Fields::Unreadable {
                    surely: serde_json::from_slice::<IgnoredAny>(line).is_err(),
                },
            };
            (number, fields)
        })
        .collect()
}

fn user_of(field: &[u8]) -> Option<UserId> {
    let text = clean(std::str::from_utf8(field).ok()?).into_owned();
    let digits = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => {
            whole
        }
        _ => &text,
    };
    let number = digits.trim_start_matches('0');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if number.is_empty() {
        Some(0)
    } else {
        number.parse().ok()
    }
}

/// The number of the line that each record of a CSV begins in; lines without a byte are no records.
fn starts(text: &[u8], delimiter: u8) -> Vec<u64> {
    #[derive(PartialEq)]
    enum At {
        Record,
        Field,
        Plain,
        Quoted,
        /// Behind a quote in a quoted field: its end, or the first of two.
        Quote,
    }
    let (mut found, mut line, mut at) = (Vec::new(), 1, At::Record);
    for byte in text {
        if at == At::Record && *byte != b'\n' {
            found.push(line);
            at = At::Field;
        }
        at = match (&at, *byte) {
            (At::Record, _) => At::Record,
            (At::Field, b'"') | (At::Quote, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) => At::Quoted,
            (_, b'\n') => At::Record,
            (_, byte) if byte == delimiter => At::Field,
            _ => At::Plain,
        };
        line += u64::from(*byte == b'\n');
    }
    found
}
