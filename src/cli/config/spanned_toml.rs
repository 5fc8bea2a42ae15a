//! Reads TOML with the position of every part. Mistakes are collected with line and key, and
//! reading continues after each.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use crate::render::words;

/// The most mistakes of one file that are reported. With more, it is probably not a configuration
/// file.
pub const MAX_REPORTED: usize = 20;

/// The longest key in an error, in characters. In a text that is not TOML, keys may seem to have any
/// length.
const MAX_KEY: usize = 120;

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlError {
    /// The line, counted from 1.
    pub line: usize,
    /// The full key, such as `segments.mobile`, or empty.
    pub key: String,
    pub message: String,
}

impl TomlError {
    /// The error with its place in `file`, for people.
    pub fn in_file(&self, file: &str) -> String {
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

/// A value as text, with its byte offset in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub at: usize,
}

/// A table being read. Entries are taken out one by one, and those that remain are unknown.
pub struct Table<'t> {
    /// The full key, empty for the whole file.
    pub key: String,
    /// The byte offset of the key.
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
        // The parser sorts keys, but the first store in the file is the default one.
        entries.sort_by_key(|entry| entry.at);
        Table {
            key: key.into(),
            at,
            entries,
            known: Vec::new(),
        }
    }

    /// Takes out the entry of a name.
    pub fn take(&mut self, name: &'static str) -> Option<Entry<'t>> {
        self.known.push(name);
        let found = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.remove(found))
    }

    /// All entries with their full keys, in the order of the file.
    pub fn into_entries(self) -> Vec<(String, Entry<'t>)> {
        self.entries
            .iter()
            .map(|entry| (self.key_of(entry.name), *entry))
            .collect()
    }

    /// The full key of an entry.
    pub fn key_of(&self, name: &str) -> String {
        let name = if !name.is_empty() && name.chars().all(is_bare) {
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
    /// The byte offset of its key.
    pub fn at(self) -> usize {
        self.at
    }

    pub fn is_text(self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }
}

/// The byte offsets at which the lines of a text start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes());
        Lines([0].into_iter().chain(ends.map(|end| end + 1)).collect())
    }

    /// The line of a byte offset, counted from 1.
    fn line_of(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }
}

/// A file being read.
pub struct SpannedToml {
    lines: Lines,
    pub errors: Vec<TomlError>,
    /// The lines that are invalid TOML.
    pub invalid_lines: BTreeSet<usize>,
    /// Whether a part of the file is invalid TOML. It may contain what seems to be missing.
    pub has_syntax_errors: bool,
}

impl SpannedToml {
    /// Collects the errors of the parser. Its own report would print the line, which may contain a
    /// password.
    pub fn new(text: &str, errors: &[Error]) -> Self {
        let mut toml = SpannedToml {
            lines: Lines::of(text),
            errors: Vec::new(),
            invalid_lines: BTreeSet::new(),
            has_syntax_errors: !errors.is_empty(),
        };
        let span = |error: &Error| error.span().unwrap_or(0..0);
        let mut errors: Vec<&Error> = errors.iter().collect();
        errors.sort_by_key(|error| span(error).start);
        for error in errors {
            let span = span(error);
            // Errors after the first one of a line are often its consequences.
            if !toml.invalid_lines.insert(toml.line_of(span.start)) {
                continue;
            }
            // The rest names the tokens that the parser expected.
            let message = error.message().lines().next().unwrap_or_default();
            let message = message
                .split_once(", expected ")
                .map_or(message, |(what, _)| what);
            // Finding a key may read the whole text. Further errors are not printed.
            let key = if toml.errors.len() < MAX_REPORTED {
                key_at(text, &span)
            } else {
                String::new()
            };
            toml.error(span.start, key, format!("invalid TOML: {message}"));
        }
        toml
    }

    /// The line of a byte offset, counted from 1.
    pub fn line_of(&self, at: usize) -> usize {
        self.lines.line_of(at)
    }

    pub fn error(&mut self, at: usize, key: impl Into<String>, message: impl Into<String>) {
        self.errors.push(TomlError {
            line: self.line_of(at),
            key: key.into(),
            message: message.into(),
        });
    }

