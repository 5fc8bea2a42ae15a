//! A TOML text walked with the place of everything in it: what is wrong is noted with its line and
//! its whole key, in plain words, and the walk goes on.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use crate::render::words;

/// How much of a key is told, in characters: a text that is no TOML may seem to have keys of any
/// length.
const MAX_KEY: usize = 120;

/// What is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlError {
    /// Counted from 1.
    pub line: usize,
    /// `segments.mobile`
    pub key: String,
    pub message: String,
}

impl TomlError {
    pub fn told(&self, file: &str) -> String {
        let key = if self.key.is_empty() {
            String::new()
        } else {
            format!(" `{}`:", words::shortened(&self.key, MAX_KEY))
        };
        format!("{file}, line {}:{key} {}", self.line, self.message)
    }
}

/// A key with its value.
#[derive(Clone, Copy)]
pub struct Entry<'t> {
    pub name: &'t str,
    at: usize,
    value: &'t Spanned<DeValue<'t>>,
}

/// A text, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    pub text: String,
    pub at: usize,
}

/// A table being read: what is taken out of it is known, what is left at its end is not.
pub struct Table<'t> {
    /// Its key; empty for the whole file.
    pub key: String,
    pub at: usize,
    entries: Vec<Entry<'t>>,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    pub fn new(key: impl Into<String>, at: usize, table: &'t DeTable<'t>) -> Self {
        let entry = |(name, value): (&'t Spanned<_>, _)| Entry {
            name: AsRef::as_ref(name.get_ref()),
            at: name.span().start,
            value,
        };
        let mut entries: Vec<Entry<'t>> = table.iter().map(entry).collect();
        // The reader sorts keys; the file's order says which store comes first.
        entries.sort_by_key(|entry| entry.at);
        Table {
            key: key.into(),
            at,
            entries,
            known: Vec::new(),
        }
    }

    /// The entry of a name, taken out.
    pub fn take(&mut self, name: &'static str) -> Option<Entry<'t>> {
        self.known.push(name);
        let found = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.remove(found))
    }

    /// All entries with their whole keys, in the order of the file.
    pub fn keyed(self) -> Vec<(String, Entry<'t>)> {
        self.entries
            .iter()
            .map(|entry| (self.inside(entry.name), *entry))
            .collect()
    }

    /// The whole key of something in it.
    pub fn inside(&self, name: &str) -> String {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = if !name.is_empty() && name.chars().all(bare) {
            name.to_owned()
        } else {
            format!("{name:?}")
        };
        if self.key.is_empty() {
            name
        } else {
            format!("{}.{name}", self.key)
        }
    }
}

impl<'t> Entry<'t> {
    /// Where its key stands.
    pub fn at(self) -> usize {
        self.at
    }

    /// Whether it is a text.
    pub fn is_text(self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }
}

/// The most mistakes of one file that are told: more of them mean that it is no configuration file.
pub const MAX_TOLD: usize = 20;

/// Where the lines of a text start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes());
        Lines([0].into_iter().chain(ends.map(|end| end + 1)).collect())
    }

    /// The line of a place in the text, counted from 1.
    fn line_of(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }
}

/// A file being read.
pub struct SpannedToml<'a> {
    text: &'a str,
    lines: Lines,
    pub faults: Vec<TomlError>,
    /// The lines of which nothing else can be said.
    pub unreadable: BTreeSet<usize>,
    /// Whether a part of it is no TOML, so that what seems to be missing may stand there.
    pub broken: bool,
}

impl<'a> SpannedToml<'a> {
    /// Notes what the reader of TOML could not read. Its own report would show the line, and with
    /// it perhaps a password.
    pub fn begin(text: &'a str, errors: &[Error]) -> Self {
        let mut reading = SpannedToml {
            text,
            lines: Lines::of(text),
            faults: Vec::new(),
            unreadable: BTreeSet::new(),
            broken: false,
        };
        let span = |error: &Error| error.span().unwrap_or(0..0);
        let mut errors: Vec<&Error> = errors.iter().collect();
        errors.sort_by_key(|error| span(error).start);
        for error in errors {
            let span = span(error);
            if !reading.unreadable.insert(reading.line_of(span.start)) {
                continue;
            }
            // Finding the key may take reading the whole text, and no more of them are told.
            let key = if reading.faults.len() < MAX_TOLD {
                key_at(reading.text, &span)
            } else {
                String::new()
            };
            let message = error.message().lines().next().unwrap_or_default();
            // What the reader expected instead is written for those who write readers.
            let message = message.split(", expected ").next().unwrap_or_default();
            let twice = message.starts_with("duplicate key");
            reading.broken |= !twice;
            let message = if twice {
                "this is written twice: keep one of the two".to_owned()
            } else {
                format!("this cannot be read: {message}")
            };
            reading.fault(span.start, key, message);
        }
        reading
    }

    /// The line of a place in the text, counted from 1.
    pub fn line_of(&self, at: usize) -> usize {
        self.lines.line_of(at)
    }

