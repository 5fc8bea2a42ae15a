//! The fields of a report's question, from an address or the command line. A report declares each
//! field once as a [`Field`]; forms, options, the API and its description are generated from it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::NaiveDate;

use crate::calendar::{Calendar, Grain, WeekStart, Zone, parse_date};
use crate::sets::{EventName, Labels, Segment, SyntaxError, resolved};

/// One field of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name in addresses; on the command line it is `--name`.
    pub name: &'static str,
    /// A one-line description of at most 80 characters.
    pub help: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// How often it may be given.
    pub arity: Arity,
}

/// The type of a field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A segment, such as `signup & (web | ios)`.
    Segment,
    /// A set of users, such as `active@2026-11-23`.
    Set,
    /// Any text.
    Text,
    /// A date, such as `2026-11-23`.
    Date,
    /// A whole number, both ends included.
    Number(u32, u32),
    /// One of these words; the first is the default.
    Word(&'static [&'static str]),
}

impl Kind {
    /// Returns the words to choose from; none for other kinds.
    pub const fn words(self) -> &'static [&'static str] {
        match self {
            Kind::Word(words) => words,
            _ => &[],
        }
    }
}

/// The day on which weeks begin.
pub const WEEK: Field = Field {
    name: "week",
    help: "The day on which weeks begin",
    kind: Kind::Word(WeekStart::NAMES),
    arity: Arity::Optional,
};

/// The zone in which periods begin and end.
pub const ZONE: Field = Field {
    name: "zone",
    help: "The time zone in which periods begin and end, such as Europe/Berlin",
    kind: Kind::Text,
    arity: Arity::Optional,
};

/// How often a field may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly once. On the command line it is a positional argument.
    Required,
    /// Once or more. On the command line they are positional arguments.
    Several,
    /// At most once.
    Optional,
    /// Any number of times.
    Repeated,
}

/// The maximum length of a text that an error repeats, in characters.
const SHOWN: usize = 24;

/// The given values of a question's fields. Blank values count as missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    values: BTreeMap<&'static str, Vec<String>>,
    /// What is wrong with labels among them.
    problems: Vec<Problem>,
}

impl Params {
    /// Reads names and values; names that are not among `fields` are ignored.
    ///
    /// ```
    /// use cohortist::reports::{Arity, Field, Kind, Params};
    /// let last = Field { name: "last", help: "", kind: Kind::Number(1, 400), arity: Arity::Optional };
    /// let params = Params::read(&[last], [("last", " 7 "), ("last", ""), ("utm", "x")]);
    /// assert_eq!(params.all("last"), ["7"]);
    /// ```
    pub fn read<N: AsRef<str>, V: AsRef<str>>(
        fields: &[Field],
        given: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut params = Params::default();
        for (name, value) in given {
            let field = fields.iter().find(|field| field.name == name.as_ref());
            if let Some(field) = field {
                params.push(field.name, value.as_ref());
            }
        }
        params
    }

    /// Adds a value, unless it is blank.
    pub fn push(&mut self, name: &'static str, value: &str) {
        let value = value.trim();
        if !value.is_empty() {
            self.values.entry(name).or_default().push(value.to_owned());
        }
    }

    /// Replaces the labels of events by their names in every segment and set. An event that is called
    /// like a label is itself, as `is_event` says. A label of several events is a problem of its
    /// field.
    pub fn resolve(
        &mut self,
        fields: &[Field],
        labels: &Labels,
        is_event: &dyn Fn(&EventName) -> bool,
    ) {
        let named = |field: &&Field| matches!(field.kind, Kind::Segment | Kind::Set);
        for field in fields.iter().filter(named) {
            let values = self.values.get_mut(field.name).into_iter().flatten();
            for (index, value) in values.enumerate() {
                match resolved(value, labels, is_event) {
                    Ok(names) => *value = names,
                    Err(error) => self.problems.push(Problem {
                        index: field.arity.is_list().then_some(index),
                        ..Problem::new(field.name, error.to_string())
                    }),
                }
            }
        }
    }

    /// Sets the zone and the first day of weeks, where they are missing and among `fields`.
    pub fn default_calendar(&mut self, fields: &[Field], calendar: Calendar) {
        let defaults = [
            (ZONE.name, calendar.zone.name()),
            (WEEK.name, calendar.week.as_str()),
        ];
        for (name, default) in defaults {
            let is_field = fields.iter().any(|field| field.name == name);
            if is_field && self.text(name).is_empty() {
                self.set(name, default);
            }
        }
    }

    /// Replaces all values of a field. A blank value removes it.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.values.remove(name);
        self.push(name, value);
    }

    /// Swaps the values of two fields.
    pub fn swap(&mut self, a: &'static str, b: &'static str) {
        let of_a = self.values.remove(a);
        let of_b = self.values.remove(b);
        self.values.extend(of_b.map(|values| (a, values)));
        self.values.extend(of_a.map(|values| (b, values)));
    }

    /// Inserts values before the given ones.
    pub fn prepend(&mut self, name: &'static str, values: &[String]) {
        let given = self.values.remove(name).unwrap_or_default();
        let all: Vec<String> = values.iter().cloned().chain(given).collect();
        if !all.is_empty() {
            self.values.insert(name, all);
        }
    }

    /// Returns all values of a field in order.
    pub fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the last value of a field; empty if missing.
    pub fn text(&self, name: &str) -> &str {
        self.all(name).last().map_or("", String::as_str)
    }
}

/// A problem with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub field: &'static str,
    /// Which of its values, from 0, if it may be given repeatedly.
    pub index: Option<usize>,
    /// What is wrong, and a valid example.
    pub message: String,
    /// The position of the problem in a segment or set, in characters from 1.
    pub column: Option<usize>,
}

