//! What is written where in a file: told by its beginning and by what was asked for.

use serde_json::{Map, Value};

use crate::ingest::field::Unix;
use crate::sets::EventName;

/// How the lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-, semicolon- or tab-separated, with the names of the columns in the first line.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// What a file name's ending says, behind that of a compression.
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

/// Which columns are asked for. What is not is guessed from the beginning of the file.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The column or field with the user id.
    pub user: Option<String>,
    /// Where the event's name comes from.
    pub event: EventFrom,
    /// The column or field with the time.
    pub time: Option<String>,
    /// Columns or fields whose values become undated events.
    pub properties: Vec<String>,
}

/// Where the event's name comes from.
#[derive(Debug, Clone, Default)]
pub enum EventFrom {
    /// A column to be guessed.
    #[default]
    Guess,
    /// This column.
    Column(String),
    /// It is the same for every line.
    Always(EventName),
}

/// The program that a file was exported from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    Mixpanel,
    PostHog,
    Amplitude,
}

/// What is written where.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) format: Format,
    pub(super) product: Option<Product>,
    /// Separates the fields of a CSV.
    pub(super) delimiter: u8,
    pub(super) user: Field,
    /// `None` where all lines have the same event.
    pub(super) event: Option<Field>,
    pub(super) time: Field,
    /// For each property the places it may be in, the first one that holds something counts.
    pub(super) properties: Vec<Vec<Field>>,
    pub(super) unix: Unix,
    /// Whether something was guessed that not everybody expects.
    guessed: bool,
}

