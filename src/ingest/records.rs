//! Reads the rows of a file, line by line.

use std::io::{self, BufRead, Read};

use serde_json::{Map, Value};

use crate::ingest::batch::{Batch, Batches, Table, moment_text};
use crate::ingest::field::excerpt;
use crate::ingest::json::{self, Scalar, Wanted};
use crate::ingest::layout::{
    Columns, EventFrom, Format, Header, Layout, delimiter, looks_like_data, named_delimiter,
};
use crate::ingest::lines::{Fields, Found, LONGEST, Lines, Record};
use crate::ingest::names::Names;
use crate::ingest::place::Field;
use crate::ingest::position::Position;
use crate::ingest::property::Dating;
use crate::sets::{UserId, UserIdError};
use crate::values::{Time, TimeError, Times, is_nobody};

/// A valid line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The number of the event in [`Names`].
    pub event: u32,
    /// The user.
    pub user: UserId,
    /// The time of the event in Unix seconds, in the years 1 to 9999.
    pub at: i64,
}

/// A value of a property that the user of a row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The number of the event of the value in [`Names`].
    pub event: u32,
    /// The index of the property in [`Names::properties`].
    pub property: usize,
    /// When the user has it.
    pub dating: Dating,
}

/// The kind of mistake in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The line has no user.
    NoUser,
    /// The user is not a valid id.
    User,
    /// The user is a valid id of a store with string ids.
    UserOfOtherKind,
    /// The line has no time.
    NoTime,
    /// The time cannot be read.
    Time,
    /// The time may be one of two days.
    DayOrMonth,
    /// The year of the time is not plausible.
    Year,
    /// The line has no event.
    NoEvent,
    /// The event has no valid name.
    Event,
    /// The line itself cannot be read.
    Line,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fault::NoUser => "without a user",
            Fault::User => "with an invalid user id",
            Fault::UserOfOtherKind => "with a user id that needs a store with string ids",
            Fault::NoTime => "without a time",
            Fault::Time => "with an invalid time",
            Fault::DayOrMonth => "with a day and a month in an unknown order",
            Fault::Year => "with an implausible year",
            Fault::NoEvent => "without an event",
            Fault::Event => "with an invalid event name",
            Fault::Line => "that cannot be read",
        })
    }
}

/// What is wrong with a line.
struct Mistake {
    fault: Fault,
    reason: String,
}

impl Mistake {
    fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Mistake {
            fault,
            reason: reason.into(),
        }
    }
}