    /// Reports a value of the wrong type. `rule` says what it must be.
    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, key: &str, rule: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a decimal point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(value.span().start, key, format!("{rule}, not {found}"));
    }

    pub fn text(&mut self, key: &str, entry: Entry<'_>) -> Option<Text> {
        self.text_or(key, entry.value, "must be text in quotes")
    }

    fn text_or(&mut self, key: &str, value: &Spanned<DeValue<'_>>, rule: &str) -> Option<Text> {
        match value.get_ref() {
            DeValue::String(text) => Some(Text {
                text: text.to_string(),
                at: value.span().start,
            }),
            _ => {
                self.wrong_type(value, key, rule);
                None
            }
        }
    }

    pub fn flag(&mut self, key: &str, entry: Entry<'_>) -> Option<bool> {
        match entry.value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong_type(entry.value, key, "must be true or false without quotes");
                None
            }
        }
    }

    /// A whole number, as it is written.
    pub fn number(&mut self, key: &str, entry: Entry<'_>) -> Option<Text> {
        match entry.value.get_ref() {
            DeValue::Integer(number) => Some(Text {
                text: number.to_string(),
                at: entry.value.span().start,
            }),
            _ => {
                self.wrong_type(entry.value, key, "must be a whole number without quotes");
                None
            }
        }
    }

    /// A date, with or without quotes.
    pub fn date(&mut self, key: &str, entry: Entry<'_>) -> Option<Text> {
        self.datetime_or(key, entry, "must be a date, such as 2026-11-23")
    }

    /// A span, such as `30d`.
    pub fn span(&mut self, key: &str, entry: Entry<'_>) -> Option<Text> {
        let rule = "must be a span in quotes, such as \"30d\"";
        self.text_or(key, entry.value, rule)
    }

    /// A time of day, with or without quotes.
    pub fn time(&mut self, key: &str, entry: Entry<'_>) -> Option<Text> {
        let rule = "must be a time of day in quotes, such as \"03:00\"";
        self.datetime_or(key, entry, rule)
    }

    fn datetime_or(&mut self, key: &str, entry: Entry<'_>, rule: &str) -> Option<Text> {
        match entry.value.get_ref() {
            DeValue::Datetime(datetime) => Some(Text {
                text: datetime.to_string(),
                at: entry.value.span().start,
            }),
            _ => self.text_or(key, entry.value, rule),
        }
    }

    /// A list of texts. Reports items that are something else, and leaves them out.
    pub fn list(&mut self, key: &str, entry: Entry<'_>) -> Option<Vec<Text>> {
        let DeValue::Array(list) = entry.value.get_ref() else {
            let rule = "must be a list of texts, such as [\"a\", \"b\"]";
            self.wrong_type(entry.value, key, rule);
            return None;
        };
        let rule = "each item must be text in quotes";
        Some(
            list.iter()
                .filter_map(|item| self.text_or(key, item, rule))
                .collect(),
        )
    }

    pub fn table<'t>(&mut self, key: &str, entry: Entry<'t>, rule: &str) -> Option<Table<'t>> {
        match entry.value.get_ref() {
            DeValue::Table(table) => Some(Table::new(key, entry.at, table)),
            _ => {
                self.wrong_type(entry.value, key, rule);
                None
            }
        }
    }

    /// Reports the entries of a table that were not taken out.
    pub fn finish(&mut self, table: Table<'_>) {
        for entry in &table.entries {
            let is_similar = |known: &&&str| strsim::jaro_winkler(entry.name, known) > 0.82;
            let hint = match table.known.iter().find(is_similar) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("the settings are {}", table.known.join(", ")),
            };
            self.error(
                entry.at,
                table.key_of(entry.name),
                format!("unknown setting; {hint}"),
            );
        }
    }
}

/// Whether a character needs no quotes in a key.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// The full key that a span belongs to, as far as it can be told in invalid TOML: by the line and
/// the last table header before it. Empty if the span does not fit the text.
fn key_at(text: &str, span: &Range<usize>) -> String {
    let (Some(before), Some(word), Some(after)) = (
        text.get(..span.start),
        text.get(span.clone()),
        text.get(span.end..),
    ) else {
        return String::new();
    };
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    if let Some(table) = table_header(line) {
        return table;
    }
    let table = text[..start].lines().rev().find_map(table_header);
    let mut parts: Vec<String> = table.into_iter().collect();
    if let Some(equals) = line.find('=') {
        let key = line[..equals].trim();
        if !key.is_empty() {
            parts.push(key.to_owned());
        }
        // A key inside `{ … }`.
        let is_key = !word.is_empty()
            && word.chars().all(is_bare)
            && after.trim_start_matches(' ').starts_with('=');
        if is_key && span.start > start + equals {
            parts.push(word.to_owned());
        }
    }
    parts.join(".")
}

/// The key in a line such as `[stores]` or `[[stores]]`.
fn table_header(line: &str) -> Option<String> {
    let inside = line.trim().strip_prefix('[')?.trim_start_matches('[');
    let key = inside.split_once(']').map_or(inside, |(key, _)| key);
    Some(key.trim().to_owned())
}
