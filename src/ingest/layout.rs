//! The layout of a file: which column or field holds what. It is determined from the start of the
//! file and from the requested columns.

use serde_json::{Map, Value};

use crate::ingest::json;
use crate::ingest::place::Field;
use crate::ingest::products::{KNOWN, Known, SNOWPLOW_COLUMNS, snowplow_column};
use crate::ingest::property::{Wish, matches};
use crate::sets::EventName;
use crate::values::Times;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Values separated by commas, semicolons, tabs or pipes.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// A table that is stored by column.
    Parquet,
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
            "csv" | "tsv" | "psv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            "parquet" => Some(Format::Parquet),
            _ => None,
        }
    }
}

/// The requested columns, and how values are read. Other columns are guessed from the start of the
/// file.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// The columns or fields with the user id. The first one with a value counts.
    pub user: Vec<String>,
    /// The source of the event names.
    pub event: EventFrom,
    /// The column or field with the time.
    pub time: Option<String>,
    /// Columns or fields whose values become events.
    pub properties: Vec<Wish>,
    /// Whether a file may lack the properties.
    pub optional_properties: bool,
    /// What the columns of a CSV file without a header hold.
    pub header: Header,
    /// How times are read.
    pub times: Times,
    /// Whether users have string ids.
    pub string_ids: bool,
}

/// What the columns of a CSV file hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Header {
    /// The first line tells it.
    #[default]
    FirstLine,
    /// The names of the columns, in order. The file has no header.
    Names(Vec<String>),
    /// The numbers of the columns of the user, the event and the time, counted from 0. The file has
    /// no header.
    Places(Vec<usize>),
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

/// The layout of a file: its format, and where its values are.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) format: Format,
    pub(super) product: Option<&'static Known>,
    /// The separator of the fields of a CSV file.
    pub(super) delimiter: u8,
    /// The fields that may hold the user. The first one with a value counts.
    pub(super) user: Vec<Field>,
    /// The same for the event. Empty if all lines have the same event.
    pub(super) event: Vec<Field>,
    pub(super) time: Field,
    pub(super) properties: Vec<Source>,
    /// What was guessed, for people.
    guess: Option<String>,
}

/// Where a property is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The index of the property among the requested ones.
    pub wish: usize,
    /// The name that values follow. `None` if the names of fields decide.
    pub name: Option<String>,
    /// The fields that may hold it. The first one with a value counts. If the names of fields
    /// decide, these hold the fields.
    pub fields: Vec<Field>,
    /// The pattern of the names of fields.
    pub pattern: String,
}

/// The usual names of users, in the order in which they are looked for. A guess uses the first one
/// of each group.
const USERS: [&[&str]; 4] = [
    &["user", "user_id", "uid", "customer_id"],
    &["distinct_id"],
    &[
        "anonymous_id",
        "user_pseudo_id",
        "device_id",
        "visitor_id",
        "client_id",
    ],
    &["session_id"],
];
/// The groups of [`USERS`] that share their numbers. Other ids may be the number of another user.
const NUMERIC_GROUPS: usize = 2;
const EVENTS: [&str; 4] = ["event", "event_name", "event_type", "action"];
const TIMES: [&str; 10] = [
    "timestamp",
    "time",
    "ts",
    "created_at",
    "event_time",
    "event_timestamp",
    "occurred_at",
    "datetime",
    "date",
    "received_at",
];

const USER_FLAG: &str = "the user id with --user-column NAME";
const EVENT_FLAG: &str =
    "the event's name with --event-column NAME, or give all lines the same event with --event NAME";
const TIME_FLAG: &str = "the time with --time-column NAME";
const PROPERTY_FLAG: &str = "the property with --property NAME";

