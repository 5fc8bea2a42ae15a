//! Reads the rows of a file, line by line.

use std::io::{self, BufRead, Read};

use serde_json::{Map, Value};

use crate::ingest::field::{excerpt, moment, unix_moment};
use crate::ingest::json::{self, Scalar, Wanted};
use crate::ingest::layout::{Columns, EventFrom, Field, Format, Layout, delimiter};
use crate::ingest::lines::{Fields, Found, LONGEST, Lines, Record};
use crate::ingest::names::Names;
use crate::ingest::position::Position;
use crate::sets::UserId;

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

/// Why a row cannot be read.
#[derive(Debug)]
pub enum Problem {
    /// A line is not valid. Later lines may be.
    Line {
        /// The number of the line, counted from 1.
        line: u64,
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
            Problem::Line { line, reason } => write!(f, "line {line}: {reason}"),
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
    /// The undated events of the last row.
    properties: Vec<u32>,
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
        picker: Picker,
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
        let fixed = fixed(columns, names);
        let records = |source, layout| {
            Ok(Records {
                source,
                layout,
                fixed,
                properties: Vec::new(),
            })
        };
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
            Format::Ndjson if first == b'[' => Err(Problem::File(
                "this is one JSON array; write one object a line instead, such as with `jq -c '.[]'`".to_owned(),
            )),
            Format::Ndjson => {
                let object: Option<Map<String, Value>> = serde_json::from_slice(&start).ok();
                let layout = Layout::of_object(object.as_ref(), columns);
                records(Source::ndjson(start, reader, &layout, base), layout)
            }
            Format::Csv => {
                let delimiter = delimiter(&start);
                let mut lines = Lines::new(start, reader, base);
                let mut fields = Fields::default();
                let record = lines.record(delimiter, usize::MAX, &mut fields).map_err(Problem::Read)?;
                let Some((Found::Whole(record), _)) = record else {
                    return Err(Problem::File(format!("the first line {}", too_long())));
                };
                let names = record.iter();
                let header: Vec<String> = names.map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
                let layout = Layout::of_header(&header, delimiter, columns).map_err(Problem::File)?;
                records(Source::Csv { lines, fields, max_fields: layout.columns() }, layout)
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
        };
        Records {
            source,
            layout: layout.clone(),
            fixed: fixed(columns, names),
            properties: Vec::new(),
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
            Source::End(at) => *at,
        }
    }