/// Why a row cannot be read.
#[derive(Debug)]
pub enum Problem {
    /// A line is not valid. Later lines may be.
    Line {
        /// The number of the line, counted from 1.
        line: u64,
        /// The kind of mistake.
        fault: Fault,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be imported: a column is missing, or it has another format.
    File(String),
    /// Reading failed.
    Read(io::Error),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Line { line, reason, .. } => write!(f, "line {line}: {reason}"),
            Problem::File(reason) => f.write_str(reason),
            Problem::Read(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl std::error::Error for Problem {}

/// The rows of one file.
pub struct Records<R> {
    source: Source<R>,
    layout: Layout,
    /// The event of all rows, if it is the same for all.
    fixed: Option<u32>,
    /// The values of properties of the last row.
    properties: Vec<Held>,
    times: Times,
}

enum Source<R> {
    Csv {
        lines: Lines<R>,
        fields: Fields,
        /// The number of fields of a line that are needed.
        max_fields: usize,
    },
    Ndjson {
        lines: Lines<R>,
        picker: Option<Picker>,
    },
    Table {
        batches: Batches,
        batch: Batch,
        /// The number of rows of the batch that were read.
        read: usize,
        at: Position,
    },
    /// The end of the file, with its position.
    End(Position),
}

/// The maximum number of bytes that are read to recognize a file.
const HEAD: usize = 1 << 20;

/// Reads the start of a file, up to the end of the first line that is not blank. One read is not
/// enough, because a pipe may return few bytes at a time.
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

impl<R: BufRead> Records<R> {
    /// Reads the start of a file and recognizes its layout. `format` is the format according to the
    /// name of the file. Without it, the first byte decides.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, has an unknown format, or lacks a column.
    pub fn open(
        mut reader: R,
        format: Option<Format>,
        columns: &Columns,
        names: &mut Names,
    ) -> Result<Self, Problem> {
        let head = head(&mut reader).map_err(Problem::Read)?;
        let start = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&head).to_vec();
        let base = Position {
            byte: (head.len() - start.len()) as u64,
            line: 0,
        };
        let mut records = |source, layout| Ok(Records::of_source(source, layout, columns, names));
        let Some(first) = start
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .copied()
        else {
            return records(Source::End(base), Layout::of_object(None, columns));
        };
        if let Some(reason) = unsupported(&start) {
            return Err(Problem::File(reason.to_owned()));
        }
        let format = format.unwrap_or(if matches!(first, b'{' | b'[') {
            Format::Ndjson
        } else {
            Format::Csv
        });
        match format {
            Format::Parquet => Err(Problem::File(
                "this is not a Parquet file, although it is named like one".to_owned(),
            )),
            Format::Ndjson if first == b'[' => Err(Problem::File(
                "this is one JSON array; write one object a line instead, such as with `jq -c '.[]'`".to_owned(),
            )),
            Format::Ndjson => {
                let object: Option<Map<String, Value>> = serde_json::from_slice(&start).ok();
                let layout = Layout::of_object(object.as_ref(), columns);
                records(Source::ndjson(start, reader, &layout, base), layout)
            }
            Format::Csv => {
                let (lines, layout) = open_csv(start, reader, base, columns)?;
                let max_fields = layout.columns();
                let fields = Fields::default();
                records(Source::Csv { lines, fields, max_fields }, layout)
            }
        }
    }

    /// Continues to read a file with a known layout at an earlier [`position`](Self::position).
    pub fn resume(
        reader: R,
        layout: &Layout,
        columns: &Columns,
        at: Position,
        names: &mut Names,
    ) -> Self {
        let source = match layout.format {
            Format::Csv => Source::Csv {
                lines: Lines::new(Vec::new(), reader, at),
                fields: Fields::default(),
                max_fields: layout.columns(),
            },
            Format::Ndjson => Source::ndjson(Vec::new(), reader, layout, at),
            // Has no lines.
            Format::Parquet => Source::End(at),
        };
        Records::of_source(source, layout.clone(), columns, names)
    }

    /// Determines the layout of a table, and reads its rows.
    ///
    /// # Errors
    /// Returns an error if the table lacks a column.
    pub fn of_table(
        table: Box<dyn Table>,
        columns: &Columns,
        names: &mut Names,
    ) -> Result<Self, Problem> {
        let layout = Layout::of_table(table.columns(), columns).map_err(Problem::File)?;
        Ok(Records::resume_table(
            table,
            &layout,
            columns,
            Position::default(),
            names,
        ))
    }

    /// Continues to read a table with a known layout at an earlier [`position`](Self::position).
    pub fn resume_table(
        table: Box<dyn Table>,
        layout: &Layout,
        columns: &Columns,
        at: Position,
        names: &mut Names,
    ) -> Self {
        let mut places: Vec<usize> = layout.fields().map(|field| field.place).collect();
        places.sort_unstable();
        places.dedup();
        let source = Source::Table {
            batches: table.read(places, at.line),
            batch: Batch::default(),
            read: 0,
            at,
        };
        Records::of_source(source, layout.clone(), columns, names)
    }

    fn of_source(source: Source<R>, layout: Layout, columns: &Columns, names: &mut Names) -> Self {
        Records {
            source,
            layout,
            fixed: fixed(columns, names),
            properties: Vec::new(),
            times: columns.times.clone(),
        }
    }

    /// Returns the layout of the file.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the position after the last line that was read.
    pub fn position(&self) -> Position {
        match &self.source {
            Source::Csv { lines, .. } | Source::Ndjson { lines, .. } => lines.position(),
            Source::Table { at, .. } | Source::End(at) => *at,
        }
    }

    /// Returns the values of properties that the user of the last row has.
    pub fn properties(&self) -> &[Held] {
        &self.properties
    }

    /// Returns the next row or invalid line, or `None` at the end. Nothing follows a
    /// [`Problem::Read`].
    pub fn next(&mut self, names: &mut Names) -> Option<Result<Row, Problem>> {
        self.properties.clear();
        let Records {
            source,
            layout,
            fixed,
            properties,
            times,
        } = self;
        let mut row = Reading {
            layout,
            fixed: *fixed,
            times,
            names,
            properties,
        };
        let failure = match source {
            Source::End(_) => return None,
            Source::Csv {
                lines,
                fields,
                max_fields,
            } => match lines.record(layout.delimiter, *max_fields, fields) {
                Ok(None) => return None,
                Ok(Some((Found::Whole(record), line))) => {
                    let is_multiline = record.is_multiline;
                    let row = row.of_record(&record);
                    let last = lines.position().line;
                    return Some(
                        row.map_err(|mistake| invalid_record(line, last, is_multiline, mistake)),
                    );
                }
                Ok(Some((found, line))) => {
                    let hint = match found {
                        Found::LongRecord => ", read on from the next line: is a quote left open?",
                        _ => "",
                    };
                    return Some(Err(Problem::Line {
                        line,
                        fault: Fault::Line,
                        reason: format!("the record {}{hint}", too_long()),
                    }));
                }
                Err(error) => error,
            },
            Source::Ndjson { lines, picker } => loop {
                let number = lines.position().line + 1;
                match lines.line() {
                    Ok(None) => return None,
                    Ok(Some(Found::Whole(line))) if line.iter().all(u8::is_ascii_whitespace) => {}
                    Ok(Some(Found::Whole(line))) => {
                        let picked = picker
                            .as_ref()
                            .and_then(|picker| picker.read(line, &mut row));
                        let row = match picked {
                            Some(row) => Ok(row),
                            None => row.of_object(line),
                        };
                        return Some(row.map_err(|Mistake { fault, reason }| Problem::Line {
                            line: number,
                            fault,
                            reason,
                        }));
                    }
                    Ok(Some(_)) => {
                        return Some(Err(Problem::Line {
                            line: number,
                            fault: Fault::Line,
                            reason: format!("the line {}", too_long()),
                        }));
                    }
                    Err(error) => break error,
                }
            },
            Source::Table {
                batches,
                batch,
                read,
                at,
            } => loop {
                if *read < batch.rows {
                    let found = row.of_batch(batch, *read);
                    *read += 1;
                    at.byte += 1;
                    at.line += 1;
                    return Some(found.map_err(|Mistake { fault, reason }| Problem::Line {
                        line: at.line,
                        fault,
                        reason,
                    }));
                }
                match batches.next() {
                    Some(Ok(next)) => {
                        *batch = next;
                        *read = 0;
                    }
                    Some(Err(reason)) => break io::Error::other(reason),
                    None => return None,
                }
            },
        };
        self.source = Source::End(self.position());
        Some(Err(Problem::Read(failure)))
    }
}

/// Returns the event of all rows, if it is the same for all.
fn fixed(columns: &Columns, names: &mut Names) -> Option<u32> {
    match &columns.event {
        EventFrom::Always(name) => {
            let number = names.event(name.as_str().as_bytes());
            Some(number.expect("an event name is valid"))
        }
        _ => None,
    }
}

impl<R: BufRead> Source<R> {
    fn ndjson(start: Vec<u8>, reader: R, layout: &Layout, at: Position) -> Self {
        Source::Ndjson {
            lines: Lines::new(start, reader, at),
            picker: Picker::new(layout),
        }
    }
}

/// Recognizes files that cannot be imported. Returns what the file is and what to do.
fn unsupported(start: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 10] = [
        (b"\xFF\xFE", "this is UTF-16; save it as UTF-8"),
        (b"\xFE\xFF", "this is UTF-16; save it as UTF-8"),
        (
            b"\x1F\x8B",
            "this is compressed twice (gzip): unpack it once",
        ),
        (
            b"\x28\xB5\x2F\xFD",
            "this is compressed twice (zstd): unpack it once",
        ),
        (
            b"PK\x03\x04",
            "this is a ZIP archive or a workbook, which is read from a file only: pass the name of the file",
        ),
        (
            b"\xD0\xCF\x11\xE0",
            "this is a workbook of a spreadsheet: save the sheet as CSV and import that file",
        ),
        (
            b"PAR1",
            "this is a Parquet file, which is read from a file only: pass the name of the file, unpacked",
        ),
        (
            b"PARE",
            "this is an encrypted Parquet file: write one that is not encrypted",
        ),
        (
            b"BZh",
            "this is compressed (bzip2): unpack it first, such as with `bzcat FILE | cohortist import -`",
        ),
        (
            b"\xFD7zXZ",
            "this is compressed (xz): unpack it first, such as with `xzcat FILE | cohortist import -`",
        ),
    ];
    kinds
        .iter()
        .find(|(magic, _)| start.starts_with(magic))
        .map(|(_, reason)| *reason)
}

fn too_long() -> String {
    format!("is longer than {} MiB", LONGEST >> 20)
}

/// Reads the header of a CSV file, if it has one, and determines the layout.
fn open_csv<R: Read>(
    start: Vec<u8>,
    reader: R,
    base: Position,
    columns: &Columns,
) -> Result<(Lines<R>, Layout), Problem> {
    let (start, base, named) = without_preamble(start, base);
    let delimiter = named.unwrap_or_else(|| delimiter(&start));
    let mut lines = Lines::new(start, reader, base);
    let of_places = |places: &[usize]| {
        Layout::of_places(places, delimiter, columns).ok_or_else(|| {
            Problem::File(
                "--columns with numbers tells the columns of the user, the event and the time (of the user and the time with --event), and nothing else; with other options, name the columns".to_owned(),
            )
        })
    };
    match &columns.header {
        Header::Names(names) => {
            let layout = Layout::of_header(names, delimiter, columns).map_err(Problem::File)?;
            return Ok((lines, layout));
        }
        Header::Places(places) => return Ok((lines, of_places(places)?)),
        Header::FirstLine => {}
    }
    let mut fields = Fields::default();
    let record = lines
        .record(delimiter, usize::MAX, &mut fields)
        .map_err(Problem::Read)?;
    let Some((Found::Whole(record), _)) = record else {
        return Err(Problem::File(format!("the first line {}", too_long())));
    };
    let first: Vec<Vec<u8>> = record.iter().map(<[u8]>::to_vec).collect();
    let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
    let names: Vec<String> = first
        .iter()
        .map(|name| String::from_utf8_lossy(name).trim().to_owned())
        .collect();
    if let Some(layout) = numbered(&first, delimiter, columns)
        && lines.restart(base)
    {
        return Ok((lines, layout));
    }
    match Layout::of_header(&names, delimiter, columns) {
        Ok(layout) => Ok((lines, layout)),
        Err(mistakes) => match Layout::of_data(&first, delimiter, columns) {
            Some(layout) if lines.restart(base) => Ok((lines, layout)),
            _ => Err(Problem::File(
                looks_like_data(&first, columns).unwrap_or(mistakes),
            )),
        },
    }
}

/// Returns the layout of a file without a header of which columns were requested by number.
fn numbered(first: &[&[u8]], delimiter: u8, columns: &Columns) -> Option<Layout> {
    let is_number = |name: &String| name.parse::<usize>().is_ok();
    let requested = columns.user.iter().chain(&columns.time);
    let is_numbered = requested.clone().count() > 1 && requested.clone().all(is_number);
    let names: Vec<String> = (1..=first.len()).map(|number| number.to_string()).collect();
    let layout = Layout::of_header(&names, delimiter, columns)
        .ok()
        .filter(|_| is_numbered)?;
    let time = first.get(layout.time.place)?;
    columns.times.read(time).is_ok().then_some(layout)
}

/// Removes blank lines at the start, and the line of Excel that names the separator.
fn without_preamble(mut start: Vec<u8>, mut base: Position) -> (Vec<u8>, Position, Option<u8>) {
    let mut skip = 0;
    let mut named = None;
    loop {
        let rest = &start[skip..];
        let end = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let len = match (named_delimiter(rest), end) {
            (Some((delimiter, len)), _) if named.is_none() => {
                named = Some(delimiter);
                len
            }
            (_, Some(end)) if rest[..end].iter().all(u8::is_ascii_whitespace) => end,
            _ => break,
        };
        skip += len;
        base.byte += len as u64;
        base.line += 1;
    }
    start.drain(..skip);
    (start, base, named)
}

fn invalid_record(line: u64, last: u64, is_multiline: bool, mistake: Mistake) -> Problem {
    let Mistake { fault, mut reason } = mistake;
    if is_multiline {
        reason += &format!(" (the record runs on to line {last}: is a quote left open?)");
    }
    Problem::Line {
        line,
        fault,
        reason,
    }
}

/// What is needed to read a row.
struct Reading<'a> {
    layout: &'a Layout,
    fixed: Option<u32>,
    times: &'a Times,
    names: &'a mut Names,
    properties: &'a mut Vec<Held>,
}