impl Layout {
    /// Returns a description of what was guessed, or `None` if the guessed fields have the usual
    /// names `user`, `event` and `timestamp`.
    pub fn guess(&self) -> Option<&str> {
        self.guess.as_deref()
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
            ..
        } = self;
        let product = product.map(|product| product.name);
        format!("{format:?} {product:?} {delimiter} {user:?} {event:?} {time:?} {properties:?}")
    }

    /// Returns the separator of the fields of a CSV file, or `None` for JSON.
    pub fn delimiter(&self) -> Option<u8> {
        (self.format == Format::Csv).then_some(self.delimiter)
    }

    /// Returns what a record of the file is called.
    pub fn record(&self) -> &'static str {
        match self.format {
            Format::Csv | Format::Ndjson => "line",
            Format::Parquet => "row",
        }
    }

    /// Returns the fields that may hold the user.
    pub fn user(&self) -> &[Field] {
        &self.user
    }

    /// Returns the fields that may hold the event.
    pub fn event(&self) -> &[Field] {
        &self.event
    }

    /// Returns the event of lines without one.
    pub fn default_event(&self) -> Option<&'static str> {
        self.product?.default_event
    }

    /// Returns the field that holds the time.
    pub fn time(&self) -> &Field {
        &self.time
    }

    /// Returns where the properties are.
    pub fn properties(&self) -> &[Source] {
        &self.properties
    }

    /// Returns all fields that are read.
    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.user
            .iter()
            .chain([&self.time])
            .chain(&self.event)
            .chain(self.properties.iter().flat_map(|source| &source.fields))
    }

    /// Returns the number of fields of a line that are needed, for a CSV file.
    pub(super) fn columns(&self) -> usize {
        let last = self.fields().map(|field| field.place).max();
        last.expect("a layout has a user") + 1
    }

    /// Determines the layout from the names of the columns of a CSV file.
    pub(super) fn of_header(
        names: &[String],
        delimiter: u8,
        columns: &Columns,
    ) -> Result<Self, String> {
        Finder {
            shape: Shape::Header(names),
            columns,
            missing: Vec::new(),
        }
        .layout(delimiter)
    }

    /// Determines the layout from the names of the columns of a table.
    pub(super) fn of_table(names: &[String], columns: &Columns) -> Result<Self, String> {
        let layout = Layout::of_header(names, b',', columns)?;
        Ok(Layout {
            format: Format::Parquet,
            ..layout
        })
    }

    /// Determines the layout from the first object.
    pub(super) fn of_object(object: Option<&Map<String, Value>>, columns: &Columns) -> Self {
        Finder {
            shape: Shape::Object(object),
            columns,
            missing: Vec::new(),
        }
        .layout(b',')
        .expect("later objects may have a field that the first one lacks")
    }

    /// Determines the layout of a CSV file without a header from its first line, if that is
    /// certainly data.
    pub(super) fn of_data(first: &[&[u8]], delimiter: u8, columns: &Columns) -> Option<Self> {
        if is_snowplow(first, delimiter, &columns.times) {
            let names: Vec<String> = (0..SNOWPLOW_COLUMNS).map(snowplow_column).collect();
            return Layout::of_header(&names, delimiter, columns).ok();
        }
        let time = time_place(first, columns)?;
        let others: Vec<usize> = (0..first.len()).filter(|place| *place != time).collect();
        let is_number = |place: &usize| {
            let field = first[*place].trim_ascii();
            !field.is_empty() && field.iter().all(u8::is_ascii_digit)
        };
        let places = match (&columns.event, &others[..]) {
            (EventFrom::Always(_), [user]) => vec![*user, time],
            (EventFrom::Guess, [a, b]) if is_number(a) != is_number(b) => {
                let (user, event) = if is_number(a) { (*a, *b) } else { (*b, *a) };
                vec![user, event, time]
            }
            _ => return None,
        };
        let is_asked = !columns.user.is_empty() || columns.time.is_some();
        (!is_asked).then(|| Layout::of_places(&places, delimiter, columns))?
    }

    /// Returns the layout of a CSV file without a header, of which the columns of the user, the
    /// event (if there is one) and the time are known.
    pub(super) fn of_places(places: &[usize], delimiter: u8, columns: &Columns) -> Option<Self> {
        let (user, event, time) = match (places, &columns.event) {
            ([user, time], EventFrom::Always(_)) => (*user, None, *time),
            ([user, event, time], EventFrom::Guess) => (*user, Some(*event), *time),
            _ => return None,
        };
        if !columns.properties.is_empty() && !columns.optional_properties {
            return None;
        }
        let column = |place: usize| Field {
            name: format!("column {}", place + 1),
            place,
            path: Vec::new(),
        };
        let shown = event.map_or(String::new(), |event| {
            format!("column {} the event, ", event + 1)
        });
        Some(Layout {
            format: Format::Csv,
            product: None,
            delimiter,
            user: vec![column(user)],
            event: event.map(column).into_iter().collect(),
            time: column(time),
            properties: Vec::new(),
            guess: (columns.header == Header::FirstLine).then(|| {
                format!(
                    "the first line looks like data: column {} is the user, {shown}column {} the time",
                    user + 1,
                    time + 1
                )
            }),
        })
    }
}

