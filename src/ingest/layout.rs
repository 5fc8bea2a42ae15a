//! The layout of a file: which column or field holds what. It is determined from the start of the
//! file and from the requested columns.

use serde_json::{Map, Value};

use crate::ingest::field::Unix;
use crate::sets::EventName;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Values separated by commas, semicolons or tabs, with the names of the columns in the first
    /// line.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

impl Format {
    /// Returns the format according to the extension of a file name. A second extension for a
    /// compression is ignored.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = [".gz", ".zst", ".zstd"]
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "csv" | "tsv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            _ => None,
        }
    }
}

/// The requested columns. The others are guessed from the start of the file.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// The column or field with the user id.
    pub user: Option<String>,
    /// The source of the event names.
    pub event: EventFrom,
    /// The column or field with the time.
    pub time: Option<String>,
    /// Columns or fields whose values become undated events.
    pub properties: Vec<String>,
}

/// The source of the event names.
#[derive(Debug, Clone, Default)]
pub enum EventFrom {
    /// A column that is guessed.
    #[default]
    Guess,
    /// The column with this name.
    Column(String),
    /// Every line has this event.
    Always(EventName),
}

/// The program that a file was exported from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    Mixpanel,
    PostHog,
    Amplitude,
}

/// The layout of a file: its format, and where its values are.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) format: Format,
    pub(super) product: Option<Product>,
    /// The separator of the fields of a CSV file.
    pub(super) delimiter: u8,
    pub(super) user: Field,
    /// `None` if all lines have the same event.
    pub(super) event: Option<Field>,
    pub(super) time: Field,
    /// For each property, the fields that may hold it. The first one with a value counts.
    pub(super) properties: Vec<Vec<Field>>,
    pub(super) unix: Unix,
    /// Whether a guessed field has an unusual name.
    guessed: bool,
}

/// A column of a CSV file, or a field of a JSON object or of an object nested in it. Its `Debug`
/// text is a part of [`Layout::fingerprint`], which is stored, so it must not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// The full name, for messages.
    pub name: String,
    /// The index of the column in a CSV file.
    pub place: usize,
    /// The path in a JSON object, of one or two names.
    pub path: (String, Option<String>),
}

impl Field {
    fn column(name: &str, place: usize) -> Self {
        Field {
            name: name.to_owned(),
            place,
            path: (name.to_owned(), None),
        }
    }

    fn nested(parent: &str, name: &str) -> Self {
        Field {
            name: format!("{parent}.{name}"),
            place: 0,
            path: (parent.to_owned(), Some(name.to_owned())),
        }
    }
}

const USERS: [&str; 4] = ["user", "user_id", "distinct_id", "uid"];
const EVENTS: [&str; 2] = ["event", "event_name"];
const TIMES: [&str; 4] = ["timestamp", "time", "ts", "created_at"];

const USER_FLAG: &str = "--user-column NAME";
const TIME_FLAG: &str = "--time-column NAME";

impl Layout {
    /// Returns a description of what was guessed, or `None` if the guessed fields have the usual
    /// names `user`, `event` and `timestamp`.
    pub fn guess(&self) -> Option<String> {
        if !self.guessed {
            return None;
        }
        let product = match self.product {
            Some(Product::Mixpanel) => "a Mixpanel export: ",
            Some(Product::PostHog) => "a PostHog export: ",
            Some(Product::Amplitude) => "an Amplitude export: ",
            None => "",
        };
        let event = self
            .event
            .as_ref()
            .map(|event| format!("`{}` the event, ", event.name))
            .unwrap_or_default();
        Some(format!(
            "{product}`{}` is the user, {event}`{}` the time",
            self.user.name, self.time.name
        ))
    }

    /// Returns a string that is equal for two layouts only if they read all lines in the same way.
    /// It is stored to check whether an import can be resumed.
    pub fn fingerprint(&self) -> String {
        let Layout {
            format,
            product,
            delimiter,
            user,
            event,
            time,
            properties,
            unix,
            ..
        } = self;
        format!(
            "{format:?} {product:?} {delimiter} {user:?} {event:?} {time:?} {properties:?} {unix:?}"
        )
    }

