//! Lines of a file → records to import. Streaming and pure: it sees a reader, no file and no store.
//!
//! A bad line is a value among the others, with its number and the reason, so that the caller decides what to do.

use std::collections::HashMap;
use std::io::{self, BufRead, Chain, Cursor, Read};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde_json::{Map, Value};

use crate::calendar::{CalendarError, parse_moment};
use crate::sets::{EventName, UserId};

/// How many event names are remembered, so that the usual few are checked once.
const NAMES_REMEMBERED: usize = 10_000;

/// How the lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-, semicolon- or tab-separated, with the names of the columns in the first line.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// What a file name's ending says.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            _ => None,
        }
    }
}

/// Where in a line things stand.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The column or field with the user id.
    pub user: String,
    /// The column or field with the event's name, or the name that all lines have.
    pub event: EventFrom,
    /// The column or field with the time.
    pub time: String,
}

/// Where the event's name comes from.
#[derive(Debug, Clone)]
pub enum EventFrom {
    /// A column.
    Column(String),
    /// It is the same for every line.
    Always(EventName),
}

/// A good line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What was done.
    pub event: EventName,
    /// By whom.
    pub user: UserId,
    /// When.
    pub at: DateTime<Utc>,
}

/// Why there is no record.
#[derive(Debug)]
pub enum Problem {
    /// This line is no good; the next may be.
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file as a whole is no good: a column is missing, or it is something else altogether.
    File(String),
    /// It cannot be read on.
    Read(io::Error),
}

/// The records of one file.
pub struct Records<R> {
    source: Source<R>,
    names: Names,
}

/// The head of a file, read already, and the rest.
type Input<R> = Chain<Cursor<Vec<u8>>, R>;

/// The most of a file that is looked at to tell what it is.
const HEAD: usize = 1 << 20;

/// The beginning of a file up to the end of its first line that is not blank. A pipe gives its bytes in pieces of any
/// size, so one read tells nothing.
fn head(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while head.len() < HEAD {
        let before = head.len();
        let left = (HEAD - before) as u64;
        reader.by_ref().take(left).read_until(b'\n', &mut head)?;
        if head.len() == before || !head[before..].trim_ascii().is_empty() {
            break;
        }
    }
    Ok(head)
}

enum Source<R> {
    Csv { reader: Box<csv::Reader<Chain<Input<R>, &'static [u8]>>>, record: csv::ByteRecord, places: Places },
    Ndjson { reader: Input<R>, buffer: Vec<u8>, line: u64, columns: Columns },
    Empty,
}

/// The indices of the columns.
struct Places {
    user: usize,
    event: Option<usize>,
    time: usize,
    names: Columns,
}

impl<R: BufRead> Records<R> {
    /// Begins to read. `format` is what the file's name says; without one the first byte tells.
    ///
    /// # Errors
    /// When it cannot be read, or a CSV lacks a column.
    pub fn new(mut reader: R, format: Option<Format>, columns: &Columns) -> Result<Self, Problem> {
        let names = Names { fixed: columns.event.fixed(), known: HashMap::new() };
        let head = head(&mut reader).map_err(Problem::Read)?;
        let start = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&head).to_vec();
        let Some(first) = start.iter().find(|byte| !byte.is_ascii_whitespace()).copied() else {
            return Ok(Records { source: Source::Empty, names });
        };
        let reader = Cursor::new(start.clone()).chain(reader);
        if start.starts_with(b"\xFF\xFE") || start.starts_with(b"\xFE\xFF") {
            return Err(Problem::File("this is UTF-16; save it as UTF-8".to_owned()));
        }
        if start.starts_with(b"\x1F\x8B") {
            return Err(Problem::File(
                "this is compressed (gzip): unpack it first, such as with `zcat FILE | cohortist import -`".to_owned(),
            ));
        }
        let format = format.unwrap_or(if matches!(first, b'{' | b'[') { Format::Ndjson } else { Format::Csv });
        let source = match format {
            Format::Ndjson if first == b'[' => {
                return Err(Problem::File(
                    "this is one JSON array; write one object a line instead, such as with `jq -c '.[]'`".to_owned(),
                ));
            }
            Format::Ndjson => Source::Ndjson { reader, buffer: Vec::new(), line: 0, columns: columns.clone() },
            Format::Csv => {
                let delimiter = delimiter(&start);
                // Records end at line feeds only and the last one always has one: so lines can be counted. A carriage
                // return before it is taken off the last field.
                let mut reader = csv::ReaderBuilder::new()
                    .has_headers(false)
                    .flexible(true)
                    .delimiter(delimiter)
                    .terminator(csv::Terminator::Any(b'\n'))
                    .from_reader(reader.chain(b"\n".as_slice()));
                let mut record = csv::ByteRecord::new();
                reader.read_byte_record(&mut record).map_err(|error| Problem::Read(error.into()))?;
                let places = Places::find(&record, columns).map_err(Problem::File)?;
                Source::Csv { reader: Box::new(reader), record, places }
            }
        };
        Ok(Records { source, names })
    }
}