/// Returns whether a line is an event that Snowplow enriched, which has no names of columns.
fn is_snowplow(first: &[&[u8]], delimiter: u8, times: &Times) -> bool {
    delimiter == b'\t'
        && first.len() == SNOWPLOW_COLUMNS
        && times.read(first[3]).is_ok_and(|time| time.unit.is_none())
}

/// Returns the only field of a line that is a time. No column is named like a time.
fn time_place(first: &[&[u8]], columns: &Columns) -> Option<usize> {
    let is_text = |field: &[u8]| {
        columns
            .times
            .read(field)
            .is_ok_and(|time| time.unit.is_none())
    };
    // Small numbers are ids.
    let is_number = |field: &[u8]| {
        let len = field.trim_ascii().len();
        (10..=19).contains(&len)
            && columns
                .times
                .read(field)
                .is_ok_and(|time| time.unit.is_some())
    };
    let only = |is_time: &dyn Fn(&[u8]) -> bool| {
        let mut places = (0..first.len()).filter(|place| is_time(first[*place]));
        let place = places.next()?;
        places.next().is_none().then_some(place)
    };
    only(&is_text).or_else(|| only(&is_number))
}

/// Returns the error for a first line that looks like data, or `None`.
pub(super) fn looks_like_data(first: &[&[u8]], columns: &Columns) -> Option<String> {
    let time = time_place(first, columns)?;
    let mut names = vec!["…"; first.len().min(12)];
    if let Some(name) = names.get_mut(time) {
        *name = "time";
    }
    Some(format!(
        "the first line looks like data, and not like the names of columns. Say what the columns hold, such as with --columns {}",
        match names.len() {
            2 if matches!(columns.event, EventFrom::Always(_)) => {
                if time == 0 { "time,user" } else { "user,time" }.to_owned()
            }
            3 => match time {
                0 => "time,user,event",
                1 => "user,time,event",
                _ => "user,event,time",
            }
            .to_owned(),
            _ => format!("{}, where other columns have any name", names.join(",")),
        }
    ))
}

/// Where the names of fields are looked up.
#[derive(Clone, Copy)]
enum Shape<'a> {
    /// The names of columns.
    Header(&'a [String]),
    /// The first object, if there is one.
    Object(Option<&'a Map<String, Value>>),
}

/// Makes a name comparable: names differ in case and separators only by habit.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Returns the name that is wanted exactly, or else in another case, or else with other separators.
fn find_name<'a>(names: impl Iterator<Item = &'a str> + Clone, wanted: &str) -> Option<usize> {
    let plain_wanted = plain(wanted);
    let by = |is_same: &dyn Fn(&str) -> bool| names.clone().position(is_same);
    by(&|name| name == wanted)
        .or_else(|| by(&|name| name.eq_ignore_ascii_case(wanted)))
        .or_else(|| by(&|name| plain(name) == plain_wanted))
        .filter(|_| !plain_wanted.is_empty())
}

impl Shape<'_> {
    /// Finds a column or field. A path that goes on in a column leads into the JSON object in its
    /// cells.
    fn find(self, wanted: &str) -> Option<Field> {
        let (place, path) = match self {
            Shape::Header(names) => find_column(names, wanted)?,
            Shape::Object(object) => (0, find_path(object?, wanted)?),
        };
        let name = match self {
            Shape::Header(names) if path.is_empty() => names[place].clone(),
            Shape::Header(names) => format!("{}.{}", names[place], path.join(".")),
            Shape::Object(_) => path.join("."),
        };
        Some(Field { name, place, path })
    }

    /// Returns whether there is a column or field. The contents of cells are unknown.
    fn has(self, name: &str) -> bool {
        match (self, self.find(name)) {
            (Shape::Header(_), Some(field)) => field.path.is_empty(),
            (Shape::Object(_), found) => found.is_some(),
            (Shape::Header(_), None) => false,
        }
    }

    /// Returns the field with a name. In JSON it need not be in the first object.
    fn field(self, wanted: &str) -> Option<Field> {
        self.find(wanted).or_else(|| match self {
            Shape::Header(_) => None,
            Shape::Object(_) => Some(Field {
                name: wanted.to_owned(),
                place: 0,
                path: wanted.split('.').map(str::to_owned).collect(),
            }),
        })
    }
}