    /// Returns the number of fields of a line that are needed, for a CSV file.
    pub(super) fn columns(&self) -> usize {
        let fields = [&self.user, &self.time]
            .into_iter()
            .chain(&self.event)
            .chain(self.properties.iter().flatten());
        let last = fields.map(|field| field.place).max();
        last.expect("a layout has a user") + 1
    }

    /// Determines the layout from the names in the first line of a CSV file.
    pub(super) fn of_header(
        names: &[String],
        delimiter: u8,
        columns: &Columns,
    ) -> Result<Self, String> {
        let header = Header(names);
        let user = header.column("the user id", columns.user.as_deref(), &USERS, USER_FLAG)?;
        let event_flag = "--event-column NAME, or give all lines the same event with --event NAME";
        let event = match &columns.event {
            EventFrom::Always(_) => None,
            EventFrom::Guess => {
                Some(header.column("the event's name", None, &EVENTS, event_flag)?)
            }
            EventFrom::Column(name) => {
                Some(header.column("the event's name", Some(name), &EVENTS, event_flag)?)
            }
        };
        let time = header.column("the time", columns.time.as_deref(), &TIMES, TIME_FLAG)?;
        let is_posthog = header.is_posthog();
        let properties = columns
            .properties
            .iter()
            .map(|name| header.property(name, is_posthog));
        let mut layout = Layout {
            format: Format::Csv,
            product: is_posthog.then_some(Product::PostHog),
            delimiter,
            user,
            event,
            time,
            properties: properties.collect::<Result<_, _>>()?,
            unix: Unix::Seconds,
            guessed: false,
        };
        layout.guessed = layout.is_unusual(columns);
        Ok(layout)
    }

    /// Determines the layout from the first object of an NDJSON file. If the first line is not an
    /// object (`None`), the fields have the usual names.
    pub(super) fn of_object(object: Option<&Map<String, Value>>, columns: &Columns) -> Self {
        let has = |name: &str| object.is_some_and(|object| object.contains_key(name));
        let inner = object.and_then(|object| object.get("properties")?.as_object());
        let product = if has("event_type") && has("event_time") {
            Some(Product::Amplitude)
        } else if has("event")
            && inner.is_some_and(|inner| {
                inner.contains_key("distinct_id") && inner.contains_key("time")
            })
        {
            Some(Product::Mixpanel)
        } else {
            None
        };
        // `a.b` is the field `b` of the object `a`, unless there is a field with that full name.
        let field = |name: &str| match name.split_once('.') {
            Some((parent, child)) if !has(name) => Field::nested(parent, child),
            _ => Field::column(name, 0),
        };
        let guess = |candidates: &[&str]| {
            let found = candidates
                .iter()
                .find(|name| has(name))
                .unwrap_or(&candidates[0]);
            Field::column(found, 0)
        };
        let by_product = |mixpanel: &str, amplitude: &str, candidates: &[&str]| match product {
            Some(Product::Mixpanel) => field(mixpanel),
            Some(Product::Amplitude) => Field::column(amplitude, 0),
            _ => guess(candidates),
        };
        let requested = |name: &Option<String>| name.as_deref().map(field);
        let parents: &[&str] = match product {
            Some(Product::Mixpanel) => &["properties"],
            Some(Product::Amplitude) => &["event_properties", "user_properties"],
            _ => &[],
        };
        let properties = columns.properties.iter().map(|name| {
            parents
                .iter()
                .map(|parent| Field::nested(parent, name))
                .chain([field(name)])
                .collect()
        });
        let mut layout = Layout {
            format: Format::Ndjson,
            product,
            delimiter: b',',
            user: requested(&columns.user)
                .unwrap_or_else(|| by_product("properties.distinct_id", "user_id", &USERS)),
            event: match &columns.event {
                EventFrom::Always(_) => None,
                EventFrom::Column(name) => Some(field(name)),
                EventFrom::Guess => Some(by_product("event", "event_type", &EVENTS)),
            },
            time: requested(&columns.time)
                .unwrap_or_else(|| by_product("properties.time", "event_time", &TIMES)),
            properties: properties.collect(),
            unix: if product.is_some() {
                Unix::Either
            } else {
                Unix::Seconds
            },
            guessed: false,
        };
        layout.guessed = layout.is_unusual(columns);
        layout
    }

