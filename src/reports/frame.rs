//! Answers as typed tables, the source of every file format.

use serde_json::{Map, Value as Json};

use crate::calendar::Period;
use crate::reports::coverage::State;

/// A table of typed values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// The names of the columns.
    pub columns: Vec<Column>,
    /// The rows, each with a value for every column.
    pub rows: Vec<Vec<Value>>,
}

/// The name of a column of a [`Frame`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// A fixed word, with `_` between its parts.
    Word(&'static str),
    /// A text that depends on the question or comes from outside, such as a segment.
    Text(String),
}

impl Column {
    /// The name as files have it.
    pub fn name(&self) -> &str {
        match self {
            Column::Word(word) => word,
            Column::Text(text) => text,
        }
    }
}

impl From<&'static str> for Column {
    fn from(word: &'static str) -> Self {
        Column::Word(word)
    }
}

/// One value of a [`Frame`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value: future, not recorded, or undefined.
    Empty,
    /// A number of users.
    Count(u64),
    /// A number of users that pages link to its users.
    People(People),
    /// A gain or a loss.
    Difference(i64),
    /// An unrounded number, such as a rate from 0 to 1.
    Number(f64),
    /// A share from 0 to 1 for people: in percent with two decimals and no percent sign.
    Share(f64),
    /// A text from outside, such as an event's name. Spreadsheet files escape it.
    Text(String),
    /// A date, a period, or a fixed word.
    Word(String),
}

/// A number of users, its state, and its users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct People {
    /// The number.
    pub count: u64,
    /// Whether it is final. For people, numbers in progress and lower bounds are marked.
    pub state: State,
    /// The text of the set of these users. `None` if it would be too long.
    pub set: Option<String>,
}

impl Value {
    /// Returns a fixed word.
    pub fn word(word: &str) -> Self {
        Value::Word(word.to_owned())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Empty, Into::into)
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Value::Count(count)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

impl From<People> for Value {
    fn from(people: People) -> Self {
        Value::People(people)
    }
}

impl Frame {
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item = impl Into<Column>>) -> Self {
        Frame {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it does not have a value for every column.
    pub fn push(&mut self, row: Vec<Value>) {
        assert_eq!(row.len(), self.columns.len(), "a row fills every column");
        self.rows.push(row);
    }

    /// The rows as a list of JSON objects.
    pub fn to_json(&self) -> Json {
        let object = |row: &Vec<Value>| {
            let values = self.columns.iter().zip(row);
            let members = values.map(|(name, value)| (name.name().to_owned(), value.to_json()));
            Json::Object(members.collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }
}

impl Value {
    fn to_json(&self) -> Json {
        match self {
            Value::Empty => Json::Null,
            Value::Count(count) | Value::People(People { count, .. }) => (*count).into(),
            Value::Difference(difference) => (*difference).into(),
            Value::Number(number) | Value::Share(number) => (*number).into(),
            Value::Text(text) | Value::Word(text) => text.clone().into(),
        }
    }
}

/// Returns start and exclusive end of a period as [ISO dates](Period::iso_bounds).
pub fn bounds(period: Period) -> [Value; 2] {
    period.iso_bounds().map(Value::Word)
}