/// The separator that the first line has most of: a comma unless semicolons or tabs outnumber it.
fn delimiter(start: &[u8]) -> u8 {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let times = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    [b';', b'\t'].into_iter().filter(|d| times(*d) > times(b',')).max_by_key(|d| times(*d)).unwrap_or(b',')
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<Record, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Empty => None,
            Source::Csv { reader, record, places } => loop {
                match reader.read_byte_record(record) {
                    Ok(false) => return None,
                    Ok(true) if record.as_slice().iter().all(u8::is_ascii_whitespace) => {}
                    Ok(true) => {
                        let result = places.read(record, &mut self.names);
                        return Some(result.map_err(|mut reason| {
                            let end = reader.position().line() - 1;
                            let breaks = record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
                            if breaks > 0 {
                                reason += &format!(" (the record runs on to line {end}: is a quote left open?)");
                            }
                            // A record that the file ends in holds the last line feed itself; its position knows.
                            let at_least = record.position().map_or(0, csv::Position::line);
                            Problem::Line { line: end.saturating_sub(breaks).max(at_least), reason }
                        }));
                    }
                    Err(error) => {
                        self.source = Source::Empty;
                        return Some(Err(Problem::Read(error.into())));
                    }
                }
            },
            Source::Ndjson { reader, buffer, line, columns } => loop {
                buffer.clear();
                *line += 1;
                match reader.read_until(b'\n', buffer) {
                    Ok(0) => return None,
                    Ok(_) if buffer.iter().all(u8::is_ascii_whitespace) => {}
                    Ok(_) => {
                        let record = from_object(buffer, columns, &mut self.names);
                        return Some(record.map_err(|reason| Problem::Line { line: *line, reason }));
                    }
                    Err(error) => {
                        self.source = Source::Empty;
                        return Some(Err(Problem::Read(error)));
                    }
                }
            },
        }
    }
}

impl EventFrom {
    fn fixed(&self) -> Option<EventName> {
        match self {
            EventFrom::Always(name) => Some(name.clone()),
            EventFrom::Column(_) => None,
        }
    }
}

impl Places {
    fn find(header: &csv::ByteRecord, columns: &Columns) -> Result<Self, String> {
        let names: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let place = |what: &str, wanted: &str, flag: &str| {
            let exact = names.iter().position(|name| name == wanted);
            exact.or_else(|| names.iter().position(|name| name.eq_ignore_ascii_case(wanted))).ok_or_else(|| {
                let found: Vec<String> =
                    names.iter().take(20).map(|name| format!("`{}`", name.chars().take(40).collect::<String>())).collect();
                let more = if names.len() > 20 { ", …" } else { "" };
                let found = found.join(", ").escape_debug().to_string().replace("\\'", "'");
                format!(
                    "there is no column `{wanted}`; the first line names {found}{more}. Say which one holds the {what} with {flag}"
                )
            })
        };
        Ok(Places {
            user: place("user id", &columns.user, "--user-column NAME")?,
            event: match &columns.event {
                EventFrom::Always(_) => None,
                EventFrom::Column(name) => Some(place(
                    "event's name",
                    name,
                    "--event-column NAME, or give all lines the same event with --event NAME",
                )?),
            },
            time: place("time", &columns.time, "--time-column NAME")?,
            names: columns.clone(),
        })
    }