impl Problem {
    /// Returns a problem of a field that is given once.
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Problem {
            field,
            index: None,
            message: message.into(),
            column: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Reads the values of fields and collects all problems.
#[derive(Debug)]
pub struct Reader<'a> {
    params: &'a Params,
    problems: Vec<Problem>,
}

impl Arity {
    /// Whether at least one value is needed.
    pub fn is_required(self) -> bool {
        matches!(self, Arity::Required | Arity::Several)
    }

    /// Whether several values may be given.
    pub fn is_list(self) -> bool {
        matches!(self, Arity::Several | Arity::Repeated)
    }
}

impl<'a> Reader<'a> {
    /// Reads these values. Two different values for a field that may be given once are a problem.
    pub fn new(fields: &[Field], params: &'a Params) -> Self {
        let mut problems = params.problems.clone();
        for field in fields.iter().filter(|field| !field.arity.is_list()) {
            let values = params.all(field.name);
            if values.iter().any(|value| *value != values[0]) {
                let name = field.name;
                let filter = format!("{name}_and");
                let hint = if fields.iter().any(|other| other.name == filter) {
                    format!(": a second segment is a filter, {filter}")
                } else {
                    String::new()
                };
                let message = format!(
                    "`{name}` is given twice with different values{hint}; remove one of them"
                );
                problems.push(Problem::new(field.name, message));
            }
        }
        Reader { params, problems }
    }

    /// Adds a problem.
    pub fn reject(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Returns the text of a field; empty if missing.
    pub fn text(&self, name: &'static str) -> &'a str {
        self.params.text(name)
    }

    /// Returns all values of a field in order.
    pub fn all(&self, name: &'static str) -> &'a [String] {
        self.params.all(name)
    }

    /// The segment of a required field.
    pub fn segment(&mut self, name: &'static str) -> Option<Segment> {
        let text = self.params.text(name);
        if text.is_empty() {
            self.reject_missing(name);
            return None;
        }
        self.parse_segment(name, None, text)
    }

    fn reject_missing(&mut self, name: &'static str) {
        let message =
            "name an event, such as `signup`, or a segment, such as `active & (web | ios)`";
        self.reject(Problem::new(name, message));
    }

    /// The segments of a field that must be given once or more.
    pub fn several_segments(&mut self, name: &'static str) -> Vec<Segment> {
        if self.params.all(name).is_empty() {
            self.reject_missing(name);
        }
        self.segments(name)
    }

    /// The segments of a field that may be given repeatedly.
    pub fn segments(&mut self, name: &'static str) -> Vec<Segment> {
        let texts = self.params.all(name);
        let segments = texts.iter().enumerate();
        segments
            .filter_map(|(index, text)| self.parse_segment(name, Some(index), text))
            .collect()
    }

    fn parse_segment(
        &mut self,
        field: &'static str,
        index: Option<usize>,
        text: &str,
    ) -> Option<Segment> {
        let is_rejected = |problem: &Problem| problem.field == field && problem.index == index;
        if self.problems.iter().any(is_rejected) {
            return None;
        }
        let error: SyntaxError = match text.parse() {
            Ok(segment) => return Some(segment),
            Err(error) => error,
        };
        // The most frequent mistake: an event name that contains a space.
        let is_plain = text
            .chars()
            .all(|c| c.is_alphanumeric() || c.is_whitespace() || "_-.:".contains(c));
        let hint = if is_plain && text.contains(char::is_whitespace) {
            format!(". If that is one event's name, put it in quotes: \"{text}\"")
        } else {
            String::new()
        };
        self.reject(Problem {
            field,
            index,
            message: format!("column {}: {}{hint}", error.column, error.message),
            column: Some(error.column),
        });
        None
    }

    /// Returns one of the words of a field; its default if missing.
    pub fn word<T: FromStr<Err: fmt::Display> + Default>(&mut self, name: &'static str) -> T {
        self.parsed(name).unwrap_or_default()
    }

    /// Returns the value of a field. `None` if missing.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        let text = self.params.text(name);
        if text.is_empty() {
            return None;
        }
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.reject(Problem::new(name, error.to_string()));
                None
            }
        }
    }

    /// Returns a whole number from `least` to `most`. `None` if missing.
    pub fn number(&mut self, name: &'static str, least: u32, most: u32) -> Option<u32> {
        let text = self.params.text(name);
        if text.is_empty() {
            return None;
        }
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let shown: String = text.chars().take(SHOWN).collect();
            let message = format!("`{shown}` is not a whole number from {least} to {most}");
            self.reject(Problem::new(name, message));
        }
        number
    }

    /// Returns the length of a period. A week begins on the day that [`WEEK`] says.
    pub fn grain(&mut self, name: &'static str) -> Grain {
        let start = self.week_start();
        self.word::<Grain>(name).with_weeks(start)
    }

    /// Returns the day on which weeks begin.
    pub fn week_start(&mut self) -> WeekStart {
        self.word(WEEK.name)
    }

    /// Returns the zone in which periods begin and end.
    pub fn zone(&mut self) -> Zone {
        self.word(ZONE.name)
    }

    /// Returns by which zone and weeks numbers are counted.
    pub fn calendar(&mut self) -> Calendar {
        Calendar {
            zone: self.zone(),
            week: self.week_start(),
        }
    }

    /// Returns a date. `None` if missing.
    pub fn date(&mut self, name: &'static str) -> Option<NaiveDate> {
        let text = self.params.text(name);
        if text.is_empty() {
            return None;
        }
        match parse_date(text) {
            Ok(date) => Some(date),
            Err(error) => {
                self.reject(Problem::new(name, error.to_string()));
                None
            }
        }
    }

    /// The value, if nothing was wrong.
    ///
    /// # Errors
    /// All problems.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.problems),
        }
    }
}