fn find_column(names: &[String], wanted: &str) -> Option<(usize, Vec<String>)> {
    let column = |name: &str| find_name(names.iter().map(String::as_str), name);
    if let Some(place) = column(wanted) {
        return Some((place, Vec::new()));
    }
    let by_number = || {
        let number: usize = wanted.parse().ok()?;
        (1..=names.len())
            .contains(&number)
            .then(|| (number - 1, Vec::new()))
    };
    let in_cell = || {
        let mut ends: Vec<usize> = wanted.match_indices('.').map(|(at, _)| at).collect();
        ends.reverse();
        ends.into_iter().find_map(|end| {
            let place = column(&wanted[..end])?;
            let path = wanted[end + 1..].split('.').map(str::to_owned).collect();
            Some((place, path))
        })
    };
    in_cell().or_else(by_number)
}

/// Returns the path of a name in an object. Names may contain dots.
fn find_path(object: &Map<String, Value>, wanted: &str) -> Option<Vec<String>> {
    let key = |name: &str| {
        let index = find_name(object.keys().map(String::as_str), name)?;
        object.keys().nth(index)
    };
    if let Some(key) = key(wanted) {
        return Some(vec![key.clone()]);
    }
    wanted.match_indices('.').find_map(|(at, _)| {
        let parent = key(&wanted[..at])?;
        let rest = &wanted[at + 1..];
        let within = json::object(object.get(parent)?);
        let inner = match &within {
            Some(within) => find_path(within, rest)?,
            // A list of keys and values.
            None => {
                json::step(object.get(parent)?, rest)?;
                vec![rest.to_owned()]
            }
        };
        Some([vec![parent.clone()], inner].concat())
    })
}

/// Determines a layout, and collects all columns that are missing.
struct Finder<'a> {
    shape: Shape<'a>,
    columns: &'a Columns,
    /// What was looked for, and what to do.
    missing: Vec<(String, &'static str)>,
}