    /// Returns whether a guessed field does not have the first of the usual names.
    fn is_unusual(&self, columns: &Columns) -> bool {
        let event = self
            .event
            .as_ref()
            .filter(|_| matches!(columns.event, EventFrom::Guess));
        let user = Some(&self.user).filter(|_| columns.user.is_none());
        let time = Some(&self.time).filter(|_| columns.time.is_none());
        [(user, USERS[0]), (event, EVENTS[0]), (time, TIMES[0])]
            .into_iter()
            .any(|(field, usual)| {
                field.is_some_and(|field| !field.name.eq_ignore_ascii_case(usual))
            })
    }
}

/// The names of the columns of a CSV file.
struct Header<'a>(&'a [String]);

impl Header<'_> {
    /// Finds a column by its exact name or, if there is none, by its name in another case.
    fn find(&self, wanted: &str) -> Option<Field> {
        let exact = self.0.iter().position(|name| name == wanted);
        let column = exact.or_else(|| {
            self.0
                .iter()
                .position(|name| name.eq_ignore_ascii_case(wanted))
        })?;
        Some(Field::column(&self.0[column], column))
    }

    /// Returns the requested column or, if none is requested, the first candidate that exists.
    /// `what` and `flag` are for the error.
    fn column(
        &self,
        what: &str,
        requested: Option<&str>,
        candidates: &[&str],
        flag: &str,
    ) -> Result<Field, String> {
        let found = match requested {
            Some(name) => self.find(name),
            None => candidates.iter().find_map(|name| self.find(name)),
        };
        found.ok_or_else(|| self.missing(what, requested.unwrap_or(candidates[0]), flag))
    }

    /// Returns the columns that may hold a property.
    fn property(&self, name: &str, is_posthog: bool) -> Result<Vec<Field>, String> {
        let mut columns = Vec::from_iter(self.find(name));
        if is_posthog {
            let parents = ["properties.", "person.properties.", "person_properties."];
            let nested = parents
                .iter()
                .filter_map(|parent| self.find(&format!("{parent}{name}")));
            columns.extend(nested);
        }
        if columns.is_empty() {
            return Err(self.missing("it", name, "--property NAME"));
        }
        Ok(columns)
    }

    /// Returns whether the file is an export of PostHog, which has some columns that other programs
    /// do not use.
    fn is_posthog(&self) -> bool {
        ["distinct_id", "event", "timestamp"]
            .iter()
            .all(|name| self.find(name).is_some())
            && self.0.iter().any(|name| {
                ["elements_chain", "properties", "person_id"].contains(&name.as_str())
                    || name.starts_with("properties.")
            })
    }

    /// Returns the error for a missing column.
    fn missing(&self, what: &str, wanted: &str, flag: &str) -> String {
        let found: Vec<String> = self
            .0
            .iter()
            .take(20)
            .map(|name| format!("`{}`", name.chars().take(40).collect::<String>()))
            .collect();
        let more = if self.0.len() > 20 { ", …" } else { "" };
        let found = found
            .join(", ")
            .escape_debug()
            .to_string()
            .replace("\\'", "'");
        format!(
            "there is no column `{wanted}`; the first line names {found}{more}. Say which one holds {what} with {flag}"
        )
    }
}

/// Returns the separator of a CSV file: a comma, or the semicolon or tab if that is more frequent
/// in the first line that is not blank.
pub(super) fn delimiter(start: &[u8]) -> u8 {
    // Without such a line, the separator does not matter.
    let line = start
        .split(|byte| *byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty())
        .unwrap_or_default();
    let occurrences = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    [b';', b'\t']
        .into_iter()
        .filter(|delimiter| occurrences(*delimiter) > occurrences(b','))
        .max_by_key(|delimiter| occurrences(*delimiter))
        .unwrap_or(b',')
}