    pub fn fault(&mut self, at: usize, key: impl Into<String>, message: impl Into<String>) {
        self.faults.push(TomlError {
            line: self.line_of(at),
            key: key.into(),
            message: message.into(),
        });
    }

    fn wrong_kind(&mut self, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault(
            value.span().start,
            key,
            format!("write {wanted}; this is {found}"),
        );
    }

    pub fn words(&mut self, key: &str, entry: Entry<'_>) -> Option<Words> {
        self.words_of(key, entry.value, "text in quotes")
    }

    fn words_of(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<Words> {
        match value.get_ref() {
            DeValue::String(text) => Some(Words {
                text: text.to_string(),
                at: value.span().start,
            }),
            _ => {
                self.wrong_kind(value, key, wanted);
                None
            }
        }
    }

    pub fn flag(&mut self, key: &str, entry: Entry<'_>) -> Option<bool> {
        match entry.value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong_kind(entry.value, key, "true or false, without quotes");
                None
            }
        }
    }

    /// A whole number, as it is written.
    pub fn number(&mut self, key: &str, entry: Entry<'_>) -> Option<Words> {
        match entry.value.get_ref() {
            DeValue::Integer(number) => Some(Words {
                text: number.to_string(),
                at: entry.value.span().start,
            }),
            _ => {
                self.wrong_kind(entry.value, key, "a whole number, without quotes");
                None
            }
        }
    }

    /// A date, with or without quotes.
    pub fn date(&mut self, key: &str, entry: Entry<'_>) -> Option<Words> {
        match entry.value.get_ref() {
            DeValue::Datetime(date) => Some(Words {
                text: date.to_string(),
                at: entry.value.span().start,
            }),
            _ => self.words_of(key, entry.value, "a date, such as 2026-11-23"),
        }
    }

    /// A span, such as `30d`.
    pub fn span(&mut self, key: &str, entry: Entry<'_>) -> Option<Words> {
        self.words_of(key, entry.value, "a span in quotes, such as \"30d\"")
    }

    /// A time of day, with or without quotes.
    pub fn time(&mut self, key: &str, entry: Entry<'_>) -> Option<Words> {
        match entry.value.get_ref() {
            DeValue::Datetime(time) => Some(Words {
                text: time.to_string(),
                at: entry.value.span().start,
            }),
            _ => self.words_of(
                key,
                entry.value,
                "a time of day in quotes, such as \"03:00\"",
            ),
        }
    }

    /// A list of texts; each that is none is told.
    pub fn list(&mut self, key: &str, entry: Entry<'_>) -> Option<Vec<Words>> {
        let DeValue::Array(list) = entry.value.get_ref() else {
            self.wrong_kind(entry.value, key, "a list of texts, such as [\"a\", \"b\"]");
            return None;
        };
        Some(
            list.iter()
                .filter_map(|item| {
                    self.words_of(key, item, "each part of the list as text in quotes")
                })
                .collect(),
        )
    }

    pub fn table<'t>(&mut self, key: &str, entry: Entry<'t>, wanted: &str) -> Option<Table<'t>> {
        match entry.value.get_ref() {
            DeValue::Table(table) => Some(Table::new(key, entry.at, table)),
            _ => {
                self.wrong_kind(entry.value, key, wanted);
                None
            }
        }
    }

    /// Tells what of a table nobody has taken.
    pub fn end(&mut self, table: Table<'_>) {
        for entry in &table.entries {
            let near = |known: &&&str| strsim::jaro_winkler(entry.name, known) > 0.82;
            let mean = match table.known.iter().find(near) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("there are {}", table.known.join(", ")),
            };
            self.fault(
                entry.at,
                table.inside(entry.name),
                format!("there is no such setting; {mean}"),
            );
        }
    }
}

/// The key whose line this is, with that of the table it stands in, as far as a text that is no
/// TOML tells.
fn key_at(text: &str, at: &Range<usize>) -> String {
    let start = text
        .get(..at.start)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |before| before + 1);
    let line = text
        .get(start..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default();
    let header = |line: &str| {
        let inside = line.trim().strip_prefix('[')?.trim_start_matches('[');
        Some(
            inside
                .split(']')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned(),
        )
    };
    if let Some(table) = header(line) {
        return table;
    }
    let table = text
        .get(..start)
        .unwrap_or_default()
        .lines()
        .rev()
        .find_map(header);
    let mut parts: Vec<String> = table.into_iter().collect();
    let equals = line.find('=').unwrap_or(line.len());
    parts.extend(
        Some(line[..equals].trim().to_owned()).filter(|key| !key.is_empty() && equals < line.len()),
    );
    // A key inside `{ … }`.
    if at.start > start + equals {
        let word = text.get(at.clone()).unwrap_or_default();
        let bare = !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let followed = text
            .get(at.end..)
            .is_some_and(|rest| rest.trim_start_matches(' ').starts_with('='));
        parts.extend(Some(word.to_owned()).filter(|_| bare && followed));
    }
    parts.join(".")
}