    /// Returns the numbers of the undated events of the last row in [`Names`].
    pub fn properties(&self) -> &[u32] {
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
        } = self;
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
                    let row = from_record(&record, layout, *fixed, names, properties);
                    let last = lines.position().line;
                    return Some(
                        row.map_err(|reason| invalid_record(line, last, is_multiline, reason)),
                    );
                }
                Ok(Some((found, line))) => {
                    let hint = match found {
                        Found::LongRecord => ", read on from the next line: is a quote left open?",
                        _ => "",
                    };
                    return Some(Err(Problem::Line {
                        line,
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
                        let row = match picker.read(line, layout, *fixed, names, properties) {
                            Some(row) => Ok(row),
                            None => from_object(line, layout, *fixed, names, properties),
                        };
                        return Some(row.map_err(|reason| Problem::Line {
                            line: number,
                            reason,
                        }));
                    }
                    Ok(Some(_)) => {
                        return Some(Err(Problem::Line {
                            line: number,
                            reason: format!("the line {}", too_long()),
                        }));
                    }
                    Err(error) => break error,
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
    let kinds: [(&[u8], &str); 7] = [
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
            "this is a ZIP archive: unpack it and import the files in it",
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

fn invalid_record(line: u64, last: u64, is_multiline: bool, mut reason: String) -> Problem {
    if is_multiline {
        reason += &format!(" (the record runs on to line {last}: is a quote left open?)");
    }
    Problem::Line { line, reason }
}

/// Reads the row in a record of a CSV file.
fn from_record(
    record: &Record<'_>,
    layout: &Layout,
    fixed: Option<u32>,
    names: &mut Names,
    properties: &mut Vec<u32>,
) -> Result<Row, String> {
    let field = |index: usize, name: &str| {
        record.get(index).ok_or_else(|| {
            format!(
                "the line has {} fields, and `{name}` would be number {}",
                record.len(),
                index + 1
            )
        })
    };
    let user = names.user(field(layout.user.place, &layout.user.name)?)?;
    let at = moment(field(layout.time.place, &layout.time.name)?, layout.unix)?;
    let event = match (fixed, &layout.event) {
        (Some(event), _) => event,
        (None, Some(column)) => {
            let name = field(column.place, &column.name)?;
            names.event(name.strip_suffix(b"\r").unwrap_or(name))?
        }
        // Only possible if an import is resumed with other columns.
        (None, None) => return Err("there is no event".to_owned()),
    };
    for (property, columns) in layout.properties.iter().enumerate() {
        let values = columns
            .iter()
            .filter_map(|column| record.get(column.place))
            .map(<[u8]>::trim_ascii);
        let value = values
            .into_iter()
            .find(|value| !value.is_empty())
            .unwrap_or_default();
        properties.extend(names.property(property, value));
    }
    Ok(Row { event, user, at })
}

/// Reads the rows of common JSON objects quickly. Other objects are left to [`from_object`].
struct Picker {
    wanted: Wanted,
    /// The number of values to read.
    len: usize,
    /// The indexes of the values.
    user: usize,
    time: usize,
    event: Option<usize>,
    properties: Vec<Vec<usize>>,
}

impl Picker {
    fn new(layout: &Layout) -> Self {
        let fields = [&layout.user, &layout.time]
            .into_iter()
            .chain(&layout.event);
        let (wanted, indexes) = Wanted::of(fields.chain(layout.properties.iter().flatten()));
        let mut remaining = indexes.iter().copied();
        let mut next = || remaining.next().expect("each field has an index");
        let user = next();
        let time = next();
        let event = layout.event.as_ref().map(|_| next());
        let properties = layout
            .properties
            .iter()
            .map(|fields| fields.iter().map(|_| next()).collect())
            .collect();
        Picker {
            len: indexes.iter().max().expect("there is a user") + 1,
            wanted,
            user,
            time,
            event,
            properties,
        }
    }

    /// Returns the row of an object, or `None` if [`from_object`] must read it.
    fn read(
        &self,
        line: &[u8],
        layout: &Layout,
        fixed: Option<u32>,
        names: &mut Names,
        properties: &mut Vec<u32>,
    ) -> Option<Row> {
        let found = self.wanted.pick(line, self.len)?;
        let user = match &found[self.user] {
            Scalar::Whole(number) => names.user(number.to_string().as_bytes()).ok()?,
            Scalar::Text(text) => names.user(text.as_bytes()).ok()?,
            _ => return None,
        };
        let at = match &found[self.time] {
            Scalar::Whole(number) => unix_moment(*number, layout.unix)?,
            Scalar::Text(text) => moment(text.as_bytes(), layout.unix).ok()?,
            _ => return None,
        };
        let event = match (fixed, self.event.map(|index| &found[index])) {
            (Some(event), _) => event,
            (None, Some(Scalar::Text(name))) => names.event(name.as_bytes()).ok()?,
            _ => return None,
        };
        let first = |indexes: &[usize]| {
            let mut values = indexes.iter().map(|index| &found[*index]);
            values.find(|value| !matches!(value, Scalar::Missing | Scalar::Null))
        };
        // Only the parsed object has the text of such a number.
        if self
            .properties
            .iter()
            .any(|indexes| first(indexes) == Some(&Scalar::Number))
        {
            return None;
        }
        for (property, indexes) in self.properties.iter().enumerate() {
            match first(indexes) {
                Some(Scalar::Text(text)) => {
                    properties.extend(names.property(property, text.as_bytes()))
                }
                Some(Scalar::Whole(number)) => {
                    properties.extend(names.property(property, number.to_string().as_bytes()));
                }
                Some(Scalar::Bool(value)) => {
                    properties.extend(names.property(property, value.to_string().as_bytes()))
                }
                Some(_) => names.unusable(property),
                None => {}
            }
        }
        Some(Row { event, user, at })
    }
}

/// Reads the row of any JSON object.
///
/// # Errors
/// Returns what is wrong with the line.
fn from_object(
    line: &[u8],
    layout: &Layout,
    fixed: Option<u32>,
    names: &mut Names,
    properties: &mut Vec<u32>,
) -> Result<Row, String> {
    let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text);
        match error.column() {
            0 => format!("not a JSON object: {what}"),
            column => format!("not a JSON object: {what} (column {column})"),
        }
    })?;
    let text = |field: &Field, flag: &str| match json::field(&object, field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(format!(
            "`{}` is {}, not a text or number",
            field.name,
            kind(other)
        )),
        None => {
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
            Err(format!(
                "there is no field `{}` (there are: {found}); say which with {flag}",
                excerpt(field.name.as_bytes())
            ))
        }
    };
    let user = names.user(text(&layout.user, "--user-column NAME")?.as_bytes())?;
    let at = moment(
        text(&layout.time, "--time-column NAME")?.as_bytes(),
        layout.unix,
    )?;
    let event = match (fixed, &layout.event) {
        (Some(event), _) => event,
        (None, Some(field)) => {
            names.event(text(field, "--event-column NAME or --event NAME")?.as_bytes())?
        }
        // Only possible if an import is resumed with other columns.
        (None, None) => return Err("there is no event".to_owned()),
    };
    for (property, fields) in layout.properties.iter().enumerate() {
        let mut values = fields
            .iter()
            .filter_map(|field| json::field(&object, field));
        match values.find(|value| !value.is_null()) {
            Some(Value::String(text)) => {
                properties.extend(names.property(property, text.as_bytes()))
            }
            Some(Value::Array(_) | Value::Object(_)) => names.unusable(property),
            Some(value) => {
                properties.extend(names.property(property, value.to_string().as_bytes()))
            }
            None => {}
        }
    }
    Ok(Row { event, user, at })
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
                Err(Problem::Line { line, reason }) => format!("line {line}: {reason}"),
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
                "line 5: `never` is not a time: 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00Z or Unix seconds",
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
        line 3: `4294967296` is not a valid user id: this store uses numeric ids from 0 to 4294967295
        line 4: `abc` is not a valid user id: this store uses numeric ids from 0 to 4294967295 (for string ids, create a store with --ids map)
        line 5: `1.5` is not a valid user id: this store uses numeric ids from 0 to 4294967295
        line 6: `` is not a valid user id: this store uses numeric ids from 0 to 4294967295
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
        insta::assert_snapshot!(read(b"id,event,timestamp\n1,a,2026-11-23\n").join("\n"), @r"there is no column `user`; the first line names `id`, `event`, `timestamp`. Say which one holds the user id with --user-column NAME");
        insta::assert_snapshot!(read(b"user,what,timestamp\n").join("\n"), @r"there is no column `event`; the first line names `user`, `what`, `timestamp`. Say which one holds the event's name with --event-column NAME, or give all lines the same event with --event NAME");
    }

    #[test]
    fn ndjson() {
        let text = b"{\"user\":1,\"event\":\"a\",\"timestamp\":\"2026-11-23T14:00:00+01:00\"}\r\n\n{\"user\":\"2\",\"event\":\"a\",\"timestamp\":1795442400.5}\n{\"user\":1.5,\"event\":\"a\",\"timestamp\":0}\n{\"user\":null,\"event\":\"a\",\"timestamp\":0}\n{\"uid\":3}\nnonsense\n{\"user\":3,\"event\":\"\xff\",\"timestamp\":0}\n[1]\n";
        insta::assert_snapshot!(read(text).join("\n"), @r"
        a 1 2026-11-23T13:00:00
        a 2 2026-11-23T14:00:00
        line 4: `1.5` is not a valid user id: this store uses numeric ids from 0 to 4294967295
        line 5: `user` is null, not a text or number
        line 6: there is no field `user` (there are: `uid`); say which with --user-column NAME
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