/// A column of a CSV, or a field of an object or of an object in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Its full name, as people know it.
    pub name: String,
    /// In a CSV its place in the line, from 0.
    pub place: usize,
    /// In an object the names to follow, one or two of them.
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

    fn inside(parent: &str, name: &str) -> Self {
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
    /// What was guessed, for people, when it is not simply what everybody expects: `user`, `event`
    /// and `timestamp`.
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

    /// A text that is another one when lines would be read in another way.
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

    /// How many fields of a line of CSV are looked at.
    pub(super) fn columns(&self) -> usize {
        let fields = [&self.user, &self.time]
            .into_iter()
            .chain(&self.event)
            .chain(self.properties.iter().flatten());
        fields.map(|field| field.place + 1).max().unwrap_or(0)
    }

    /// By the names in the first line of a CSV.
    pub(super) fn of_header(
        names: &[String],
        delimiter: u8,
        wishes: &Wishes,
    ) -> Result<Self, String> {
        let find = |wanted: &str| {
            let exact = names.iter().position(|name| name == wanted);
            let place = exact.or_else(|| {
                names
                    .iter()
                    .position(|name| name.eq_ignore_ascii_case(wanted))
            })?;
            Some(Field::column(&names[place], place))
        };
        let missing = |what: &str, wanted: &str, flag: &str| {
            let found: Vec<String> = names
                .iter()
                .take(20)
                .map(|name| format!("`{}`", name.chars().take(40).collect::<String>()))
                .collect();
            let more = if names.len() > 20 { ", …" } else { "" };
            let found = found
                .join(", ")
                .escape_debug()
                .to_string()
                .replace("\\'", "'");
            format!(
                "there is no column `{wanted}`; the first line names {found}{more}. Say which one holds {what} with {flag}"
            )
        };
        let place = |what: &str, wish: Option<&str>, candidates: &[&str], flag: &str| {
            let found = match wish {
                Some(wanted) => find(wanted),
                None => candidates.iter().find_map(|name| find(name)),
            };
            found.ok_or_else(|| missing(what, wish.unwrap_or(candidates[0]), flag))
        };
        let user = place("the user id", wishes.user.as_deref(), &USERS, USER_FLAG)?;
        let event = match &wishes.event {
            EventFrom::Always(_) => None,
            EventFrom::Guess => Some(None),
            EventFrom::Column(name) => Some(Some(name.as_str())),
        };
        let event_flag = "--event-column NAME, or give all lines the same event with --event NAME";
        let event = event
            .map(|wish| place("the event's name", wish, &EVENTS, event_flag))
            .transpose()?;
        let time = place("the time", wishes.time.as_deref(), &TIMES, TIME_FLAG)?;
        // An export holds, beside what it is named for, columns that nobody else names so.
        let posthog = ["distinct_id", "event", "timestamp"]
            .iter()
            .all(|name| find(name).is_some())
            && names.iter().any(|name| {
                ["elements_chain", "properties", "person_id"].contains(&name.as_str())
                    || name.starts_with("properties.")
            });
        let properties = wishes.properties.iter().map(|wanted| {
            let inside = ["properties.", "person.properties.", "person_properties."];
            let places = inside
                .iter()
                .filter(|_| posthog)
                .filter_map(|parent| find(&format!("{parent}{wanted}")));
            let places: Vec<Field> = find(wanted).into_iter().chain(places).collect();
            if places.is_empty() {
                Err(missing("it", wanted, "--property NAME"))
            } else {
                Ok(places)
            }
        });
        let mut layout = Layout {
            format: Format::Csv,
            product: posthog.then_some(Product::PostHog),
            delimiter,
            user,
            event,
            time,
            properties: properties.collect::<Result<_, _>>()?,
            unix: Unix::Seconds,
            guessed: false,
        };
        layout.guessed = layout.surprises(wishes);
        Ok(layout)
    }

    /// By the first object of an NDJSON; `None` when the first line is none, and then the usual
    /// names are meant.
    pub(super) fn of_object(object: Option<&Map<String, Value>>, wishes: &Wishes) -> Self {
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
        // `a.b` is the field `b` of the object `a`, unless there is one of that very name.
        let field = |name: &str| match name.split_once('.') {
            Some((parent, child)) if !has(name) => Field::inside(parent, child),
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
        let wish = |wish: &Option<String>| wish.as_deref().map(field);
        let parents: &[&str] = match product {
            Some(Product::Mixpanel) => &["properties"],
            Some(Product::Amplitude) => &["event_properties", "user_properties"],
            _ => &[],
        };
        let properties = wishes.properties.iter().map(|wanted| {
            parents
                .iter()
                .map(|parent| Field::inside(parent, wanted))
                .chain([field(wanted)])
                .collect()
        });
        let mut layout = Layout {
            format: Format::Ndjson,
            product,
            delimiter: b',',
            user: wish(&wishes.user)
                .unwrap_or_else(|| by_product("properties.distinct_id", "user_id", &USERS)),
            event: match &wishes.event {
                EventFrom::Always(_) => None,
                EventFrom::Column(name) => Some(field(name)),
                EventFrom::Guess => Some(by_product("event", "event_type", &EVENTS)),
            },
            time: wish(&wishes.time)
                .unwrap_or_else(|| by_product("properties.time", "event_time", &TIMES)),
            properties: properties.collect(),
            unix: if product.is_some() {
                Unix::Either
            } else {
                Unix::Seconds
            },
            guessed: false,
        };
        layout.guessed = layout.surprises(wishes);
        layout
    }

    fn surprises(&self, wishes: &Wishes) -> bool {
        let event = self
            .event
            .as_ref()
            .filter(|_| matches!(wishes.event, EventFrom::Guess));
        let user = Some(&self.user).filter(|_| wishes.user.is_none());
        let time = Some(&self.time).filter(|_| wishes.time.is_none());
        [(user, USERS[0]), (event, EVENTS[0]), (time, TIMES[0])]
            .into_iter()
            .any(|(field, usual)| {
                field.is_some_and(|field| !field.name.eq_ignore_ascii_case(usual))
            })
    }
}

/// The separator that the first line that is not blank has most of: a comma unless semicolons or
/// tabs outnumber it.
pub(super) fn delimiter(start: &[u8]) -> u8 {
    let line = start
        .split(|byte| *byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty())
        .unwrap_or_default();
    let times = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    [b';', b'\t']
        .into_iter()
        .filter(|d| times(*d) > times(b','))
        .max_by_key(|d| times(*d))
        .unwrap_or(b',')
}