/// Returns why a line lacks a field, and what to do.
type Missing<'a> = &'a dyn Fn(&Field, &str) -> String;

/// Calls its argument with the name and value of each field below a field.
type Leaves<'a> = &'a dyn Fn(&Field, &mut dyn FnMut(&str, Scalar<'static>));

impl Reading<'_> {
    /// Reads the row in a record of a CSV file.
    fn of_record(&mut self, record: &Record<'_>) -> Result<Row, Mistake> {
        let get = |_, field: &Field| match record.get(field.place) {
            None => Scalar::Missing,
            Some(cell) if field.path.is_empty() => Scalar::Text(cell.into()),
            Some(cell) => json::cell_field(cell, &field.path),
        };
        let missing = |field: &Field, _: &str| {
            if record.get(field.place).is_some() {
                return format!("`{}` is missing", excerpt(field.name.as_bytes()));
            }
            format!(
                "the line has {} fields, and `{}` would be number {}",
                record.len(),
                field.name,
                field.place + 1
            )
        };
        let leaves = |field: &Field, found: &mut dyn FnMut(&str, Scalar<'static>)| {
            let cell = record.get(field.place).unwrap_or_default();
            if let Some(object) = json::cell_object(cell, &field.path) {
                json::leaves(&object, "", found);
            }
        };
        self.row(get, &missing, &leaves)
    }

    /// Reads a row of a table.
    fn of_batch(&mut self, batch: &Batch, row: usize) -> Result<Row, Mistake> {
        let get = |_, field: &Field| match batch.get(field.place, row) {
            Scalar::Text(cell) if !field.path.is_empty() => json::cell_field(&cell, &field.path),
            value => value,
        };
        let missing =
            |field: &Field, _: &str| format!("`{}` is missing", excerpt(field.name.as_bytes()));
        let leaves = |field: &Field, found: &mut dyn FnMut(&str, Scalar<'static>)| {
            if let Scalar::Text(cell) = batch.get(field.place, row)
                && let Some(object) = json::cell_object(&cell, &field.path)
            {
                json::leaves(&object, "", found);
            }
        };
        self.row(get, &missing, &leaves)
    }

    /// Reads the row of any JSON object.
    fn of_object(&mut self, line: &[u8]) -> Result<Row, Mistake> {
        self.properties.clear();
        let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            let reason = match error.column() {
                0 => format!("not a JSON object: {what}"),
                column => format!("not a JSON object: {what} (column {column})"),
            };
            Mistake::new(Fault::Line, reason)
        })?;
        let get = |_, field: &Field| json::field(&object, &field.path);
        let missing = |field: &Field, flag: &str| {
            let found: Vec<String> = object
                .keys()
                .take(20)
                .map(|key| format!("`{}`", key.escape_debug()))
                .collect();
            let found = if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(", ")
            };
            format!(
                "there is no field `{}` (there are: {found}); say which with {flag}",
                excerpt(field.name.as_bytes())
            )
        };
        let leaves = |field: &Field, found: &mut dyn FnMut(&str, Scalar<'static>)| {
            if let Some(object) = json::object_at(&object, &field.path) {
                json::leaves(&object, "", found);
            }
        };
        self.row(get, &missing, &leaves)
    }

    /// Reads a row. `get` returns the value of a field, of which it also knows the number.
    fn row<'v>(
        &mut self,
        get: impl Fn(usize, &Field) -> Scalar<'v>,
        missing: Missing<'_>,
        leaves: Leaves<'_>,
    ) -> Result<Row, Mistake> {
        let layout = self.layout;
        let users = layout.user.len();
        let time = get(users, &layout.time);
        let at = self.time(&layout.time, time, missing)?;
        let event = match self.fixed {
            Some(event) => event,
            None => {
                let get = |index: usize, field: &Field| get(users + 1 + index, field);
                self.event(get, missing)?
            }
        };
        let user = self.user(&get, missing)?;
        let mut slot = users + 1 + layout.event.len();
        for source in &layout.properties {
            match &source.name {
                Some(name) => {
                    let values = source.fields.iter().enumerate();
                    let mut values = values.map(|(index, field)| get(slot + index, field));
                    let value = values.find(|value| !is_blank(value));
                    if let Some(value) = value {
                        self.property(source.wish, name, &value);
                    }
                }
                None => self.matching(source, leaves),
            }
            slot += source.fields.len();
        }
        Ok(Row { event, user, at })
    }

    fn time(
        &mut self,
        field: &Field,
        value: Scalar<'_>,
        missing: Missing<'_>,
    ) -> Result<i64, Mistake> {
        let read = match &value {
            Scalar::Missing => {
                return Err(Mistake::new(
                    Fault::NoTime,
                    missing(field, "--time-column NAME"),
                ));
            }
            Scalar::Whole(number) => self.times.number(*number),
            Scalar::Moment(seconds) => self.times.moment(*seconds),
            Scalar::Number(text) => self.times.read(text.as_bytes()),
            Scalar::Text(text) => self.times.read(text),
            Scalar::Null => return Err(Mistake::new(Fault::NoTime, not_text(field, &value))),
            _ => return Err(Mistake::new(Fault::Time, not_text(field, &value))),
        };
        match read {
            Ok(Time { seconds, unit }) => {
                if let Some(unit) = unit {
                    self.names.notes_mut().unit(unit);
                }
                Ok(seconds)
            }
            Err(error) => Err(mistaken_time(&error)),
        }
    }

    fn event<'v>(
        &mut self,
        get: impl Fn(usize, &Field) -> Scalar<'v>,
        missing: Missing<'_>,
    ) -> Result<u32, Mistake> {
        let layout = self.layout;
        let flag = "--event-column NAME or --event NAME";
        let default = layout.default_event();
        let mut lack = None;
        for (index, field) in layout.event.iter().enumerate() {
            let is_last = index + 1 == layout.event.len() && default.is_none();
            let value = get(index, field);
            let reason = match value {
                Scalar::Missing => missing(field, flag),
                Scalar::Text(text) if is_last || !is_nobody(&text) => {
                    let text = text.strip_suffix(b"\r").unwrap_or(&text);
                    if !is_last || !text.trim_ascii().is_empty() {
                        return self
                            .names
                            .event(text)
                            .map_err(|reason| Mistake::new(Fault::Event, reason));
                    }
                    "an event name must not be empty".to_owned()
                }
                Scalar::Text(_) => String::new(),
                Scalar::Whole(number) => {
                    let name = itoa::Buffer::new().format(number).to_owned();
                    let event = self.names.event(name.as_bytes());
                    return event.map_err(|reason| Mistake::new(Fault::Event, reason));
                }
                Scalar::Number(text) => {
                    let event = self.names.event(text.as_bytes());
                    return event.map_err(|reason| Mistake::new(Fault::Event, reason));
                }
                Scalar::Null => not_text(field, &value),
                _ => return Err(Mistake::new(Fault::Event, not_text(field, &value))),
            };
            lack.get_or_insert(reason);
        }
        match (default, lack) {
            (Some(default), _) => self
                .names
                .event(default.as_bytes())
                .map_err(|reason| Mistake::new(Fault::Event, reason)),
            (None, Some(reason)) => Err(Mistake::new(Fault::NoEvent, reason)),
            // Only possible if an import is resumed with other columns.
            (None, None) => Err(Mistake::new(Fault::NoEvent, "there is no event")),
        }
    }

    /// Reads the user last, because a string id is remembered even if the row turns out invalid.
    fn user<'v>(
        &mut self,
        get: impl Fn(usize, &Field) -> Scalar<'v>,
        missing: Missing<'_>,
    ) -> Result<UserId, Mistake> {
        let mut lack = None;
        for (index, field) in self.layout.user.iter().enumerate() {
            let value = get(index, field);
            let read = match &value {
                Scalar::Missing => {
                    lack.get_or_insert_with(|| missing(field, "--user-column NAME"));
                    continue;
                }
                Scalar::Whole(number) => {
                    let mut buffer = itoa::Buffer::new();
                    self.names.user(buffer.format(*number).as_bytes())
                }
                Scalar::Number(text) => self.names.user(text.as_bytes()),
                Scalar::Text(text) => self.names.user(text),
                Scalar::Null => {
                    lack.get_or_insert_with(|| not_text(field, &value));
                    continue;
                }
                _ => return Err(Mistake::new(Fault::User, not_text(field, &value))),
            };
            match read {
                Ok(user) => return Ok(user),
                Err(UserIdError::Empty) => {
                    let name = excerpt(field.name.as_bytes());
                    lack.get_or_insert_with(|| format!("`{name}` is empty"));
                }
                Err(UserIdError::Nobody(text)) => {
                    let name = excerpt(field.name.as_bytes());
                    lack.get_or_insert_with(|| {
                        format!("`{name}` is `{text}`, which stands for no user")
                    });
                }
                Err(error) => {
                    let fault = match error {
                        UserIdError::NotANumberButText(_) | UserIdError::TooLarge(_) => {
                            Fault::UserOfOtherKind
                        }
                        _ => Fault::User,
                    };
                    return Err(Mistake::new(fault, error.to_string()));
                }
            }
        }
        Err(Mistake::new(
            Fault::NoUser,
            lack.unwrap_or_else(|| "there is no user".to_owned()),
        ))
    }

    fn property(&mut self, wish: usize, name: &str, value: &Scalar<'_>) {
        let properties = self.names.properties();
        let is_known = properties
            .get(wish)
            .is_some_and(|property| property.name == name);
        let index = if is_known {
            Some(wish)
        } else {
            self.names.matching(wish, name)
        };
        let Some(index) = index else { return };
        let names = &mut *self.names;
        let event = match value {
            Scalar::Text(text) => names.property(index, text),
            Scalar::Whole(number) => {
                names.property(index, itoa::Buffer::new().format(*number).as_bytes())
            }
            Scalar::Number(text) => names.property(index, text.as_bytes()),
            Scalar::Bool(value) => names.property(index, value.to_string().as_bytes()),
            Scalar::Moment(seconds) => {
                moment_text(*seconds).and_then(|text| names.property(index, text.as_bytes()))
            }
            _ => {
                names.unusable(index);
                None
            }
        };
        let dating = names.properties()[index].dating;
        self.properties.extend(event.map(|event| Held {
            event,
            property: index,
            dating,
        }));
    }

    /// Reads all properties that a pattern stands for.
    fn matching(&mut self, source: &crate::ingest::layout::Source, leaves: Leaves<'_>) {
        let mut found = Vec::new();
        for field in &source.fields {
            leaves(field, &mut |name, value| {
                let is_value = !is_blank(&value) && value != Scalar::Other;
                if is_value && crate::ingest::property::matches(&source.pattern, name) {
                    let name = match field.name.as_str() {
                        "" => name.to_owned(),
                        parent => format!("{parent}.{name}"),
                    };
                    found.push((name, value));
                }
            });
        }
        for (name, value) in found {
            self.property(source.wish, &name, &value);
        }
    }
}