    fn read(&self, record: &csv::ByteRecord, names: &mut Names) -> Result<Record, String> {
        let field = |place: usize, name: &str| {
            record.get(place).ok_or_else(|| {
                format!("the line has {} fields, and `{name}` would be number {}", record.len(), place + 1)
            })
        };
        let user = parse_user_bytes(field(self.user, &self.names.user)?)?;
        let at = moment(field(self.time, &self.names.time)?)?;
        let event = match (self.event, &self.names.event) {
            (Some(place), EventFrom::Column(name)) => {
                let name = field(place, name)?;
                names.event(name.strip_suffix(b"\r").unwrap_or(name))?
            }
            _ => names.event(b"")?,
        };
        Ok(Record { event, user, at })
    }
}

fn from_object(line: &[u8], columns: &Columns, names: &mut Names) -> Result<Record, String> {
    let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text);
        match error.column() {
            0 => format!("not a JSON object: {what}"),
            column => format!("not a JSON object: {what} (column {column})"),
        }
    })?;
    let field = |name: &str, flag: &str| match object.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(format!("`{name}` is {}, not a text or number", kind(other))),
        None => {
            let found: Vec<String> = object.keys().take(20).map(|key| format!("`{}`", key.escape_debug())).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            Err(format!("there is no field `{name}` (there are: {found}); say which with {flag}"))
        }
    };
    let user = parse_user_bytes(field(&columns.user, "--user-column NAME")?.as_bytes())?;
    let at = moment(field(&columns.time, "--time-column NAME")?.as_bytes())?;
    let event = match &columns.event {
        EventFrom::Always(name) => name.clone(),
        EventFrom::Column(name) => names.event(field(name, "--event-column NAME or --event NAME")?.as_bytes())?,
    };
    Ok(Record { event, user, at })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Event names that were checked before.
struct Names {
    fixed: Option<EventName>,
    known: HashMap<Box<[u8]>, EventName>,
}

impl Names {
    fn event(&mut self, field: &[u8]) -> Result<EventName, String> {
        if let Some(name) = &self.fixed {
            return Ok(name.clone());
        }
        if let Some(name) = self.known.get(field) {
            return Ok(name.clone());
        }
        let name = EventName::new(utf8(field)?).map_err(|error| error.to_string())?;
        if self.known.len() >= NAMES_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(field.into(), name.clone());
        Ok(name)
    }
}

fn utf8(field: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(field).map_err(|_| format!("`{}` is not UTF-8", excerpt(field)))
}

/// A field as it may be printed: short, and without control characters.
fn excerpt(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() { format!("{short}…") } else { short }
}

/// Reads a user id: a whole number from 0 to 2³²−1, in digits.
///
/// # Errors
/// What a user id looks like.
pub fn parse_user(text: &str) -> Result<UserId, String> {
    parse_user_bytes(text.as_bytes())
}

fn parse_user_bytes(field: &[u8]) -> Result<UserId, String> {
    let digits = field.trim_ascii();
    let number = digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    match number.and_then(|number| UserId::try_from(number).ok()) {
        Some(user) if !digits.is_empty() => Ok(user),
        _ => Err(format!("`{}` is not a user id: a whole number from 0 to 4294967295", excerpt(digits))),
    }
}

fn moment(field: &[u8]) -> Result<DateTime<Utc>, String> {
    let field = field.trim_ascii();
    if let Some(moment) = common_moment(field) {
        return Ok(moment);
    }
    let text = utf8(field)?;
    parse_moment(text).map_err(|error| match error {
        CalendarError::OutOfRange if text.len() == 13 => {
            format!("`{text}` looks like milliseconds: Unix time is counted in seconds here")
        }
        CalendarError::OutOfRange => format!("`{}`: {error}", excerpt(field)),
        _ => format!(
            "`{}` is not a time: 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00Z or Unix seconds",
            excerpt(field)
        ),
    })
}