impl Finder<'_> {
    fn layout(mut self, delimiter: u8) -> Result<Layout, String> {
        let shape = self.shape;
        let columns = self.columns;
        let product = KNOWN
            .iter()
            .find(|known| known.is_in(|name| shape.has(name)));
        let user = match &columns.user[..] {
            [] => self.guess_user(product),
            requested => requested
                .iter()
                .filter_map(|name| self.required(name, USER_FLAG))
                .collect(),
        };
        let event = match &columns.event {
            EventFrom::Always(_) => Vec::new(),
            EventFrom::Column(name) => self.required(name, EVENT_FLAG).into_iter().collect(),
            EventFrom::Guess => self.guess_event(product),
        };
        let time = match &columns.time {
            Some(name) => self.required(name, TIME_FLAG),
            None => {
                let usual = product.map_or(&TIMES[..], |product| product.time);
                let found = usual.iter().find_map(|name| shape.find(name));
                found.or_else(|| self.required(usual[0], TIME_FLAG))
            }
        };
        let mut properties = Vec::new();
        for (wish, property) in columns.properties.iter().enumerate() {
            let found = self.property(wish, property, product);
            properties.extend(found);
        }
        let (Some(time), []) = (time, &self.missing[..]) else {
            return Err(self.mistakes());
        };
        let mut layout = Layout {
            format: match shape {
                Shape::Header(_) => Format::Csv,
                Shape::Object(_) => Format::Ndjson,
            },
            product,
            delimiter,
            user,
            event,
            time,
            properties,
            guess: None,
        };
        layout.guess = guess(&layout, columns);
        Ok(layout)
    }

    /// Returns a field that must exist.
    fn required(&mut self, name: &str, flag: &'static str) -> Option<Field> {
        let found = self.shape.field(name);
        if found.is_none() {
            self.missing.push((name.to_owned(), flag));
        }
        found
    }

    fn guess_user(&mut self, product: Option<&Known>) -> Vec<Field> {
        let shape = self.shape;
        let of_product = product.map(|product| {
            let names = match self.columns.string_ids {
                true => product.string_user,
                false => product.user,
            };
            names.iter().filter_map(|name| shape.find(name)).collect()
        });
        let mut found: Vec<Field> = of_product.unwrap_or_else(|| {
            let groups = match self.columns.string_ids {
                true => USERS.len(),
                false => NUMERIC_GROUPS,
            };
            let of_groups = |groups: &[&[&str]]| -> Vec<Field> {
                let first = |group: &&[&str]| group.iter().find_map(|name| shape.find(name));
                groups.iter().filter_map(first).collect()
            };
            let found = of_groups(&USERS[..groups]);
            if found.is_empty() {
                of_groups(&USERS).into_iter().take(1).collect()
            } else {
                found
            }
        });
        // In a list of users, their id is `id`. In a list of events it is the event's.
        if found.is_empty() && matches!(self.columns.event, EventFrom::Always(_)) {
            found.extend(shape.find("id"));
        }
        if found.is_empty() {
            found.extend(self.required(USERS[0][0], USER_FLAG));
        }
        found
    }

    fn guess_event(&mut self, product: Option<&Known>) -> Vec<Field> {
        let shape = self.shape;
        if let Some(product) = product {
            let names = product.event.iter();
            let found: Vec<Field> = match shape {
                Shape::Header(_) => names.filter_map(|name| shape.find(name)).collect(),
                // An object has only the fields of its own kind of event.
                Shape::Object(_) => names.filter_map(|name| shape.field(name)).collect(),
            };
            if !found.is_empty() {
                return found;
            }
        }
        let found = EVENTS.iter().find_map(|name| shape.find(name));
        let found = found.or_else(|| self.required(EVENTS[0], EVENT_FLAG));
        found.into_iter().collect()
    }

    /// Returns where a property is: in several places if its name has a wildcard.
    fn property(&mut self, wish: usize, property: &Wish, product: Option<&Known>) -> Vec<Source> {
        let shape = self.shape;
        let name = property.name.as_str();
        let parents = product.map_or(&[""][..], |product| product.parents);
        let within = |parent: &str, name: &str| match parent {
            "" => name.to_owned(),
            _ => format!("{parent}.{name}"),
        };
        if name.contains('*') {
            return self.wildcard(wish, name);
        }
        let mut fields: Vec<Field> = Vec::new();
        for parent in parents {
            let name = within(parent, name);
            let found = match shape {
                Shape::Object(_) if parent.is_empty() || shape.find(parent).is_some() => {
                    shape.field(&name)
                }
                _ => shape.find(&name),
            };
            fields.extend(found.filter(|field| !fields.contains(field)));
        }
        if fields.is_empty() {
            // The usual columns with objects.
            let usual = [
                "properties",
                "event_properties",
                "user_properties",
                "traits",
            ];
            fields.extend(
                usual
                    .iter()
                    .find_map(|parent| shape.find(&within(parent, name))),
            );
        }
        if fields.is_empty() && !self.columns.optional_properties {
            fields.extend(self.required(name, PROPERTY_FLAG));
        }
        if fields.is_empty() {
            return Vec::new();
        }
        vec![Source {
            wish,
            name: Some(name.to_owned()),
            fields,
            pattern: String::new(),
        }]
    }

    /// A pattern matches names of columns, and the names of fields below a column or field.
    fn wildcard(&mut self, wish: usize, name: &str) -> Vec<Source> {
        let shape = self.shape;
        let source = |name: Option<String>, field: Field, pattern: &str| Source {
            wish,
            name,
            fields: vec![field],
            pattern: pattern.to_owned(),
        };
        let mut found = Vec::new();
        if let Shape::Header(names) = shape {
            let matching = names
                .iter()
                .enumerate()
                .filter(|(_, column)| matches(name, column));
            found.extend(matching.map(|(place, column)| {
                let field = Field {
                    name: column.clone(),
                    place,
                    path: Vec::new(),
                };
                source(Some(column.clone()), field, "")
            }));
        }
        let fixed = &name[..name.find('*').unwrap_or(name.len())];
        let whole = Field {
            name: String::new(),
            place: 0,
            path: Vec::new(),
        };
        match (shape, fixed.rsplit_once('.')) {
            (Shape::Object(_), _) => found.push(source(None, whole, name)),
            (Shape::Header(_), Some((parent, _))) if found.is_empty() => {
                let field = shape.find(parent);
                found.extend(field.map(|field| source(None, field, &name[parent.len() + 1..])));
            }
            (Shape::Header(_), _) => {}
        }
        if found.is_empty() && !self.columns.optional_properties {
            self.missing.push((name.to_owned(), PROPERTY_FLAG));
        }
        found
    }

    /// Returns the error for all missing columns.
    fn mistakes(&self) -> String {
        let Shape::Header(names) = self.shape else {
            unreachable!("in JSON no field is missing")
        };
        let shown: Vec<String> = names
            .iter()
            .take(20)
            .map(|name| format!("`{}`", name.chars().take(40).collect::<String>()))
            .collect();
        let more = if names.len() > 20 { ", …" } else { "" };
        let shown = shown
            .join(", ")
            .escape_debug()
            .to_string()
            .replace("\\'", "'");
        let wanted: Vec<String> = self
            .missing
            .iter()
            .map(|(name, _)| format!("`{}`", name.escape_debug()))
            .collect();
        let mut flags: Vec<&str> = self.missing.iter().map(|(_, flag)| *flag).collect();
        flags.dedup();
        let totals = ["visitors", "date"]
            .iter()
            .all(|name| find_name(names.iter().map(String::as_str), name).is_some());
        if totals {
            return format!(
                "these are totals ({shown}{more}), and not events of users: a total does not tell who came back. Import one line per event, with its user"
            );
        }
        format!(
            "there is no column {}; the columns are {shown}{more}. Say which one holds {}",
            wanted.join(" and no column "),
            flags.join(", and ")
        )
    }
}