/// Returns whether a value leaves a property to the next field.
fn is_blank(value: &Scalar<'_>) -> bool {
    match value {
        Scalar::Missing | Scalar::Null => true,
        Scalar::Text(text) => text.trim_ascii().is_empty(),
        _ => false,
    }
}

fn mistaken_time(error: &TimeError) -> Mistake {
    let (fault, flags) = match error {
        TimeError::Missing => (Fault::NoTime, String::new()),
        TimeError::Implausible { .. } => {
            (Fault::Year, "; --any-year imports such times".to_owned())
        }
        TimeError::DayOrMonth(_) => {
            let formats: Vec<String> = error
                .formats()
                .iter()
                .map(|format| format!("--time-format '{format}'"))
                .collect();
            (
                Fault::DayOrMonth,
                format!(", or pass {}", formats.join(" or ")),
            )
        }
        _ => (Fault::Time, String::new()),
    };
    Mistake::new(fault, format!("{error}{flags}"))
}

fn not_text(field: &Field, value: &Scalar<'_>) -> String {
    let kind = match value {
        Scalar::Null => "null",
        Scalar::Bool(_) => "true or false",
        Scalar::Moment(_) => "a time",
        _ => "a list or an object",
    };
    let name = excerpt(field.name.as_bytes());
    format!("`{name}` is {kind}, not a text or number")
}