/// The two forms that nearly every file has, `2026-11-23` and `2026-11-23[T ]14:00:00[Z]`, at a tenth of the price.
/// `None` says nothing but "ask `parse_moment`".
fn common_moment(field: &[u8]) -> Option<DateTime<Utc>> {
    let number = |range: std::ops::Range<usize>| {
        field.get(range)?.iter().try_fold(0_u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| field.get(at).is_some_and(|byte| wanted.contains(byte));
    if !is(4, b"-") || !is(7, b"-") {
        return None;
    }
    let year = i32::try_from(number(0..4)?).ok().filter(|year| *year > 0)?;
    let date = NaiveDate::from_ymd_opt(year, number(5..7)?, number(8..10)?)?;
    let time = match field.len() {
        10 => NaiveTime::MIN,
        19 | 20 if is(10, b"T ") && is(13, b":") && is(16, b":") && (field.len() == 19 || is(19, b"Z")) => {
            NaiveTime::from_hms_opt(number(11..13)?, number(14..16)?, number(17..19)?)?
        }
        _ => return None,
    };
    Some(date.and_time(time).and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns { user: "user".to_owned(), event: EventFrom::Column("event".to_owned()), time: "timestamp".to_owned() }
    }

    /// One line of text for each record or problem.
    fn read(bytes: &[u8]) -> Vec<String> {
        let records = match Records::new(bytes, None, &columns()) {
            Ok(records) => records,
            Err(Problem::File(reason)) => return vec![reason],
            Err(problem) => return vec![format!("{problem:?}")],
        };
        records
            .map(|record| match record {
                Ok(Record { event, user, at }) => format!("{event} {user} {}", at.format("%Y-%m-%dT%H:%M:%S")),
                Err(Problem::Line { line, reason }) => format!("line {line}: {reason}"),
                Err(problem) => format!("{problem:?}"),
            })
            .collect()
    }

    #[test]
    fn csv_with_everything_a_spreadsheet_adds() {
        let text = "\u{feff}timestamp,plan,User,\"event\"\r\n2026-11-23,pro,7,\"a, \"\"b\"\"\"\r\n\r\n1795442400,, 8 ,x\r\nnever,,9,x\r\n";
        assert_eq!(
            read(text.as_bytes()),
            [
                "a, \"b\" 7 2026-11-23T00:00:00",
                "x 8 2026-11-23T14:00:00",
                "line 5: `never` is not a time: 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00Z or Unix seconds",
            ]
        );
    }

    #[test]
    fn semicolons_and_tabs_are_seen() {
        assert_eq!(read(b"user;event;timestamp\n1;a;2026-11-23\n"), ["a 1 2026-11-23T00:00:00"]);
        assert_eq!(read(b"user\tevent\ttimestamp\n1\ta,b\t2026-11-23\n"), ["a,b 1 2026-11-23T00:00:00"]);
    }

    #[test]
    fn bad_lines_say_what_and_where() {
        let text = b"user,event,timestamp\n-1,a,2026-11-23\n4294967296,a,2026-11-23\nabc,a,2026-11-23\n1.5,a,2026-11-23\n,a,2026-11-23\n1,,2026-11-23\n1,a,2026-02-30\n1,a,1795442400000\n1,\xff,2026-11-23\n1,a\n1,bitop_a,2026-11-23\n1,a\tb,2026-11-23\n4294967295,a,2026-11-23";
        insta::assert_snapshot!(read(text).join("\n"), @r"
        line 2: `-1` is not a user id: a whole number from 0 to 4294967295
        line 3: `4294967296` is not a user id: a whole number from 0 to 4294967295
        line 4: `abc` is not a user id: a whole number from 0 to 4294967295
        line 5: `1.5` is not a user id: a whole number from 0 to 4294967295
        line 6: `` is not a user id: a whole number from 0 to 4294967295
        line 7: an event name must not be empty
        line 8: `2026-02-30` is not a time: 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00Z or Unix seconds
        line 9: `1795442400000` looks like milliseconds: Unix time is counted in seconds here
        line 10: `�` is not UTF-8
        line 11: the line has 2 fields, and `timestamp` would be number 3
        line 12: an event name must not begin with `bitop_`: such keys are temporary and get deleted
        line 13: an event name must not hold control characters; `a\tb` holds U+0009 at character 2
        a 4294967295 2026-11-23T00:00:00
        ");
    }

    #[test]
    fn a_quote_left_open_is_named() {
        let lines = read(b"user,event,timestamp\n1,\"a,2026-11-23\n2,a,2026-11-23\n3,a,2026-11-23");
        assert_eq!(
            lines,
            [
                "line 2: the line has 2 fields, and `timestamp` would be number 3 (the record runs on to line 4: is a quote left open?)"
            ]
        );
    }

    #[test]
    fn missing_columns_name_what_is_there_and_the_flag() {
        insta::assert_snapshot!(read(b"uid,event,timestamp\n1,a,2026-11-23\n").join("\n"), @r"there is no column `user`; the first line names `uid`, `event`, `timestamp`. Say which one holds the user id with --user-column NAME");
        insta::assert_snapshot!(read(b"user,what,timestamp\n").join("\n"), @r"there is no column `event`; the first line names `user`, `what`, `timestamp`. Say which one holds the event's name with --event-column NAME, or give all lines the same event with --event NAME");
    }

    #[test]
    fn ndjson() {
        let text = b"{\"user\":1,\"event\":\"a\",\"timestamp\":\"2026-11-23T14:00:00+01:00\"}\r\n\n{\"user\":\"2\",\"event\":\"a\",\"timestamp\":1795442400.5}\n{\"user\":1.5,\"event\":\"a\",\"timestamp\":0}\n{\"user\":null,\"event\":\"a\",\"timestamp\":0}\n{\"uid\":3}\nnonsense\n{\"user\":3,\"event\":\"\xff\",\"timestamp\":0}\n[1]\n";
        insta::assert_snapshot!(read(text).join("\n"), @r"
        a 1 2026-11-23T13:00:00
        a 2 2026-11-23T14:00:00
        line 4: `1.5` is not a user id: a whole number from 0 to 4294967295
        line 5: `user` is null, not a text or number
        line 6: there is no field `user` (there are: `uid`); say which with --user-column NAME
        line 7: not a JSON object: expected ident (column 2)
        line 8: not a JSON object: invalid unicode code point (column 20)
        line 9: not a JSON object: invalid type: sequence, expected a map
        ");
    }

    #[test]
    fn other_things_are_named() {
        assert_eq!(read(b""), [""; 0]);
        assert_eq!(read(b"\xEF\xBB\xBF\r\n \n"), [""; 0]);
        assert!(read(b"[{\"user\":1}]")[0].contains("jq"));
        assert!(read(b"\x1F\x8B\x08")[0].contains("gzip"));
        assert!(read(b"\xFF\xFEu\0")[0].contains("UTF-16"));
    }

    #[test]
    fn the_quick_way_agrees_with_the_calendar() {
        for text in [
            "2026-11-23",
            "2024-02-29",
            "0001-01-01",
            "2026-11-23 14:05:59",
            "2026-11-23T14:05:59",
            "2026-11-23T14:05:59Z",
        ] {
            assert_eq!(common_moment(text.as_bytes()), parse_moment(text).ok(), "{text}");
        }
        for text in ["2026-02-30", "0000-01-01", "2026-11-23T24:00:00", "2026-11-23T14:05:59X", "2026/11/23", "x"] {
            assert_eq!(common_moment(text.as_bytes()), None, "{text}");
        }
    }
}
