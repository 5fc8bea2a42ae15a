//! What an import has to come to, in plain code that reads the whole file at once and knows no
//! quick way.

use std::collections::BTreeSet;

use cohortist::calendar::parse_moment;
use cohortist::ingest::{EventFrom, Format};
use cohortist::sets::{EventName, UserId};
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

/// A field to look for: in a CSV by its place, in an object by one name or two.
enum Field {
    Place(usize),
    Path(String, Option<String>),
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
    user: Field,
    time: Field,
    /// `Err` is the event of all lines.
    event: Result<Field, EventName>,
    properties: Vec<(String, Vec<Field>, BTreeSet<Vec<u8>>)>,
    milliseconds: bool,
    most: usize,
}

const USERS: [&str; 4] = ["user", "user_id", "distinct_id", "uid"];
const EVENTS: [&str; 2] = ["event", "event_name"];
const TIMES: [&str; 4] = ["timestamp", "time", "ts", "created_at"];

impl Model {
    /// Of a whole file; or why it is none.
    pub fn of(file: &[u8], manner: &Manner) -> Result<Self, &'static str> {
        let text = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
        let Some(first) = text.iter().find(|byte| !byte.is_ascii_whitespace()) else {
            return Ok(Model::of_objects(&[], manner));
        };
        let magics: [&[u8]; 7] = [
            b"\xFF\xFE",
            b"\xFE\xFF",
            b"\x1F\x8B",
            b"\x28\xB5\x2F\xFD",
            b"PK\x03\x04",
            b"BZh",
            b"\xFD7zXZ",
        ];
        if magics.iter().any(|magic| text.starts_with(magic)) {
            return Err("it is packed or no UTF-8");
        }
        let csv = match manner.format {
            Some(format) => format == Format::Csv,
            None => !matches!(first, b'{' | b'['),
        };
        match (csv, first) {
            (true, _) => Model::of_csv(text, manner),
            (false, b'[') => Err("one array"),
            (false, _) => Ok(Model::of_objects(text, manner)),
        }
    }

    fn of_csv(text: &[u8], manner: &Manner) -> Result<Self, &'static str> {
        let header = text
            .split(|byte| *byte == b'\n')
            .find(|line| !line.trim_ascii().is_empty())
            .unwrap_or_default();
        let times = |sign: u8| header.iter().filter(|byte| **byte == sign).count();
        // More than commas, and more than the other; a tab when they are as many.
        let delimiter = match (times(b','), times(b';'), times(b'\t')) {
            (commas, semicolons, tabs) if tabs > commas && tabs >= semicolons => b'\t',
            (commas, semicolons, _) if semicolons > commas => b';',
            _ => b',',
        };
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
                records.push((line, record));
            }
        }
        assert_eq!(starts.next(), None, "the model counts too many records");
        let mut records = records.into_iter();
        let header = records.next().map(|(_, record)| record).unwrap_or_default();
        let header: Vec<String> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        let find = |name: &str| {
            let exact = header.iter().position(|column| column == name);
            exact.or_else(|| {
                header
                    .iter()
                    .position(|column| column.eq_ignore_ascii_case(name))
            })
        };
        let any = |wish: Option<&str>, usual: &[&str]| match wish {
            Some(name) => find(name).map(Field::Place),
            None => usual.iter().find_map(|name| find(name)).map(Field::Place),
        };
        let wishes = &manner.wishes;
        let posthog = ["distinct_id", "event", "timestamp"]
            .iter()
            .all(|name| find(name).is_some())
            && header.iter().any(|name| {
                matches!(name.as_str(), "elements_chain" | "properties" | "person_id")
                    || name.starts_with("properties.")
            });
        let mut properties = Vec::new();
        for name in &wishes.properties {
            let mut places: Vec<Field> = find(name).map(Field::Place).into_iter().collect();
            if posthog {
                let parents = ["properties.", "person.properties.", "person_properties."];
                places.extend(
                    parents
                        .iter()
                        .filter_map(|parent| find(&format!("{parent}{name}")))
                        .map(Field::Place),
                );
            }
            if places.is_empty() {
                return Err("no column for a property");
            }
            properties.push((name.clone(), places, BTreeSet::new()));
        }
        Ok(Model {
            user: any(wishes.user.as_deref(), &USERS).ok_or("no user")?,
            time: any(wishes.time.as_deref(), &TIMES).ok_or("no time")?,
            event: match &wishes.event {
                EventFrom::Always(name) => Err(name.clone()),
                EventFrom::Column(name) => Ok(any(Some(name), &EVENTS).ok_or("no event")?),
                EventFrom::Guess => Ok(any(None, &EVENTS).ok_or("no event")?),
            },
            lines: records
                .map(|(line, record)| (line, Fields::Record(record)))
                .collect::<Vec<_>>()
                .into_iter(),
            properties,
            milliseconds: false,
            most: manner.most,
        })
    }

    fn of_objects(text: &[u8], manner: &Manner) -> Self {
        let lines = (1..)
            .zip(text.split(|byte| *byte == b'\n'))
            .filter(|(_, line)| !line.trim_ascii().is_empty());
        let lines: Vec<(u64, Fields)> = lines
            .map(|(number, line)| {
                let fields = match serde_json::from_slice(line) {
                    Ok(object) => Fields::Object(object),
                    Err(_) => Fields::Unreadable {
                        surely: serde_json::from_slice::<IgnoredAny>(line).is_err(),
                    },
                };
                (number, fields)
            })
            .collect();
        let first = match lines.first() {
            Some((_, Fields::Object(object))) => Some(object),
            _ => None,
        };
        let has = |name: &str| first.is_some_and(|object| object.contains_key(name));
        let inner = |name: &str| {
            first.is_some_and(|object| {
                object
                    .get("properties")
                    .is_some_and(|it| it.get(name).is_some())
            })
        };
        let amplitude = has("event_type") && has("event_time");
        let mixpanel = !amplitude && has("event") && inner("distinct_id") && inner("time");
        let own = |name: &str| Field::Path(name.to_owned(), None);
        let named = |name: &str| match name.split_once('.') {
            Some((parent, child)) if !has(name) => {
                Field::Path(parent.to_owned(), Some(child.to_owned()))
            }
            _ => own(name),
        };
        let usual = |mixpanels: &str, amplitudes: &str, others: &[&str]| match (mixpanel, amplitude)
        {
            (true, _) => named(mixpanels),
            (_, true) => own(amplitudes),
            _ => own(others.iter().find(|name| has(name)).unwrap_or(&others[0])),
        };
        let wishes = &manner.wishes;
        let parents: &[&str] = match (mixpanel, amplitude) {
            (true, _) => &["properties"],
            (_, true) => &["event_properties", "user_properties"],
            _ => &[],
        };
        let properties = wishes.properties.iter().map(|name| {
            let inside = parents
                .iter()
                .map(|parent| Field::Path((*parent).to_owned(), Some(name.clone())));
            (
                name.clone(),
                inside.chain([named(name)]).collect(),
                BTreeSet::new(),
            )
        });
        Model {
            user: wishes
                .user
                .as_deref()
                .map_or_else(|| usual("properties.distinct_id", "user_id", &USERS), named),
            time: wishes
                .time
                .as_deref()
                .map_or_else(|| usual("properties.time", "event_time", &TIMES), named),
            event: match &wishes.event {
                EventFrom::Always(name) => Err(name.clone()),
                EventFrom::Column(name) => Ok(named(name)),
                EventFrom::Guess => Ok(usual("event", "event_type", &EVENTS)),
            },
            properties: properties.collect(),
            milliseconds: mixpanel || amplitude,
            most: manner.most,
            lines: lines.into_iter(),
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
        let user = user_of(&fields.text(&self.user)?)?;
        let at = moment_of(&fields.text(&self.time)?, self.milliseconds)?;
        let event = match &self.event {
            Err(name) => name.as_str().to_owned(),
            Ok(field) => {
                let text = fields.text(field)?;
                let text = match fields {
                    Fields::Record(_) => text.strip_suffix(b"\r").unwrap_or(&text),
                    _ => &text,
                };
                EventName::new(std::str::from_utf8(text).ok()?)
                    .ok()?
                    .as_str()
                    .to_owned()
            }
        };
        let mut undated = Vec::new();
        for (name, places, known) in &mut self.properties {
            let Some(value) = places.iter().find_map(|place| fields.property(place)) else {
                continue;
            };
            let value = value.trim_ascii();
            let Ok(text) = std::str::from_utf8(value) else {
                continue;
            };
            let Ok(full) = EventName::new(&format!("{name}:{text}")) else {
                continue;
            };
            if !value.is_empty() && (known.contains(value) || known.len() < self.most) {
                known.insert(value.to_vec());
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

    /// Learns the values of a line that it had no opinion about.
    pub fn follow(&mut self, line: &Line) {
        let Line::Good { undated, .. } = line else {
            return;
        };
        for full in undated {
            for (name, _, known) in &mut self.properties {
                if let Some(value) = full.strip_prefix(&format!("{name}:")) {
                    known.insert(value.as_bytes().to_vec());
                }
            }
        }
    }
}

impl Fields {
    /// A text or a number, as it is written.
    fn text(&self, field: &Field) -> Option<Vec<u8>> {
        match (self, field) {
            (Fields::Record(record), Field::Place(place)) => record.get(*place).cloned(),
            (Fields::Object(_), _) => match self.value(field)? {
                Value::String(text) => Some(text.clone().into_bytes()),
                Value::Number(number) => Some(number.to_string().into_bytes()),
                _ => None,
            },
            _ => None,
        }
    }

    /// What stands there for a property: `None` leaves it to the next place.
    fn property(&self, field: &Field) -> Option<Vec<u8>> {
        match self {
            Fields::Object(_) => match self.value(field)? {
                Value::Null => None,
                // It makes no event, and nothing else takes its place.
                Value::Array(_) | Value::Object(_) => Some(Vec::new()),
                Value::String(text) => Some(text.clone().into_bytes()),
                other => Some(other.to_string().into_bytes()),
            },
            _ => self
                .text(field)
                .filter(|text| !text.trim_ascii().is_empty()),
        }
    }

    fn value(&self, field: &Field) -> Option<&Value> {
        match (self, field) {
            (Fields::Object(object), Field::Path(name, None)) => object.get(name),
            (Fields::Object(object), Field::Path(parent, Some(child))) => {
                object.get(parent)?.as_object()?.get(child)
            }
            _ => None,
        }
    }
}

fn user_of(field: &[u8]) -> Option<UserId> {
    let digits = std::str::from_utf8(field.trim_ascii()).ok()?;
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

fn moment_of(field: &[u8], milliseconds: bool) -> Option<i64> {
    let text = std::str::from_utf8(field.trim_ascii()).ok()?;
    match text.parse::<i64>() {
        // Known exports count great numbers in milliseconds, up to the end of the year 9999.
        Ok(number) if milliseconds && number >= 100_000_000_000 => {
            Some(number / 1000).filter(|s| *s <= 253_402_300_799)
        }
        _ => parse_moment(text).ok().map(|moment| moment.timestamp()),
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
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
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