/// Reads the rows of common JSON objects quickly.
struct Picker {
    wanted: Wanted,
    /// The number of values to read.
    len: usize,
    /// The index of the value of each field.
    indexes: Vec<usize>,
}

impl Picker {
    /// Returns `None` if the fields of a layout cannot be read quickly.
    fn new(layout: &Layout) -> Option<Self> {
        if layout.properties.iter().any(|source| source.name.is_none()) {
            return None;
        }
        let (wanted, indexes) = Wanted::of(layout.fields())?;
        // Users come first, then the time: see `Layout::fields` and `Reading::row`.
        Some(Picker {
            len: indexes.iter().max().expect("there is a user") + 1,
            wanted,
            indexes,
        })
    }

    /// Returns the row of an object, or `None` if [`Reading::of_object`] must read it.
    fn read(&self, line: &[u8], reading: &mut Reading<'_>) -> Option<Row> {
        let found = self.wanted.pick(line, self.len)?;
        if found.contains(&Scalar::Unread) {
            return None;
        }
        let get = |slot: usize, _: &Field| match &found[self.indexes[slot]] {
            Scalar::Text(text) => Scalar::Text(text[..].into()),
            other => other.clone(),
        };
        let none = |_: &Field, _: &str| String::new();
        reading.row(get, &none, &|_, _| {}).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one line of text for each row or problem.
    fn read(bytes: &[u8]) -> Vec<String> {
        let mut names = Names::new(&[], 10).unwrap();
        let mut records = match Records::open(bytes, None, &Columns::default(), &mut names) {
            Ok(records) => records,
            Err(Problem::File(reason)) => return vec![reason],
            Err(problem) => return vec![format!("{problem:?}")],
        };
        let mut found = Vec::new();
        while let Some(row) = records.next(&mut names) {
            found.push(match row {
                Ok(Row { event, user, at }) => {
                    let at = chrono::DateTime::from_timestamp(at, 0).unwrap();
                    format!(
                        "{} {user} {}",
                        names.get(event).unwrap(),
                        at.format("%Y-%m-%dT%H:%M:%S")
                    )
                }
                Err(Problem::Line { line, reason, .. }) => format!("line {line}: {reason}"),
                Err(problem) => format!("{problem:?}"),
            });
        }
        found
    }

    #[test]
    fn csv_files_of_spreadsheets_are_read() {
        let text = "\u{feff}timestamp,plan,User,\"event\"\r\n2026-11-23,pro,7,\"a, \"\"b\"\"\"\r\n\r\n1795442400,, 8 ,x\r\nnever,,9,x\r\n";
        assert_eq!(
            read(text.as_bytes()),
            [
                "a, \"b\" 7 2026-11-23T00:00:00",
                "x 8 2026-11-23T14:00:00",
                "line 5: `never` is not a time: write 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00+01:00 or Unix seconds",
            ]
        );
    }

    #[test]
    fn semicolons_and_tabs_are_recognized() {
        assert_eq!(
            read(b"user;event;timestamp\n1;a;2026-11-23\n"),
            ["a 1 2026-11-23T00:00:00"]
        );
        assert_eq!(
            read(b"user\tevent\ttimestamp\n1\ta,b\t2026-11-23\n"),
            ["a,b 1 2026-11-23T00:00:00"]
        );
    }

    #[test]
    fn invalid_lines_are_reported_with_their_number() {
        let text = b"user,event,timestamp\n-1,a,2026-11-23\n4294967296,a,2026-11-23\nabc,a,2026-11-23\n1.5,a,2026-11-23\n,a,2026-11-23\n1,,2026-11-23\n1,a,2026-02-30\n1,a,1795442400000\n1,\xff,2026-11-23\n1,a\n1,bitop_a,2026-11-23\n1,a\tb,2026-11-23\n4294967295,a,2026-11-23";
        insta::assert_snapshot!(read(text).join("\n"), @r"
        line 2: `-1` is not a valid user id: this store uses numeric ids from 0 to 4294967295
        line 3: `4294967296` is not a valid user id: this store uses numeric ids from 0 to 4294967295 (for larger ids, create a store with --ids map)
        line 4: `abc` is not a valid user id: this store uses numeric ids from 0 to 4294967295 (for string ids, create a store with --ids map)
        line 5: `1.5` is not a valid user id: this store uses numeric ids from 0 to 4294967295
        line 6: `user` is empty
        line 7: an event name must not be empty
        line 8: `2026-02-30` is not a time: write 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00+01:00 or Unix seconds
        a 1 2026-11-23T14:00:00
        line 10: `�` is not UTF-8
        line 11: the line has 2 fields, and `timestamp` would be number 3
        line 12: an event name must not begin with `bitop_`: such keys are temporary and get deleted
        line 13: an event name must not hold control characters; `a\tb` holds U+0009 at character 2
        a 4294967295 2026-11-23T00:00:00
        ");
    }

    #[test]
    fn an_open_quote_is_reported() {
        let lines = read(b"user,event,timestamp\n1,\"a,2026-11-23\n2,a,2026-11-23\n3,a,2026-11-23");
        assert_eq!(
            lines,
            [
                "line 2: the line has 2 fields, and `timestamp` would be number 3 (the record runs on to line 4: is a quote left open?)"
            ]
        );
    }

    #[test]
    fn a_missing_column_is_reported_with_the_existing_ones_and_the_flag() {
        insta::assert_snapshot!(read(b"id,event,timestamp\n1,a,2026-11-23\n").join("\n"), @r"there is no column `user`; the columns are `id`, `event`, `timestamp`. Say which one holds the user id with --user-column NAME");
        insta::assert_snapshot!(read(b"user,what,timestamp\n").join("\n"), @r"there is no column `event`; the columns are `user`, `what`, `timestamp`. Say which one holds the event's name with --event-column NAME, or give all lines the same event with --event NAME");
    }

    #[test]
    fn ndjson() {
        let text = b"{\"user\":1,\"event\":\"a\",\"timestamp\":\"2026-11-23T14:00:00+01:00\"}\r\n\n{\"user\":\"2\",\"event\":\"a\",\"timestamp\":1795442400.5}\n{\"user\":1.5,\"event\":\"a\",\"timestamp\":0}\n{\"user\":null,\"event\":\"a\",\"timestamp\":0}\n{\"uid\":3}\nnonsense\n{\"user\":3,\"event\":\"\xff\",\"timestamp\":0}\n[1]\n";
        insta::assert_snapshot!(read(text).join("\n"), @r"
        a 1 2026-11-23T13:00:00
        a 2 2026-11-23T14:00:00
        line 4: `1.5` is not a valid user id: this store uses numeric ids from 0 to 4294967295
        line 5: `user` is null, not a text or number
        line 6: there is no field `timestamp` (there are: `uid`); say which with --time-column NAME
        line 7: not a JSON object: expected ident (column 2)
        line 8: not a JSON object: invalid unicode code point (column 20)
        line 9: not a JSON object: invalid type: sequence, expected a map
        ");
    }

    #[test]
    fn other_formats_are_reported() {
        assert_eq!(read(b""), [""; 0]);
        assert_eq!(read(b"\xEF\xBB\xBF\r\n \n"), [""; 0]);
        assert!(read(b"[{\"user\":1}]")[0].contains("jq"));
        assert!(read(b"\x1F\x8B\x08")[0].contains("gzip"));
        assert!(read(b"\xFF\xFEu\0")[0].contains("UTF-16"));
    }
}