/// Describes what was guessed.
fn guess(layout: &Layout, columns: &Columns) -> Option<String> {
    let is_guessed = matches!(columns.event, EventFrom::Guess);
    let usual = |fields: &[Field], usual: &str| matches!(fields, [field] if field.name.eq_ignore_ascii_case(usual));
    let has_usual = (!columns.user.is_empty() || usual(&layout.user, USERS[0][0]))
        && (!is_guessed || usual(&layout.event, EVENTS[0]))
        && (columns.time.is_some() || usual(std::slice::from_ref(&layout.time), TIMES[0]));
    if has_usual {
        return None;
    }
    let shown = |fields: &[Field]| {
        let names: Vec<String> = fields
            .iter()
            .map(|field| format!("`{}`", field.name))
            .collect();
        names.join(", or else ")
    };
    let product = layout
        .product
        .map_or(String::new(), |product| format!("{}: ", product.name));
    let event = match &layout.event[..] {
        [] => String::new(),
        fields => format!("{} the event, ", shown(fields)),
    };
    Some(format!(
        "{product}{} is the user, {event}`{}` the time",
        shown(&layout.user),
        layout.time.name
    ))
}

/// Returns the separator of a CSV file: the most frequent one in the first line that is not blank,
/// outside quotes. A comma goes before the others.
pub(super) fn delimiter(start: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut is_quoted = false;
    let mut is_blank = true;
    for byte in start {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted && !is_blank => break,
            _ if is_quoted => {}
            _ => counts
                .iter_mut()
                .filter(|(delimiter, _)| delimiter == byte)
                .for_each(|(_, count)| *count += 1),
        }
        is_blank &= byte.is_ascii_whitespace();
    }
    let most = counts.iter().map(|(_, count)| *count).max();
    let found = counts.iter().find(|(_, count)| Some(*count) == most);
    found.map_or(b',', |(delimiter, _)| *delimiter)
}

/// Returns the separator that the first line of a file of Excel names, as `sep=;`, and the length
/// of that line.
pub(super) fn named_delimiter(start: &[u8]) -> Option<(u8, usize)> {
    let len = start
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(start.len(), |at| at + 1);
    let line = start[..len].trim_ascii_end();
    let line = line
        .strip_prefix(b"\"")
        .and_then(|line| line.strip_suffix(b"\""))
        .unwrap_or(line);
    let named = line
        .get(..4)?
        .eq_ignore_ascii_case(b"sep=")
        .then(|| &line[4..])?;
    match named {
        [delimiter] if !delimiter.is_ascii_alphanumeric() && *delimiter != b'"' => {
            Some((*delimiter, len))
        }
        // The tab was removed with the line end.
        [] if start[..len].ends_with(b"\t\n") || start[..len].ends_with(b"\t\r\n") => {
            Some((b'\t', len))
        }
        _ => None,
    }
}
